"""Jobs on a Slurm cluster whose nodes see the workspace's files: training as one job, shares as a job array.

A submission has a folder `slurm/<when>-<key>/` beside the request: the script, the logs, the exit codes of what has
ended, and a file `over` once we know how it ended. Its key is also the job's comment in Slurm, so a job is found again
whenever this process dies.
"""

from __future__ import annotations

import codecs
import os
import re
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from miras.errors import ServiceUnavailableError
from miras.files import finished_file
from miras.launch import slurm_cluster
from miras.launch.job import JobSpec, JobState
from miras.launch.process import STOPPED_EARLY
from miras.launch.profiles import Launch
from miras.launch.slurm_cluster import SECRET_NAME, accounted, ask, job_of_comment, queued
from miras.launch.slurm_script import END, LOG, NOTHING_KEPT, sbatch_command, script_text

FOLDER = "slurm"
_SCRIPT, _JOB, _ELEMENTS, _OVER = "job.sh", "job", "elements", "over"
_LOST_S = 15.0  # a job that Slurm has forgotten may have left its exit code where a network file system shows it late
_CANCEL_S = 15.0  # the stage's own starters wait 20 s for it
_OUTPUT_BYTES = 65536
_OURS = re.compile(
    r"--(parsable|comment|chdir|output|error|export|signal|array|wait|wrap|test-only|nodes|ntasks|ntasks-per-node"
    r"|requeue|no-requeue|job-name|hold|help|version)(=.*)?|-[aeoDJkHNnVW].*",
    re.DOTALL,
)


def _is_free(option: str) -> str:
    if not option.startswith("-"):
        raise ValueError("expected an option of sbatch, such as --exclusive or --reservation=NAME")
    if _OURS.fullmatch(option):
        raise ValueError("miras sets this option itself; another key of the profile may be what you want")
    return option


