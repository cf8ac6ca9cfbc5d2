"""What is to be recorded in MLflow, first in files: a server that is away loses nothing.

Each run (the pipeline's, and one per stage below it) is a folder with `events.jsonl`, its artifacts, and
`sent.json`, which says how far the events have been sent. This module knows no MLflow; `tasks.tracking.shipping` does.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miras.files import disk_errors, finished_file, write_json
from tasks.pipeline_run import Owner

SPOOL = Path("work") / "tracking"


@dataclass(frozen=True)
class Sent:
    """How far a run has been sent."""

    offset_bytes: int
    run_id: str | None
    """MLflow's id of the run; None until it was created there."""
    experiment_id: str | None = None
    """MLflow's id of the experiment that the run is in, from when `run_id` is known."""


@dataclass(frozen=True)
class Spool:
    """The folder of one run."""

    folder: Path

    @property
    def events(self) -> Path:
        """One JSON object per line, each with `kind` and `time_ms`."""
        return self.folder / "events.jsonl"

    @property
    def artifacts(self) -> Path:
        """Copies of the files to be logged, as they were when the stage ended."""
        return self.folder / "artifacts"

    def start(
        self,
        *,
        name: str,
        owner: Owner,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        metrics_file: Path | None = None,
    ) -> None:
        """Opens the run. Its key tells it apart from all others, on any machine.

        `metrics_file`: where the run's work writes its metrics, one JSON object per line; the sender copies them here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)  # there, without events: its start was killed or had no space
        facts = {"name": name, "key": uuid.uuid4().hex, "owner": asdict(owner), "metrics_file": metrics_file}
        line = _line("start", **facts, params=dict(params), tags=dict(tags))
        with finished_file(self.events) as aside:  # whole or not at all: nobody can do anything with a run without it
            aside.write_bytes(line)

    def metrics(self, values: Mapping[str, float], *, step: int = 0, time_ms: int | None = None) -> None:
        """Numbers at a step; `time_ms` is when they were true, by default now."""
        self._append("metrics", values=dict(values), step=step, **({"time_ms": time_ms} if time_ms else {}))

    def trend(self, name: str, *, version: str, values: Mapping[str, float]) -> None:
        """Numbers of one version of the data, for the run in which all versions stand side by side."""
        self._append("trend", name=name, version=version, values=dict(values))

    def tags(self, values: Mapping[str, str]) -> None:
        """Facts about the run, as text."""
        self._append("tags", values=dict(values))

    def artifact(self, source: Path, place: str) -> None:
        """A file or a folder, copied now and shown under `place`."""
        target = self.artifacts / place / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with disk_errors(target):
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
        self._append("artifact", path=str(target.relative_to(self.artifacts)))

    def table(self, place: str, *, columns: list[str], rows: list[list[Any]]) -> None:
        """A table that MLflow shows as one; `place` ends in .json."""
        write_json(self.artifacts / place, {"columns": columns, "data": rows})
        self._append("table", path=place)

    def status(self, status: str) -> None:
        """RUNNING, FINISHED, FAILED or KILLED (MLflow's words)."""
        self._append("status", status=status)

    def _append(self, kind: str, **fields: Any) -> None:
        line = _line(kind, **fields)
        with disk_errors(self.events):
            descriptor = os.open(self.events, os.O_WRONLY | os.O_APPEND)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size_bytes = os.fstat(descriptor).st_size
                if os.write(descriptor, line) < len(line):  # a full disk takes a part of it
                    os.ftruncate(descriptor, size_bytes)
                    raise OSError(errno.ENOSPC, "No space left on device")
            finally:
                os.close(descriptor)

    def read(self, offset_bytes: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Each whole event from `offset_bytes` on, with the offset behind it."""
        with self.events.open("rb") as file:
            file.seek(offset_bytes)
            for line in file:
                if not line.endswith(b"\n"):  # being written
                    return
                offset_bytes += len(line)
                yield json.loads(line), offset_bytes

    def sent(self) -> Sent:
        """How far this run has been sent."""
        try:
            return Sent(**json.loads((self.folder / "sent.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Sent(0, None)

    def mark_sent(self, sent: Sent) -> None:
        """Remembers how far this run has been sent."""
        write_json(self.folder / "sent.json", asdict(sent))

    def is_all_sent(self) -> bool:
        """Whether MLflow has every event."""
        return self.sent().offset_bytes == self.events.stat().st_size

    def waits(self) -> bool:
        """Whether something of this pipeline run is still to be sent; False once it is removed."""
        try:
            return bool(self.children()) or not self.is_all_sent()
        except FileNotFoundError:
            return False

    def last_status(self) -> str:
        """The status written last; RUNNING if none."""
        found = [event["status"] for event, _ in self.read() if event["kind"] == "status"]
        return str(found[-1]) if found else "RUNNING"

    def is_over(self) -> bool:
        """Whether the run has ended and MLflow knows it."""
        return self.last_status() != "RUNNING" and self.is_all_sent()

    def owner(self) -> Owner:
        """The process that writes this run."""
        return Owner(**self._facts["owner"])

    def metrics_file(self) -> Path | None:
        """Where the run's work writes its metrics."""
        told = self._facts["metrics_file"]
        return None if told is None else Path(told)

    @property
    def _facts(self) -> dict[str, Any]:
        return next(self.read())[0]

    def remove(self) -> None:
        """Removes the run: first what makes it one, so that a kill in the middle leaves no half run."""
        self.events.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def has_sender(self) -> bool:
        """Whether the pipeline run's sender lives: it holds this lock."""
        try:
            with (self.folder / "live.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def ending(self) -> Path:
        """There from the end of the run's work until all of the run was copied and its sending was tried once."""
        return self.folder / "ending.json"

    def end(self, status: str) -> None:
        """Asks the sender to close this run; `status` as in `status`."""
        write_json(self.ending, {"status": status})

    def wanted_status(self) -> str | None:
        """What the run is to be closed with: asked for with `end`, or KILLED if who writes it died; else None."""
        is_alive = self.owner().is_alive()  # asked first: who dies after this has left its word before
        try:
            return str(json.loads(self.ending.read_text(encoding="utf-8"))["status"])
        except FileNotFoundError:
            return None if is_alive else "KILLED"

    def children(self) -> list[Spool]:
        """The runs of a pipeline's stages, oldest first."""
        return [Spool(events.parent) for events in sorted(self.folder.glob("*/events.jsonl"))]


def pipelines() -> list[Spool]:
    """The pipeline runs that are not wholly sent and done with, oldest first."""
    found = []
    for events in SPOOL.glob("*/events.jsonl"):
        with suppress(FileNotFoundError):  # removed by who sent it, just now
            found.append((events.stat().st_ctime, events.parent))
    return [Spool(folder) for _, folder in sorted(found)]


def close_dead_runs(mine: Spool | None = None) -> None:
    """Marks what was killed, so that nothing says RUNNING for ever.

    What a living sender serves is left to it; `mine`: the pipeline run whose sender asks.
    """
    for pipeline in pipelines():
        if pipeline != mine and pipeline.has_sender():
            continue
        for run in pipeline.children():
            with suppress(FileNotFoundError):
                if run.last_status() == "RUNNING" and not run.owner().is_alive():
                    close(run, pipeline)


def close(run: Spool, pipeline: Spool) -> None:
    """Writes down how a run that is over has ended; for its pipeline, too, unless its next stage has begun."""
    status = run.wanted_status() or "KILLED"
    MetricsTail(run).copy()  # what a sender that died, or none, has not copied
    run.status(status)
    if all(child.last_status() != "RUNNING" for child in pipeline.children()):
        pipeline.status(status)


def remove_finished() -> None:
    """Removes the pipeline runs that are over and wholly sent; one whose owner lives is the owner's to remove."""
    for pipeline in pipelines():
        with suppress(FileNotFoundError):  # somebody else has just removed it
            owner = pipeline.owner()
            is_anothers = owner.is_alive() and owner.pid != os.getpid()
            if not is_anothers and not pipeline.waits() and pipeline.wanted_status():
                pipeline.remove()


def _line(kind: str, **fields: Any) -> bytes:
    return (json.dumps({"kind": kind, "time_ms": round(time.time() * 1000), **fields}, default=str) + "\n").encode()


class MetricsTail:
    """Copies new lines of a stage's `metrics.jsonl` into its run.

    A line is a JSON object with `step`, `samples` and numbers by name. A resumed training may cut the file
    back to its checkpoint and write the same steps again: each step of a metric is copied once, whoever copied it.
    """

    def __init__(self, run: Spool) -> None:
        self._run = run
        self._file = run.metrics_file()
        self._offset_bytes = 0
        self._seen = {
            (name, event["step"]) for event, _ in run.read() if event["kind"] == "metrics" for name in event["values"]
        }

    def copy(self) -> None:
        """Copies what was written since the last call."""
        if not self._file or not self._file.exists():
            return
        with self._file.open("rb") as lines:
            if self._offset_bytes:
                lines.seek(self._offset_bytes - 1)
                if lines.read(1) != b"\n":  # cut, and perhaps grown again: not the end of a line any more
                    self._offset_bytes = 0
            lines.seek(self._offset_bytes)
            for line in lines:
                if not line.endswith(b"\n"):  # being written
                    break
                self._offset_bytes += len(line)
                self._copy_line(json.loads(line))

    def _copy_line(self, record: dict[str, Any]) -> None:
        step = int(record["step"])
        numbers = {
            name: float(value)
            for name, value in record.items()
            if name not in ("step", "time") and isinstance(value, (int, float)) and (name, step) not in self._seen
        }
        if numbers:
            self._seen.update((name, step) for name in numbers)
            self._run.metrics(numbers, step=step)
