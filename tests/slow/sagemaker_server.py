"""A loopback SageMaker: the wire protocol of training jobs, and containers that really run, as processes.

Each instance is a folder like /opt/ml and a process of the job's entry point, which knows nothing of the one who
submitted it but the request. S3 and CloudWatch are moto's. It models the states of a job, the channel's download, the
checkpoint folder's restoring and keeping, SIGTERM and SIGKILL, spot interruptions with a restart on a new disk,
MaxRuntime, stops, lacking capacity, limits and names in use. `speed` makes its clock, and so the bill, run faster.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ROLE_KEYS = {"AWS_ACCESS_KEY_ID": "role-key", "AWS_SECRET_ACCESS_KEY": "role-secret-of-the-job"}
_TICK_S = 0.1
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


class ApiError(Exception):
    """An answer of the service's: code and message."""


class Instance:
    """A machine of a job: its folder and its container."""

    def __init__(
        self, root: Path, number: int, count: int, *, job: str, request: dict[str, Any], endpoint: str
    ) -> None:
        self.base, self.number = root / f"algo-{number}", number
        for name in ("input/config", "input/data", "model", "output", "checkpoints"):
            (self.base / name).mkdir(parents=True)
        hosts = [f"127.0.0.{host}" for host in range(1, count + 1)]
        resources = {"current_host": hosts[number - 1], "hosts": hosts, "network_interface_name": "lo"}
        (self.base / "input/config/resourceconfig.json").write_text(json.dumps(resources))
        self.stream = f"{job}/algo-{number}-{time.time_ns()}"
        self.request, self.endpoint = request, endpoint
        self.process: subprocess.Popen[bytes] | None = None
        self.lines: list[str] = []

    def start(self) -> None:
        """Runs the entry point; /opt/ml stands for this instance's folder."""
        entry = self.request["AlgorithmSpecification"]["ContainerEntrypoint"]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.base),
            "SAGEMAKER_BASE_DIR": str(self.base),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "MIRAS_LOG_EVERY_S": "0",
            **ROLE_KEYS,
            **self.request["Environment"],
        }
        self.process = subprocess.Popen(
            [part.replace("/opt/ml", str(self.base)) for part in entry],
            cwd=self.base,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))

    def kill(self) -> None:
        """With everything that it has started."""
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.process.wait()