def _is_public(name: str) -> str:
    if SECRET_NAME.search(name):
        raise ValueError("looks like a secret, and Slurm shows a job's environment to others; leave it out")
    return name


Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n\r\x00]*\z")]
Name = Annotated[str, StringConstraints(pattern=r"^[^\s\x00]+\z")]
Option = Annotated[Line, AfterValidator(_is_free)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\z"), AfterValidator(_is_public)]
Duration = Annotated[str, StringConstraints(pattern=r"^(\d+-)?\d{1,3}:[0-5]\d:[0-5]\d\z")]


class SlurmLaunch(Launch):
    """A profile of a Slurm cluster."""

    place: Literal["slurm"]
    nodes: int = Field(ge=1)
    """Machines that the training processes are spread over, evenly."""
    gpus_per_node: int = Field(ge=0)
    """GPUs of each training node; a share takes one of them. 0: training and shares run on CPUs."""
    cpus_per_process: int = Field(ge=1)
    """Cores of each training process and of each share."""
    memory_gb: float | None = Field(gt=0, strict=False)
    """Memory of a training node in Slurm's GB (2**30 bytes); a share takes what one process has. null: the cluster's
    default."""
    shares: int = Field(ge=1)
    """Elements of the job array that shares the pictures to encode and the test questions."""
    array_limit: int | None = Field(ge=1)
    """Most elements of an array that run at once; null: as many as the cluster gives."""
    time: Annotated[int, Field(ge=1)] | Duration
    """Time limit, minutes or [days-]hours:minutes:seconds; a job that reaches it saves and is started again."""
    save_before_end_s: int = Field(ge=1, le=65535)
    """Seconds before the time limit at which a job is asked to save."""
    requeue: bool
    """Whether a job that saved before its time limit, or gave way to another one, starts again by itself."""
    partition: Name | None
    """null: the cluster's default."""
    account: Name | None
    """Who pays; null: the user's default."""
    qos: Name | None
    """Quality of service; null: the default."""
    constraint: Line | None
    """Features that a node must have, such as `a100&nvlink`."""
    setup: tuple[Line, ...] = Field(strict=False)
    """Lines of shell that run on each node's script first, such as `module load cuda`."""
    environment: dict[Variable, Line]
    """Further variables of the processes; never secrets."""
    extra: tuple[Option, ...] = Field(strict=False)
    """Further options of sbatch, such as `--reservation=NAME`."""
    poll_s: float = Field(gt=0, le=20, strict=False)
    """Seconds between two looks at a job; what befalls it is seen that late."""

    @model_validator(mode="after")
    def _has_time_to_save(self) -> SlurmLaunch:
        if self.save_before_end_s >= self.time_s:
            raise ValueError(f"save_before_end_s {self.save_before_end_s} is not below the time limit, {self.time_s} s")
        return self

    @property
    def time_s(self) -> int:
        """The time limit in seconds."""
        if isinstance(self.time, int):
            return 60 * self.time
        days, _, clock = self.time.rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def process_memory_gb(self) -> float | None:
        """What one process has of its node's memory."""
        return self.memory_gb and self.memory_gb * self.nodes / self.processes


@dataclass
class _Submission:
    """One job as this process knows it."""

    folder: Path
    elements: int
    """Scripts that have to end: the shares, else 1."""
    is_array: bool
    read_bytes: int = 0
    """Of the log, so far."""
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    missing_since: float | None = None
    """When Slurm was first found not to know of something that has not ended."""

    @property
    def log(self) -> Path:
        """Of rank 0 or of share 0."""
        return self.folder / f"{LOG}.0"


class SlurmPlace:
    """The cluster that Slurm's commands here speak to."""

    name = "slurm"

    def __init__(self, launch: Launch) -> None:
        assert isinstance(launch, SlurmLaunch)
        self.poll_s = launch.poll_s
        self._launch = launch
        self._submissions: dict[str, _Submission] = {}

    def attach(self, spec: JobSpec) -> str | None:
        """The job of the newest submission that nobody has seen the end of, unless it has failed.

        Raises:
            ServiceUnavailableError: Slurm does not answer, so it cannot be told.
        """
        for folder in sorted((spec.folder / FOLDER).glob("*"), reverse=True):
            if (folder / _OVER).exists() or not (folder / _ELEMENTS).exists():
                continue
            job = _read(folder / _JOB) or job_of_comment(_comment(folder))
            if job is None:
                _write(folder / _OVER, "never submitted")
                continue
            elements = int(_read(folder / _ELEMENTS))
            submission = _Submission(folder.resolve(), elements, is_array=spec.kind == "shares")
            submission.read_bytes = max(0, _size(submission.log) - _OUTPUT_BYTES // 8)
            self._submissions[job] = submission
            if self.state(job).state in ("waiting", "running", "done"):
                return job
        return None

    def submit(self, spec: JobSpec) -> str:
        """Writes the script and submits it.

        Raises:
            ConfigError: Slurm refuses it, with its reason.
            ServiceUnavailableError: Slurm does not answer.
        """
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        folder = (spec.folder / FOLDER / f"{now}-{uuid.uuid4().hex[:8]}").resolve()
        folder.mkdir(parents=True)
        # Elements that begin late read what was submitted, whatever a later run of the stage asks for.
        request = spec.request.resolve().with_name(f"{spec.request.stem}.submitted{spec.request.suffix}")
        with finished_file(request) as aside:
            aside.write_bytes(spec.request.read_bytes())
        script, comment = folder / _SCRIPT, _comment(folder)
        command = sbatch_command(self._launch, spec, script=script, comment=comment)
        _write(script, script_text(self._launch, spec, request=request, folder=folder, command=command))
        elements = spec.processes if spec.kind == "shares" else 1
        _write(folder / _ELEMENTS, str(elements))  # from now on `attach` looks for it
        job = slurm_cluster.submit(command, comment)
        _write(folder / _JOB, job)
        self._submissions[job] = _Submission(folder, elements, is_array=spec.kind == "shares")
        return job

    def state(self, job: str) -> JobState:
        """Done when every element is; failed as soon as one is, which ends the others."""
        submission = self._submissions[job]
        found = self._elements(job, submission)
        state = _together(found, submission)
        if state.is_over:
            if any(not element.is_over for element in found.values()):
                self._end(job, submission)
            _write(submission.folder / _OVER, f"{state.state} {state.reason}")
        return state

    def cancel(self, job: str) -> None:
        """scancel, and a look that it took.

        Raises:
            ServiceUnavailableError: Slurm does not answer; the job may run on.
        """
        submission = self._submissions[job]
        if (submission.folder / _OVER).exists():
            return
        try:
            self._end(job, submission)
        except ServiceUnavailableError as error:
            raise ServiceUnavailableError(
                f"job {job} could not be cancelled: {error} To end it by hand: `scancel {job}`."
            ) from None
        _write(submission.folder / _OVER, "cancelled")

    def new_output(self, job: str) -> str:
        """What rank 0 or share 0 has printed; of redrawn bars only the last state, of very much only the end."""
        submission = self._submissions[job]
        size = _size(submission.log)
        skipped = size - submission.read_bytes - _OUTPUT_BYTES
        if skipped > 0:
            submission.read_bytes += skipped
        if size <= submission.read_bytes:
            return ""
        with submission.log.open("rb") as log:
            log.seek(submission.read_bytes)
            content = log.read(_OUTPUT_BYTES)
        submission.read_bytes += len(content)
        text = last_drawn(submission.decoder.decode(content))
        return f"[{skipped} bytes left out; all of it: {submission.log}]\n{text}" if skipped > 0 else text

    def collect(self, job: str, spec: JobSpec) -> None:
        """Nothing: the nodes write where we read."""
        del job, spec

    def about(self, job: str) -> dict[str, str]:
        """The log, whose siblings are those of the other processes, and the script."""
        submission = self._submissions[job]
        return {"log": str(submission.log), "script": str(submission.folder / _SCRIPT)}

    def _elements(self, job: str, submission: _Submission) -> dict[int, JobState]:
        """How every element stands: by the queue, else by the exit code it left, else by accounting."""
        found = queued(job)
        missing = set(range(submission.elements)) - found.keys()
        for number in sorted(missing):
            if code := _read(submission.folder / f"{END}.{number}"):
                found[number] = JobState("done") if code == "0" else JobState("failed", f"exit code {code}")
        if missing := missing - found.keys():
            found |= {number: state for number, state in accounted(job).items() if number in missing}
        if missing := missing - found.keys():
            now = time.monotonic()
            submission.missing_since = submission.missing_since or now
            is_lost = now - submission.missing_since > _LOST_S
            lost = JobState("failed", "Slurm does not know it any more, and it left no exit code")
            found |= dict.fromkeys(missing, lost if is_lost else JobState("running", "not in the queue any more"))
        else:
            submission.missing_since = None
        return {
            number: _explained(state, submission.folder / f"{END}.{number}")
            for number, state in found.items()
            if number < submission.elements
        }

    def _end(self, job: str, submission: _Submission) -> None:
        """Cancels what still waits or runs, and waits a little until nothing of it does."""
        deadline = time.monotonic() + _CANCEL_S
        is_first = True
        while is_first or (not all(state.is_over for state in self._elements(job, submission).values())):
            if not is_first and time.monotonic() > deadline:
                return  # Slurm has been told; its KillWait is longer
            # Told again: a job that just then asked to be requeued would start once more.
            ask("scancel", job, patience_s=_CANCEL_S)
            time.sleep(0.0 if is_first else 0.5)
            is_first = False


def last_drawn(text: str) -> str:
    """A text as it stands after its carriage returns, line by line; a line still being redrawn begins with one."""
    *whole, rest = text.split("\n")
    lines = [re.split(r"\r+(?=[^\r])", line.rstrip("\r"))[-1].lstrip("\r") for line in whole]
    drawn = re.split(r"\r+(?=[^\r])", rest.rstrip("\r"))[-1].lstrip("\r")
    lines.append(f"\r{drawn}" if "\r" in rest else drawn)
    return "\n".join(lines)


def _explained(state: JobState, end: Path) -> JobState:
    """A failure with what the job's own script knows of it."""
    reasons = {
        str(STOPPED_EARLY): "it had saved, as asked, and was not requeued",
        str(NOTHING_KEPT): "its time limit came before it had anything to keep, and would again: raise `time` in the "
        "launch profile",
    }
    reason = reasons.get(_read(end)) if state.state == "failed" else None
    return JobState("failed", f"{state.reason}; {reason}") if reason else state


def _together(found: dict[int, JobState], submission: _Submission) -> JobState:
    """One state of all elements."""
    bad = [number for number in sorted(found) if found[number].state in ("failed", "cancelled")]
    if not submission.is_array:
        return found[0]
    if bad:
        first = next((number for number in bad if found[number].state == "failed"), bad[0])
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return JobState(
            found[first].state,
            f"share {first} of {submission.elements}{more}: {found[first].reason}; "
            f"its output is in {submission.folder / f'{LOG}.{first}'}",
        )
    counts = {name: sum(state.state == name for state in found.values()) for name in ("done", "running", "waiting")}
    if counts["done"] == submission.elements:
        return JobState("done")
    waits = next((state.reason for state in found.values() if state.state == "waiting"), "")
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return JobState("running" if counts["running"] or counts["done"] else "waiting", f"{told} {waits}".strip())


def _comment(folder: Path) -> str:
    return f"miras:{folder.name}"


def _read(path: Path) -> str:
    """The text of a small file; empty where it is not there."""
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    with finished_file(path) as aside:
        aside.write_text(text, "utf-8")


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
