"""Jobs as Amazon SageMaker training jobs: data and results by S3, spot instances, a cost limit.

A job of shares is one training job too: one thing to find, to follow and to stop, one entry in the account's limits,
and the shares are even, so that few instances wait for the last. A job's name is made of its work folder's key and a
counter; the key is a random one in `sagemaker.json` there, with what has been brought back so far.
"""

from __future__ import annotations

import io
import re
import sys
import time
from typing import Any, Literal

from pydantic import Field, field_validator

from miras.errors import ConfigError, JobFailedError, ServiceUnavailableError
from miras.launch.aws import aws_errors, client, code_of
from miras.launch.bundle import code_archive, files_of, name_of, order_for
from miras.launch.container import CHECKPOINTS, CODE, JOB_VARIABLE, JOBS, OBJECTS, ORDER, OUT
from miras.launch.job import HISTORY, JobSpec, JobState
from miras.launch.profiles import Launch
from miras.launch.s3 import Bucket, ObjectStore, agrees, digest_of
from miras.launch.sagemaker_files import RECORD, JobFiles, name_stem, record_sent
from miras.launch.sagemaker_logs import LOG_GROUP, JobLog
from miras.launch.sagemaker_state import billed_hours, state_of

ARCHIVE = "miras.zip"
SHORTEST_RUN_S = 600
"""A job that may run for less is not worth its start."""
_SECRET = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)(_|$)", re.I)
_PATIENCE_S = 900.0
_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.[\w-]+\.amazonaws\.com[\w.]*/(?P<name>[^:@]+)(?P<version>[:@].+)?")


class SageMakerLaunch(Launch):
    """A profile of Amazon SageMaker."""

    place: Literal["sagemaker"]
    region: str | None
    """Of the jobs and the bucket; null: AWS_REGION, or what your AWS profile says."""
    instance_type: str = Field(pattern=r"^ml\.")
    instance_count: int = Field(ge=1)
    """Instances of one job; `processes` are spread evenly over them."""
    volume_gb: int = Field(ge=1)
    """Disk of each: data, weights, checkpoints and the image."""
    image: str = Field(min_length=1)
    """Address of the image in ECR (infra/docker/gpu.Dockerfile)."""
    role_arn: str = Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+")
    """What the job may do (infra/aws/job-policy.json)."""
    bucket: str = Field(min_length=3)
    prefix: str
    """Folder of the bucket."""
    spot: bool
    """Spare capacity for less; it may be taken away, and the job goes on from its checkpoint later."""
    max_run_hours: float = Field(gt=0, le=28 * 24, strict=False)
    """Longest time that a job runs."""
    max_wait_hours: float = Field(ge=0, strict=False)
    """Longest time that a spot job waits for capacity, in all, besides."""
    usd_per_hour: float = Field(gt=0, strict=False)
    """Price of one instance on demand."""
    cost_limit_usd: float = Field(gt=0, strict=False)
    """What the jobs of one work folder may cost together."""
    environment: dict[str, str]
    """Variables of the job's processes. Never a secret: everybody who may see the job sees them."""
    tags: dict[str, str]
    """Of the jobs, for your bill."""
    poll_s: float = Field(gt=0, strict=False)
    """Seconds between two looks at a job."""

    @field_validator("environment")
    @classmethod
    def _no_secrets(cls, values: dict[str, str]) -> dict[str, str]:
        found = [
            name for name, value in values.items() if _SECRET.search(name) or re.search(r"://[^/@\s]+:[^/@\s]+@", value)
        ]
        if found:
            # Not a ValueError: pydantic's message would hold the values.
            raise ConfigError(
                f"launch profile: environment: {', '.join(found)}: secrets do not belong here, who may describe the "
                "job reads them. Give the job's role access to what it needs (infra/aws/README.md)."
            )
        return values

    @property
    def nodes(self) -> int:
        """Instances."""
        return self.instance_count

    def number_of_shares(self) -> int:
        """As the profile says, else one per training process: this machine's GPUs say nothing."""
        return self.shares or self.processes


