"""What the faults of `benchmarks.faults` are injected into: prepared workspaces, ways to break them, comparisons."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.workspace import LIMIT_S, Workspace, wait_until
from miras.train.checkpoint import FILE, read_metadata

STEPS, CHECKPOINT_EVERY = 40, 5
BREAK_AFTER = 12  # lines of metrics: in the middle between two checkpoints
EVERY_STEP = {"MIRAS_LOG_EVERY_S": "0"}
STAGE1 = ("dvc", "repro", "stage1")
FLOW = (sys.executable, "-m", "flows.train_miras", "--until-stage", "stage1")


@dataclass(frozen=True)
class Outcome:
    """A row of the table."""

    fault: str
    injected: str
    seen: str
    """What the user is shown, and what has to be done."""
    lost: str
    is_as_promised: bool = True


class NotRunError(Exception):
    """The fault cannot be injected on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Bench:
    """The prepared workspaces."""

    root: Path
    prepared: Workspace
    """Run up to `features`."""
    undisturbed: Workspace
    """Run up to `evaluate` by one process."""

    def fork(self, name: str, *, of: Workspace | None = None) -> Workspace:
        """A copy to break."""
        return (of or self.prepared).fork(self.root / name)


def prepare(root: Path) -> Bench:
    """Runs the pipeline that the faults are compared with."""
    prepared = Workspace.make(root / "prepared")
    params = prepared.folder / "params.yaml"
    head, mark, tail = params.read_text("utf-8").partition("\nstage1:")
    tail = re.sub(r"steps: \d+", f"steps: {STEPS}", tail, count=1)
    tail = re.sub(r"micro_batch_size: \d+", "micro_batch_size: 2", tail, count=1)
    tail = re.sub(r"checkpoint_every: \d+", f"checkpoint_every: {CHECKPOINT_EVERY}", tail, count=1)
    tail = re.sub(r"validate_every: \d+", f"validate_every: {STEPS}", tail, count=1)
    params.write_text(head + mark + tail, "utf-8")
    prepared.must("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "longer")
    prepared.must("dvc", "repro", "features")
    undisturbed = prepared.fork(root / "undisturbed")
    undisturbed.must("dvc", "repro", "evaluate", **EVERY_STEP)
    return Bench(root, prepared, undisturbed)


# --- comparing


def digest(place: Path) -> str:
    """Hash of a file, or of all files of a folder with their names."""
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(place)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def same(bench: Bench, workspace: Workspace, place: str = "models/stage1", *, of: Workspace | None = None) -> bool:
    """Whether a result equals the undisturbed one, byte by byte."""
    return digest(workspace.folder / place) == digest((of or bench.undisturbed).folder / place)


def stage_work(workspace: Workspace, stage: str = "stage1") -> Path | None:
    """The stage's work folder, where it has begun."""
    found = [path for path in (workspace.folder / "work" / stage).glob("*") if path.is_dir()]
    return found[0] if found else None


def lines(workspace: Workspace) -> int:
    """Training steps that have been written down."""
    work = stage_work(workspace)
    path = work / "metrics.jsonl" if work else None
    return path.read_bytes().count(b"\n") if path and path.exists() else 0


def redone(workspace: Workspace) -> int:
    """Training steps that were done and are not in the last checkpoint."""
    work = stage_work(workspace)
    assert work is not None
    return lines(workspace) - int(read_metadata(work / FILE)["step"])


def steps_lost(bench: Bench, workspace: Workspace, steps: int, most: int = CHECKPOINT_EVERY) -> tuple[str, bool]:
    """The last column for a training that was run again."""
    is_equal = same(bench, workspace)
    text = f"{steps} steps of computing (at most the {most} since a checkpoint); the weights are equal byte by byte"
    return (text, steps <= most) if is_equal else (f"{steps} steps, and THE WEIGHTS DIFFER", False)


# --- breaking


def train_until(workspace: Workspace, command: Sequence[str] = STAGE1, **variables: str) -> subprocess.Popen[str]:
    """Starts the training and returns in the middle of it."""
    process = workspace.start(*command, **EVERY_STEP, **variables)

    def is_there() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"ended before it could be broken:\n{process.stdout and process.stdout.read()}")
        return lines(workspace) >= BREAK_AFTER

    wait_until(is_there, "training steps")
    return process


def child(process: subprocess.Popen[str], *words: str) -> psutil.Process:
    """The process below another whose command holds these words; of several the last."""
    found = [p for p in psutil.Process(process.pid).children(recursive=True) if set(words) <= set(p.cmdline())]
    return found[-1]


def end(process: subprocess.Popen[str]) -> str:
    """What it printed, after its end."""
    said, _ = process.communicate(timeout=LIMIT_S)
    return said


def last_line(text: str) -> str:
    """The last thing a person reads, without DVC's own remark."""
    shown = [line.split("\r")[-1].strip() for line in text.splitlines()]
    return [
        line for line in shown if line and not line.startswith(("ERROR: failed to reproduce", "To track", "git add"))
    ][-1]


def flip(path: Path) -> None:
    """Changes one byte in the middle of a file."""
    path.chmod(0o644)  # DVC's cache is read-only
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
