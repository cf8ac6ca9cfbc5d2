"""What runs inside a cloud's container: brings the job's files, runs its processes, sends back what they write.

    python miras.zip    the code that a submission packed; MIRAS_JOB names the job's folder, s3://bucket/prefix/jobs/NAME

Follows SageMaker's contract for training containers: `/opt/ml/input/config/resourceconfig.json` names the instances,
`/opt/ml/checkpoints` is the work folder (restored after an interruption), `/opt/ml/output/failure` says what went
wrong, and SIGTERM means that two minutes are left. Every instance of a job runs this.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from miras.config import Section
from miras.errors import MirasError
from miras.files import write_json
from miras.launch.aws import client
from miras.launch.job import ERROR
from miras.launch.process import SAVE_ON_SIGNAL, STARTER, STOPPED_EARLY
from miras.launch.s3 import Bucket, Content, Mirror, ObjectStore, inside

JOB_VARIABLE = "MIRAS_JOB"
ORDER = "job.json"
OBJECTS, JOBS, CODE, OUT, CHECKPOINTS = "objects", "jobs", "code", "out", "checkpoints"
"""Folders of the prefix: contents by hash, one per job, code; and of a job: its files as we and SageMaker keep them."""

SYNC_S = 3.0
PORT = 29_500
_POLL_S = 0.2
_SAVING_S = 100.0  # of the 120 that a container has after SIGTERM
_PENDING_S = 15.0
_PLATFORM_S = 300.0
_FAILURE_CHARACTERS = 1_000  # SageMaker shows that many


class Order(Section):
    """What a submission wrote for the container."""

    name: str
    """Of the stage."""
    module: str
    kind: Literal["ranks", "shares"]
    processes: int
    threads: int
    folder: str
    """The work folder, relative to the workspace."""
    request: str
    writes: tuple[str, ...]
    """Files and folders whose changes go back."""
    contents: dict[str, Content]
    """Files of the workspace, or absolute ones, that the processes read."""


@dataclass(frozen=True)
class Instance:
    """Which of the job's instances this is."""

    number: int
    hosts: tuple[str, ...]
    interface: str

    @staticmethod
    def read(path: Path) -> Instance:
        """From SageMaker's resourceconfig.json."""
        found = json.loads(path.read_text("utf-8"))
        hosts = tuple(sorted(found["hosts"], key=lambda host: (len(host), host)))  # algo-2 before algo-10
        return Instance(hosts.index(found["current_host"]), hosts, found.get("network_interface_name", "eth0"))