class SageMakerPlace:
    """Training jobs of one account and region."""

    name = "sagemaker"

    def __init__(self, launch: SageMakerLaunch) -> None:
        self._launch = launch
        self.poll_s = launch.poll_s
        left = [key for key in ("bucket", "image") if "CHANGE-ME" in getattr(launch, key)]
        if left:
            raise ConfigError(
                f"launch profile: {' and '.join(left)}: still the delivered CHANGE-ME. Fill in your own, and "
                "role_arn (infra/aws/README.md)."
            )
        self._check_cost(launch.max_run_hours)
        if launch.shares % launch.nodes:
            raise ConfigError(
                f"shares {launch.shares} do not spread evenly over {launch.nodes} instances. Change one of them."
            )
        self._api = client("sagemaker", launch.region)
        self._logs: dict[str, JobLog] = {}
        self._known: dict[str, JobState] = {}
        self._spent_before: dict[str, float] = {}
        self._over_limit: dict[str, str] = {}
        self._unreached_s: float | None = None

    def attach(self, spec: JobSpec) -> str | None:
        """The last job of this work folder, unless its end was seen or is bad: then what it left is brought."""
        jobs = self._jobs(spec)
        if not jobs:
            return None
        job = jobs[-1]
        while (status := self._describe(job)["TrainingJobStatus"]) == "Stopping":  # it saves, for up to two minutes
            time.sleep(self.poll_s)
        if status == "InProgress" or (status == "Completed" and not _was_seen(spec, job)):
            return job
        self._files(job, spec).catch_up()
        return None

    def submit(self, spec: JobSpec) -> str:
        """Sends what is new to AWS, and creates the job.

        Raises:
            ConfigError: credentials, permissions, bucket, image, role or limits; says which.
            JobFailedError: the cost limit is used up.
            ServiceUnavailableError: AWS was not reached.
        """
        with aws_errors("asking AWS who you are"):
            client("sts", self._launch.region).get_caller_identity()
        top = self._bucket()
        top.check()
        self._check_image()
        jobs = self._jobs(spec)
        spent = sum(billed_hours(self._describe(job)) for job in jobs) * self._launch.usd_per_hour
        run_s = self._seconds_left(spent)
        number = int(jobs[-1].rpartition("-")[2]) + 1 if jobs else 1
        job = f"{name_stem(spec)}-{number}"
        self._spent_before[job] = spent
        files = files_of(spec, own=RECORD)
        sent = ObjectStore(self._bucket(OBJECTS)).send(files)
        print(
            f"{spec.name}: {len(files)} files for {job}, {sent.files} of them ({sent.size / 1e6:.1f} MB) sent to "
            f"{top.address('')}",
            file=sys.stderr,
            flush=True,
        )
        self._send(f"{JOBS}/{job}/{ORDER}", order_for(spec, sent.contents).model_dump_json().encode())
        request = self._request(job, run_s, code=self._send_code(), folder=name_of(spec.folder))
        record_sent(spec, files)
        try:
            with aws_errors(f"creating the training job {job}"):
                self._api.create_training_job(**request)
        except ConfigError as error:
            if code_of(error.__cause__) != "ResourceInUse":  # the same command at the same time: both follow one job
                raise
        return job

    def state(self, job: str) -> JobState:
        """As SageMaker says; over the cost limit it is stopped."""
        try:
            described = self._describe(job)
        except ServiceUnavailableError as error:
            return self._last_known(job, error)
        self._unreached_s = None
        state = state_of(described)
        if state.state == "cancelled" and job in self._over_limit:
            state = JobState("failed", self._over_limit[job])
        self._known[job] = state
        spent = self._spent_before.get(job, 0.0) + billed_hours(described) * self._launch.usd_per_hour
        limit = self._launch.cost_limit_usd
        if not state.is_over and spent > limit and job not in self._over_limit:
            self._over_limit[job] = f"stopped: about {spent:.2f} USD of at most {limit:.2f} spent (`cost_limit_usd`)"
            self.cancel(job)
        return state

    def cancel(self, job: str) -> None:
        """Tells it to save and stop, and makes sure that SageMaker has heard it.

        Raises:
            JobFailedError: it has not; the message says how to stop it by hand.
        """
        try:
            with aws_errors(f"stopping the training job {job}"):
                self._api.stop_training_job(TrainingJobName=job)
        except ConfigError as error:
            if code_of(error.__cause__) != "ValidationException":  # it is over already
                raise
        status = self._describe(job)["TrainingJobStatus"]
        if status == "InProgress":
            raise JobFailedError(
                f"{job}: SageMaker was told to stop it and still runs it. Stop it by hand: "
                f"`aws sagemaker stop-training-job --training-job-name {job}`."
            )

    def new_output(self, job: str) -> str:
        """What every instance's first process has printed since the last call."""
        if job not in self._logs:
            logs = client("logs", self._launch.region)
            self._logs[job] = JobLog(logs, job, is_alone=self._launch.instance_count == 1)
        try:
            return self._logs[job].new_text()
        except ServiceUnavailableError:
            return ""

    def collect(self, job: str, spec: JobSpec) -> None:
        """Brings the files that have changed."""
        is_over = self._known[job].is_over
        try:
            self._files(job, spec).bring(is_over=is_over)
        except ServiceUnavailableError as error:
            if is_over:
                raise
            print(error, file=sys.stderr, flush=True)

    def about(self, job: str) -> dict[str, str]:
        """Console page, logs and files."""
        region = self._api.meta.region_name
        return {
            "page": f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/jobs/{job}",
            "log": f"CloudWatch {LOG_GROUP} {job}/",
            "files": self._bucket(f"{JOBS}/{job}").address(OUT),
        }

    def _last_known(self, job: str, error: ServiceUnavailableError) -> JobState:
        """For a while; the job goes on whether we see it or not."""
        self._unreached_s = self._unreached_s or time.monotonic()
        if time.monotonic() - self._unreached_s > _PATIENCE_S:
            raise error
        state = self._known.get(job, JobState("waiting")).state
        return JobState(state, "AWS does not answer; the job goes on meanwhile")

    def _describe(self, job: str) -> dict[str, Any]:
        with aws_errors(f"asking for the training job {job}"):
            found: dict[str, Any] = self._api.describe_training_job(TrainingJobName=job)
            return found

    def _jobs(self, spec: JobSpec) -> list[str]:
        """Names of all jobs of this work folder, in the order of their numbers."""
        if not (spec.folder / RECORD).exists():
            return []
        stem = name_stem(spec)
        with aws_errors("listing training jobs"):
            pages = self._api.get_paginator("list_training_jobs").paginate(NameContains=stem)
            found = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
        return sorted(
            (job for job in found if re.fullmatch(re.escape(stem) + r"-\d+", job)),
            key=lambda job: int(job.rpartition("-")[2]),
        )

    def _check_cost(self, hours: float) -> None:
        launch = self._launch
        cost = hours * launch.instance_count * launch.usd_per_hour
        if cost > launch.cost_limit_usd:
            raise ConfigError(
                f"max_run_hours {hours:g} of {launch.instance_count} {launch.instance_type} at "
                f"{launch.usd_per_hour:g} USD an hour may cost {cost:.2f} USD, and cost_limit_usd is "
                f"{launch.cost_limit_usd:.2f}. Lower max_run_hours, or raise the limit."
            )

    def _seconds_left(self, spent_usd: float) -> int:
        """How long a job may run, with what its predecessors have cost."""
        launch = self._launch
        affordable = (launch.cost_limit_usd - spent_usd) / (launch.usd_per_hour * launch.instance_count)
        seconds = int(3600 * min(launch.max_run_hours, affordable))
        if seconds < min(SHORTEST_RUN_S, 3600 * launch.max_run_hours):
            raise JobFailedError(
                f"the jobs of this work folder have cost about {spent_usd:.2f} USD of at most "
                f"{launch.cost_limit_usd:.2f} (`cost_limit_usd`). Raise it to go on; the last checkpoint is kept."
            )
        return seconds

    def _check_image(self) -> None:
        """An image in ECR has to be there; others are not asked for."""
        found = _ECR.fullmatch(self._launch.image)
        if not found:
            return
        version = found["version"] or ":latest"
        which = {"imageDigest" if version[0] == "@" else "imageTag": version[1:]}
        try:
            with aws_errors(f"looking for the image {self._launch.image}"):
                client("ecr", self._launch.region).describe_images(
                    registryId=found["account"], repositoryName=found["name"], imageIds=[which]
                )
        except ConfigError as error:
            if code_of(error.__cause__) in ("RepositoryNotFoundException", "ImageNotFoundException"):
                raise ConfigError(
                    f"image {self._launch.image}: not in ECR. Build and push it (infra/aws/README.md), or correct "
                    "`image` in the launch profile."
                ) from error
            raise

    def _bucket(self, folder: str = "") -> Bucket:
        whole = "/".join(part for part in (self._launch.prefix.strip("/"), folder) if part)
        return Bucket(client("s3", self._launch.region), self._launch.bucket, whole)

    def _send(self, name: str, content: bytes) -> None:
        self._bucket().send(name, io.BytesIO(content), digest_of(io.BytesIO(content)))

    def _send_code(self) -> str:
        """Address of the folder with the code."""
        archive = code_archive()
        digest = digest_of(io.BytesIO(archive))
        folder = f"{CODE}/{digest.content.sha256[:16]}"
        if not agrees(self._bucket().head(f"{folder}/{ARCHIVE}"), digest):
            self._send(f"{folder}/{ARCHIVE}", archive)
        return self._bucket().address(f"{folder}/")

    def _request(self, job: str, run_s: int, *, code: str, folder: str) -> dict[str, Any]:
        launch = self._launch
        mine = self._bucket(f"{JOBS}/{job}")
        stopping = {"MaxRuntimeInSeconds": run_s}
        if launch.spot:
            stopping["MaxWaitTimeInSeconds"] = run_s + int(3600 * launch.max_wait_hours)
        source = {"S3DataType": "S3Prefix", "S3Uri": code, "S3DataDistributionType": "FullyReplicated"}
        tags = {**launch.tags, "miras:work": re.sub(r"[^\w .:/=+@-]", "_", folder)}
        return {
            "TrainingJobName": job,
            "AlgorithmSpecification": {
                "TrainingImage": launch.image,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python3", f"/opt/ml/input/data/{CODE}/{ARCHIVE}"],
            },
            "RoleArn": launch.role_arn,
            "InputDataConfig": [{"ChannelName": CODE, "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": mine.address("output")},
            "ResourceConfig": {
                "InstanceType": launch.instance_type,
                "InstanceCount": launch.instance_count,
                "VolumeSizeInGB": launch.volume_gb,
            },
            "StoppingCondition": stopping,
            "CheckpointConfig": {"S3Uri": mine.address(CHECKPOINTS), "LocalPath": f"/opt/ml/{CHECKPOINTS}"},
            "EnableManagedSpotTraining": launch.spot,
            "Environment": {**launch.environment, JOB_VARIABLE: mine.address("").rstrip("/")},
            "RetryStrategy": {"MaximumRetryAttempts": 2},  # after faults of the service itself
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }

    def _files(self, job: str, spec: JobSpec) -> JobFiles:
        return JobFiles(self._bucket(f"{JOBS}/{job}/{OUT}"), job, spec)


def _was_seen(spec: JobSpec, job: str) -> bool:
    history = spec.folder / HISTORY
    return history.exists() and f'"job": "{job}"' in history.read_text("utf-8")
