"""Which pipeline run a stage belongs to: the flow that started it, else the `dvc` command that did.

All stages of one `make run`, `dvc repro` or deployment run share one, and with it one parent run in MLflow.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

_VARIABLE = "MIRAS_PIPELINE_RUN"


@dataclass(frozen=True)
class Owner:
    """A process, told apart from a later one with the same number."""

    pid: int
    started_ticks: int
    """Start, in clock ticks since boot (/proc/<pid>/stat): unlike a wall-clock time it never shifts."""

    @classmethod
    def of(cls, pid: int) -> Owner:
        """The running process `pid`.

        Raises:
            ProcessLookupError: there is none.
        """
        ticks = _started_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(pid, ticks)

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return _started_ticks(self.pid) == self.started_ticks


@dataclass(frozen=True)
class PipelineRun:
    """One execution of the pipeline."""

    key: str
    """Unique; also the name of its folder in work/tracking."""
    name: str
    """What a person sees in MLflow."""
    owner: Owner
    """When this process is gone, so is the run."""

    @classmethod
    def of_flow(cls, name: str) -> PipelineRun:
        """A new run, owned by this process."""
        return cls(f"flow-{uuid.uuid4().hex[:12]}", name, Owner.of(os.getpid()))

    @classmethod
    def of_stage(cls) -> PipelineRun:
        """The run that this stage's process was started by."""
        told = os.environ.get(_VARIABLE)
        if told:
            values = json.loads(told)
            return cls(values["key"], values["name"], Owner(**values["owner"]))
        dvc = next((p for p in psutil.Process().parents() if _is_dvc(p)), None)
        owner = Owner.of(dvc.pid if dvc else os.getpid())
        started = datetime.fromtimestamp(dvc.create_time()) if dvc else datetime.now()
        kind = "dvc" if dvc else "stage"
        return cls(f"{kind}-{owner.pid}-{owner.started_ticks}", f"{kind} {started:%Y-%m-%d %H:%M}", owner)

    @property
    def is_flow(self) -> bool:
        """Whether a flow drives it (which then holds the workspace)."""
        return self.key.startswith("flow-")

    def environment(self) -> dict[str, str]:
        """What a child process needs to find this run."""
        return {_VARIABLE: json.dumps(asdict(self))}


def _started_ticks(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()  # the name before the bracket may hold blanks
    return None if fields[0] == "Z" else int(fields[19])


def _is_dvc(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    names = [Path(word).name for word in words[:2]]  # `dvc repro`, or `python .../bin/dvc repro`
    return "dvc" in names or words[1:3] == ["-m", "dvc"]
