"""A job: a stage's heavy part as processes that some place runs, and how it is brought to its end.

Each process runs a module on one request file; what it makes goes to the work folder beside that file, from which an
interrupted job goes on. A job that still runs is found again, never started twice.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from tqdm import tqdm

from miras import errors
from miras.errors import JobFailedError, ServiceUnavailableError, StarterGoneError
from miras.files import write_json

ERROR = "error.json"
JOB = "job.json"
HISTORY = "jobs.jsonl"
ENDS_WITH_STAGE = ("local", "dask", "prefect-dask")
"""Places whose jobs end with the stage that started them."""

Kind = Literal["ranks", "shares"]


@dataclass(frozen=True)
class JobSpec:
    """What is to run."""

    name: str
    """Of the stage, for people."""
    module: str
    """Run as `python -m module request`; for shares followed by the share's number and their count."""
    request: Path
    """JSON file with all that a process needs; its folder is the job's folder."""
    kind: Kind
    """`ranks` start and end together and talk to each other (torch.distributed); `shares` work alone."""
    processes: int
    threads: int
    """CPU threads of each; 0: the cores are divided evenly."""
    reads: tuple[Path, ...] = ()
    """Files and folders that a place without the workspace's file system has to bring: relative to the workspace, or
    absolute (public weights that lie elsewhere)."""

    @property
    def folder(self) -> Path:
        """The job's own: request, logs, checkpoints, results."""
        return self.request.parent


State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobState:
    """How a job stands."""

    state: State
    reason: str = ""
    """In the place's own words, such as `PENDING (Resources)` or `OUT_OF_MEMORY`."""

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state not in ("waiting", "running")


class Place(Protocol):
    """Somewhere that runs jobs. Numbers of jobs are text, and survive the process that submitted them."""

    name: str
    poll_s: float
    """Seconds between two looks at a job."""

    def attach(self, spec: JobSpec) -> str | None:
        """The job of this very work folder that waits, runs, or has ended well unseen; None: there is none."""

    def submit(self, spec: JobSpec) -> str:
        """Starts it; the job's number."""

    def state(self, job: str) -> JobState:
        """How it stands. A job that the place does not know any more is failed."""

    def cancel(self, job: str) -> None:
        """Ends it, and returns when it has been told to end; one that is over stays as it is."""

    def new_output(self, job: str) -> str:
        """What its first process has printed since the last call."""

    def collect(self, job: str, spec: JobSpec) -> None:
        """Brings what the job has written so far into its folder."""

    def about(self, job: str) -> dict[str, str]:
        """What a person can look at: log files, pages."""


def run_job(
    spec: JobSpec,
    place: Place,
    *,
    prepare: Callable[[], object] = lambda: None,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Brings a job to its end: attaches to the one that runs already, else submits it.

    When this process is told to stop, the job is cancelled; when it only loses who started it, or sight of the place,
    the job goes on and the next run attaches to it.

    Args:
        spec: what runs.
        place: where.
        prepare: called before a job is submitted: no process of an earlier one writes in the folder any more.
        watch: called at every look, to show progress.

    Raises:
        MirasError: what a process left in `error.json` beside the request, as the class it was there.
        JobFailedError: it failed otherwise, was cancelled or lost; says how, and where its output is. Or another
            place's job may still run in this folder.
        ServiceUnavailableError: the place does not answer.
    """
    refuse_job_elsewhere(spec.folder, here=place.name)
    job = place.attach(spec)
    if job is None:
        prepare()
        for left in spec.folder.glob(f"{ERROR}*"):
            left.unlink()
        job = place.submit(spec)
        _say(f"{spec.name}: job {job} submitted to {place.name}.", place)
    else:
        _say(f"{spec.name}: job {job} is there already ({place.name}); following it.", place)
    _record(spec, place, job)
    try:
        state = _follow(spec, place, job, watch)
    except (StarterGoneError, ServiceUnavailableError):
        raise
    except BaseException:
        place.cancel(job)
        _end(spec, job, "cancelled")
        raise
    _end(spec, job, f"{state.state} {state.reason}".strip())
    if state.state != "done":
        raise _failure(spec, place, job, state)


def refuse_job_elsewhere(folder: Path, *, here: str) -> None:
    """Looks whether a job of this folder was left running at another place than `here`: two must not write into it.

    Raises:
        JobFailedError: there was one, and nobody has seen its end.
    """
    try:
        left = json.loads((folder / JOB).read_text("utf-8"))
    except FileNotFoundError:
        return
    if left["place"] not in (here, *ENDS_WITH_STAGE):
        raise JobFailedError(
            f"{folder}: {left['stage']}: {left['place']} job {left['job']} of {left['since']} was left and may still "
            f"run. Go on with a launch profile of {left['place']}; or end that job there and remove {folder / JOB}."
        )


def _follow(spec: JobSpec, place: Place, job: str, watch: Callable[[], None]) -> JobState:
    told = ""
    while True:
        state = place.state(job)
        place.collect(job, spec)
        _echo(place.new_output(job))
        watch()
        if state.is_over:
            return state
        if state.reason != told:
            _say(f"{spec.name}: job {job} {state.state}: {state.reason}", place)
            told = state.reason
        time.sleep(place.poll_s)


def _failure(spec: JobSpec, place: Place, job: str, state: JobState) -> errors.MirasError:
    found = [json.loads(left.read_text("utf-8")) for left in sorted(spec.folder.glob(f"{ERROR}*"))]
    if found:
        kind: type[errors.MirasError] = getattr(errors, found[0]["kind"])
        return kind("\n".join(dict.fromkeys(error["message"] for error in found)))
    looked = "; ".join(f"{name} {where}" for name, where in place.about(job).items())
    return JobFailedError(
        f"{spec.name}: {place.name} job {job} {state.state}: {state.reason or 'no reason given'}"
        f"{f' ({looked})' if looked else ''}. Its last checkpoint is kept; run again to go on from it."
    )


def _record(spec: JobSpec, place: Place, job: str) -> None:
    write_json(
        spec.folder / JOB,
        {"job": job, "place": place.name, "stage": spec.name, "since": _now(), "about": place.about(job)},
    )


def _end(spec: JobSpec, job: str, how: str) -> None:
    """Moves the record of the job to the history."""
    current = spec.folder / JOB
    record = json.loads(current.read_text("utf-8"))
    with (spec.folder / HISTORY).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({**record, "job": job, "until": _now(), "ended": how}) + "\n")
    current.unlink()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(line: str, place: Place) -> None:
    if place.name != "local":  # its processes show themselves
        tqdm.write(line, file=sys.stderr)  # above a bar that is being drawn


def _echo(text: str) -> None:
    if text:
        tqdm.write(text, file=sys.stderr, end="")
        sys.stderr.flush()