class SageMakerServer:
    """Serves until `close`; every job's request is kept in `requests`."""

    def __init__(self, root: Path, endpoint: str, *, grace_s: float = 60.0, speed: float = 1.0) -> None:
        """`endpoint`: of moto; `grace_s`: between SIGTERM and SIGKILL."""
        self.root, self.endpoint, self.grace_s, self.speed = root, endpoint, grace_s, speed
        self.jobs: dict[str, dict[str, Any]] = {}
        self.instances: dict[str, list[Instance]] = {}
        self.requests: list[dict[str, Any]] = []
        self.without_capacity: set[str] = set()
        self.over_limit: set[str] = set()
        self.enforces_run_time = True
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._uploaded: dict[Path, int] = {}
        self._began = time.time()
        self._interrupted: dict[str, int] = {}
        self._lock = threading.Lock()
        keys = {"region_name": "us-east-1", "aws_access_key_id": "aws", "aws_secret_access_key": "aws"}
        self._s3 = boto3.client("s3", endpoint_url=endpoint, **keys)
        self._logs = boto3.client("logs", endpoint_url=endpoint, **keys)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends all containers."""
        self._is_closed = True
        self._http.shutdown()
        self._http.server_close()
        for instances in self.instances.values():
            for instance in instances:
                instance.kill()
        for thread in self._threads:
            thread.join(30)

    def now(self) -> float:
        """By the service's clock."""
        return self._began + (time.time() - self._began) * self.speed

    def interrupt(self, job: str, *, instance: int = 1) -> None:
        """Takes a spot instance away: the job restarts when there is another."""
        self._interrupted[job] = instance

    def _answer(self, http: BaseHTTPRequestHandler) -> None:
        asked = json.loads(http.rfile.read(int(http.headers["Content-Length"])) or "{}")
        operation = http.headers["X-Amz-Target"].split(".")[1]
        try:
            status, said = 200, getattr(self, f"_{operation}")(asked)
        except ApiError as error:
            status, said = 400, {"__type": error.args[0], "message": error.args[1]}
        body = json.dumps(said, default=str).encode()
        http.send_response_only(status)
        http.send_header("Date", format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True))
        http.send_header("Content-Type", "application/x-amz-json-1.1")
        http.send_header("Content-Length", str(len(body)))
        http.end_headers()
        http.wfile.write(body)

    def _CreateTrainingJob(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name, kind = asked["TrainingJobName"], asked["ResourceConfig"]["InstanceType"]
        self.requests.append(asked)
        if not _NAME.fullmatch(name):
            raise ApiError("ValidationException", f"trainingJobName {name} does not match {_NAME.pattern}")
        if kind in self.over_limit:
            text = f"The account-level service limit '{kind} for training job usage' is 0 Instances."
            raise ApiError("ResourceLimitExceeded", text)
        with self._lock:
            if name in self.jobs:
                raise ApiError("ResourceInUse", f"Training job names must be unique: {name}")
            self.jobs[name] = {
                **asked,
                "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
                "TrainingJobStatus": "InProgress",
                "CreationTime": self.now(),
                "SecondaryStatusTransitions": [],
            }
            self._become(name, "Starting", "Preparing the instances for training")
        thread = threading.Thread(target=self._run, args=(name,), daemon=True)
        self._threads.append(thread)
        thread.start()
        return {"TrainingJobArn": self.jobs[name]["TrainingJobArn"]}

    def _DescribeTrainingJob(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self._job(asked)
        with self._lock:
            return json.loads(json.dumps({key: value for key, value in job.items() if key != "Tags"}))

    def _StopTrainingJob(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self._job(asked)
        if job["TrainingJobStatus"] != "InProgress":
            raise ApiError("ValidationException", f"The training job is in status {job['TrainingJobStatus']}")
        with self._lock:
            job["TrainingJobStatus"] = "Stopping"
            self._become(asked["TrainingJobName"], "Stopping", "Stopping the training job")
        return {}

    def _ListTrainingJobs(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        names = [name for name in self.jobs if asked.get("NameContains", "") in name]
        start, size = int(asked.get("NextToken", 0)), 2
        found: dict[str, Any] = {
            "TrainingJobSummaries": [
                {
                    key: self.jobs[name][key]
                    for key in ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingJobStatus")
                }
                for name in names[start : start + size]
            ]
        }
        if start + size < len(names):
            found["NextToken"] = str(start + size)
        return found

    def _job(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["TrainingJobName"] not in self.jobs:
            raise ApiError("ValidationException", "Requested resource not found.")
        return self.jobs[asked["TrainingJobName"]]

    def _become(self, name: str, secondary: str, message: str) -> None:
        job, now = self.jobs[name], self.now()
        changes = job["SecondaryStatusTransitions"]
        if changes:
            changes[-1]["EndTime"] = now
        changes.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        job["SecondaryStatus"], job["LastModifiedTime"] = secondary, now

    def _run(self, name: str) -> None:
        job = self.jobs[name]
        if job["ResourceConfig"]["InstanceType"] in self.without_capacity:
            text = (
                "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different type."
            )
            return self._end(name, "Failed", "Failed", reason=text)
        starts = 0
        while job["TrainingJobStatus"] == "InProgress":
            starts += 1
            ended = self._run_once(name, starts)
            if ended != "Interrupted":
                break
            time.sleep(_TICK_S)
            with self._lock:
                if job["TrainingJobStatus"] == "InProgress":
                    self._become(name, "Restarting", "Restarting the training job on other instances")
        if job["TrainingJobStatus"] == "Stopping":
            self._end(name, "Stopped", "MaxRuntimeExceeded" if ended == "MaxRuntime" else "Stopped")
        elif ended == "Completed":
            self._end(name, "Completed", "Completed")
        else:
            self._end(name, "Failed", "Failed", reason=f"AlgorithmError: {ended}")
        return None

    def _end(self, name: str, status: str, secondary: str, *, reason: str = "") -> None:
        with self._lock:
            self._become(name, secondary, "")
            changes = self.jobs[name]["SecondaryStatusTransitions"]
            changes[-1]["EndTime"] = self.now()
            billed = sum(
                change["EndTime"] - change["StartTime"] for change in changes if change["Status"] == "Training"
            )
            self.jobs[name]["BillableTimeInSeconds"] = int(billed)
            if reason:
                self.jobs[name]["FailureReason"] = reason
            self.jobs[name]["TrainingJobStatus"] = status

    def _run_once(self, name: str, start: int) -> str:
        """How it ended: Completed, Interrupted, MaxRuntime, or what went wrong."""
        job, request = self.jobs[name], self.jobs[name]
        count = request["ResourceConfig"]["InstanceCount"]
        root = self.root / name / str(start)
        instances = [
            Instance(root, number, count, job=name, request=request, endpoint=self.endpoint)
            for number in range(1, count + 1)
        ]
        self.instances[name] = instances
        with self._lock:
            if job["TrainingJobStatus"] == "InProgress":
                self._become(name, "Downloading", "Downloading input data")
        checkpoints = request["CheckpointConfig"]["S3Uri"]
        for instance in instances:
            for channel in request["InputDataConfig"]:
                uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
                self._download(uri, instance.base / "input/data" / channel["ChannelName"])
            self._download(checkpoints, instance.base / "checkpoints")
        if job["TrainingJobStatus"] == "InProgress":
            with self._lock:
                self._become(name, "Training", "Training image download completed. Training in progress.")
            for instance in instances:
                instance.start()
        ended = self._follow(name, instances, checkpoints)
        for instance in instances:
            instance.kill()
            self._log(instance)
            self._upload(instance.base / "checkpoints", checkpoints)
        if ended == "Interrupted":
            with self._lock:
                self._become(name, "Interrupted", "Spot capacity was taken away")
            shutil.rmtree(root)  # the disk is gone with the instance
        return ended

    def _follow(self, name: str, instances: list[Instance], checkpoints: str) -> str:
        job = self.jobs[name]
        limit = self.now() + job["StoppingCondition"]["MaxRuntimeInSeconds"]
        while True:
            time.sleep(_TICK_S)
            if self._is_closed:
                return "Closed"
            for instance in instances:
                self._log(instance)
                self._upload(instance.base / "checkpoints", checkpoints)
            if name in self._interrupted:
                self._terminate([instances[self._interrupted[name] - 1]])
                del self._interrupted[name]
                return "Interrupted"
            if job["TrainingJobStatus"] == "Stopping":
                self._terminate(instances)
                return "Stopped"
            codes = [instance.process.poll() for instance in instances if instance.process]
            if any(codes):
                return next(self._reason(i) for i, code in zip(instances, codes, strict=True) if code)
            if None not in codes:
                return "Completed"
            if self.enforces_run_time and self.now() > limit:
                with self._lock:
                    job["TrainingJobStatus"] = "Stopping"
                    self._become(name, "Stopping", "Over MaxRuntimeInSeconds")
                self._terminate(instances)
                return "MaxRuntime"

    def _reason(self, instance: Instance) -> str:
        failure = instance.base / "output/failure"
        assert instance.process is not None
        return f"{failure.read_text() if failure.exists() else ''}, exit code: {instance.process.returncode}"

    def _terminate(self, instances: list[Instance]) -> None:
        until = time.monotonic() + self.grace_s
        for instance in instances:
            if instance.process and instance.process.poll() is None:
                instance.process.terminate()  # the container's first process alone hears it
        for instance in instances:
            if instance.process:
                try:
                    instance.process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    instance.kill()

    def _download(self, uri: str, folder: Path) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        prefix = prefix.rstrip("/") + "/"
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                place = folder / found["Key"].removeprefix(prefix)
                place.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(bucket, found["Key"], str(place))

    def _upload(self, folder: Path, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        for path in folder.rglob("*"):
            state = path.stat().st_mtime_ns if path.is_file() else None
            if state and self._uploaded.get(path) != state:
                try:
                    content = path.read_bytes()  # at once: a file that shrinks while it is sent would hang
                except FileNotFoundError:
                    continue  # replaced meanwhile
                self._s3.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=content)
                self._uploaded[path] = state

    def _log(self, instance: Instance) -> None:
        lines, instance.lines = instance.lines, []
        if not lines:
            return
        for create in (
            lambda: self._logs.create_log_group(logGroupName=LOG_GROUP),
            lambda: self._logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=instance.stream),
        ):
            with contextlib.suppress(self._logs.exceptions.ResourceAlreadyExistsException):
                create()
        events = [{"timestamp": int(time.time() * 1000), "message": line or " "} for line in lines]
        self._logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=instance.stream, logEvents=events)