class Files:
    """The job's files in this container."""

    def __init__(self, order: Order, *, bucket: Bucket, job: Bucket, base: Path) -> None:
        self.order = order
        self.root = base / "workspace"
        self._outside = base / "outside"
        self._store, self._mirror = ObjectStore(bucket), Mirror(job)
        self._seen: dict[str, tuple[int, int]] = {}
        folder = self.root / order.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        (base / CHECKPOINTS).mkdir(exist_ok=True)
        if not folder.is_symlink():
            folder.symlink_to(base / CHECKPOINTS)

    def bring(self) -> None:
        """What the job has written before an interruption, and all else that its processes read."""
        for name in set(self.order.writes) - self.order.contents.keys():  # empty folders are not in S3
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._link_outside()
        written = self._mirror.bucket.list()
        self._mirror.fetch(written, self._place)
        given = {name: content for name, content in self.order.contents.items() if not self._is_newer_here(name)}
        self._store.fetch(given, self._place)
        self._seen = {name: state for name, state in self._states() if name in written or name in given}

    def _is_newer_here(self, name: str) -> bool:
        """The job wrote it before an interruption."""
        return inside(name, (self.order.folder,)) and self._place(name).exists()

    def send(self) -> None:
        """Whatever is new or has changed since."""
        states = dict(self._states())
        changed = {name: self.root / name for name, state in states.items() if self._seen.get(name) != state}
        self._mirror.send(changed)
        self._seen |= {name: states[name] for name in changed}

    def _place(self, name: str) -> Path:
        return self._outside / name.lstrip("/") if Path(name).is_absolute() else self.root / name

    def _link_outside(self) -> None:
        """Puts links at absolute paths, to where there is room."""
        for name in self.order.contents:
            path = Path(name)
            if not path.is_absolute():
                continue
            self._place(name).parent.mkdir(parents=True, exist_ok=True)
            ways = [*reversed(path.parents), path]
            first = next((way for way in ways if not os.path.lexists(way)), None)
            if first:
                first.symlink_to(self._outside / first.relative_to("/"))

    def _states(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for place in self.order.writes:
            if (self.root / place).is_file():
                yield from self._state(self.root / place)
            for parent, folders, names in os.walk(self.root / place):
                folders[:] = [name for name in folders if not _is_partial(name)]
                for name in names:
                    if not _is_partial(name):
                        yield from self._state(Path(parent) / name)

    def _state(self, path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
        try:
            found = path.stat()
        except FileNotFoundError:  # just replaced
            return
        yield path.relative_to(self.root).as_posix(), (found.st_size, found.st_mtime_ns)


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


class Processes:
    """This instance's share of the job's processes."""

    def __init__(self, order: Order, instance: Instance, root: Path) -> None:
        self.order = order
        count = order.processes // len(instance.hosts)
        first = instance.number * count
        self._logs = []
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(first, first + count):
            output = (root / order.folder / f"process{number}.log").open("wb") if number > first else None
            self._logs.append(output)
            self.running[number] = subprocess.Popen(
                self._command(number),
                cwd=root,
                env={**os.environ, **self._environment(number, count, instance)},
                stdout=output,
                stderr=output,
            )

    def failed(self) -> tuple[int, int] | None:
        """Number and exit code of a process that ended badly; None: there is none."""
        codes = {number: process.poll() for number, process in self.running.items()}
        bad = {number: code for number, code in codes.items() if code not in (None, 0)}
        return next(iter(sorted(bad.items(), key=lambda item: item[1] == STOPPED_EARLY)), None)

    def are_over(self) -> bool:
        """Whether all have ended."""
        return all(process.poll() is not None for process in self.running.values())

    def ask_to_stop(self) -> None:
        """Saving first."""
        for process in self.running.values():
            process.terminate()

    def end(self, *, within_s: float) -> None:
        """Returns when all have ended; those that have not by then are killed."""
        until = time.monotonic() + within_s
        while not self.are_over() and time.monotonic() < until:
            time.sleep(_POLL_S)
        for process in self.running.values():
            process.kill()
            process.wait()

    def _command(self, number: int) -> list[str]:
        command = [sys.executable, "-m", self.order.module, self.order.request]
        return command if self.order.kind == "ranks" else [*command, str(number), str(self.order.processes)]

    def _environment(self, number: int, count: int, instance: Instance) -> dict[str, str]:
        threads = self.order.threads or max(1, (os.cpu_count() or 1) // count)
        values: dict[str, str | int] = {"OMP_NUM_THREADS": threads, STARTER: os.getpid(), SAVE_ON_SIGNAL: 1}
        if self.order.kind == "ranks":
            values |= {
                "RANK": number,
                "LOCAL_RANK": number % count,
                "WORLD_SIZE": self.order.processes,
                "LOCAL_WORLD_SIZE": count,
                "MASTER_ADDR": instance.hosts[0],
                "MASTER_PORT": PORT,
                "NCCL_SOCKET_IFNAME": instance.interface,
                "GLOO_SOCKET_IFNAME": instance.interface,
            }
        return {name: str(value) for name, value in values.items()}


class Container:
    """One instance of the job, from its start to its end."""

    def __init__(self, base: Path, address: str) -> None:
        name, _, prefix = address.removeprefix("s3://").partition("/")
        top, _, job = prefix.rpartition(f"{JOBS}/")
        s3 = client("s3", None)
        self._job = Bucket(s3, name, f"{top}{JOBS}/{job}")
        self._objects = Bucket(s3, name, f"{top}{OBJECTS}")
        self._base = base
        self._is_told_to_stop = False
        signal.signal(signal.SIGTERM, self._stop)

    def run(self) -> int:
        """The exit code."""
        aside = self._base / ORDER
        self._job.fetch(ORDER, aside)
        order = Order.model_validate_json(aside.read_text("utf-8"))
        instance = Instance.read(self._base / "input" / "config" / "resourceconfig.json")
        out = Bucket(self._job.client, self._job.bucket, self._job.key(OUT))
        files = Files(order, bucket=self._objects, job=out, base=self._base)
        try:
            files.bring()
            if self._is_told_to_stop:
                return STOPPED_EARLY
            return self._follow(Processes(order, instance, files.root), files)
        except MirasError as error:
            self._say(str(error))
            left = files.root / order.folder / f"{ERROR}.{instance.number:05d}"
            write_json(left, {"kind": type(error).__name__, "message": str(error)})
            files.send()
            return 1

    def _follow(self, processes: Processes, files: Files) -> int:
        is_over = threading.Event()
        # On a thread of its own: while S3 hangs, SIGTERM and failures are heard all the same.
        sender = threading.Thread(target=_keep_sending, args=(files, is_over), daemon=True)
        sender.start()
        while not self._is_told_to_stop and not processes.failed() and not processes.are_over():
            time.sleep(_POLL_S)
        failed = processes.failed()
        if self._is_told_to_stop or (failed and failed[1] == STOPPED_EARLY):
            processes.ask_to_stop()
            processes.end(within_s=_SAVING_S)
            failed = processes.failed()
        elif failed:
            processes.end(within_s=0)
        is_over.set()
        sender.join(_PENDING_S)
        files.send()
        if failed is None:
            return 0
        number, code = failed
        if code == STOPPED_EARLY:
            self._wait_for_the_platform()
        else:
            self._say(f"process {number} ended with exit code {code}; its output is in the log or process{number}.log")
        return STOPPED_EARLY if code == STOPPED_EARLY else 1

    def _wait_for_the_platform(self) -> None:
        """Another instance was told to stop, and so this one's processes did: ending now would look like a failure."""
        until = time.monotonic() + _PLATFORM_S
        while not self._is_told_to_stop and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        failure = self._base / "output" / "failure"
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(text[:_FAILURE_CHARACTERS], "utf-8")

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told_to_stop = True


def _keep_sending(files: Files, is_over: threading.Event) -> None:
    """Every few seconds; the job goes on without, and the next time, or the end, sends what is missing."""
    while not is_over.wait(SYNC_S):
        try:
            files.send()
        except MirasError as error:
            print(f"{error} Trying again.", file=sys.stderr, flush=True)


def main() -> int:
    """Runs the job that the environment names."""
    # SageMaker's own toolkit has this variable too; it is unset on real instances.
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    try:
        return Container(base, os.environ[JOB_VARIABLE]).run()
    except MirasError as error:
        print(error, file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
