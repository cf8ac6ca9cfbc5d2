"""What benchmarks share: time and memory of calls that take turns, and rows of results, printed and written.

Results go to `benchmarks/results/<name>-<device>.json`.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from miras.files import write_json

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Cost:
    """Of one call."""

    wall_s: float
    cpu_s: float
    """Of the process, all its threads."""
    bytes: float


@dataclass(frozen=True)
class Row:
    """One measure of both sides."""

    measure: str
    ours: float | None
    """None: could not be measured (out of memory)."""
    other: float | None
    ratio: float | None
    """How many times better ours is: below 1 it is worse. None where a side is missing or is zero."""
    unit: str
    target: str
    """What was promised, such as "ratio >= 3"; empty where nothing was."""
    met: bool | None
    """None without target, or where it could not be measured."""


def measure(calls: Mapping[str, Callable[[], object]], *, device: torch.device, repetitions: int) -> dict[str, Cost]:
    """What each call costs: a first call for its memory, then medians of timed ones, all taking turns.

    A call that runs out of the GPU's memory is left out.
    """
    left = dict(calls)
    peaks: dict[str, int] = {}
    walls: dict[str, list[float]] = {name: [] for name in calls}
    cpus: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        with _out_of_memory(left, name):
            call()  # the first one makes the optimiser's state
            peaks[name] = added_bytes(call, device)
    for repetition in range(repetitions):
        for name in list(left)[:: -1 if repetition % 2 else 1]:
            with _out_of_memory(left, name):
                _synchronise(device)
                wall, cpu = time.perf_counter(), time.process_time()
                left[name]()
                _synchronise(device)
                walls[name].append(time.perf_counter() - wall)
                cpus[name].append(time.process_time() - cpu)
    for name in left:
        shown = " ".join(f"{seconds:.3f}" for seconds in sorted(walls[name]))
        print(f"{name}: seconds {shown}; of the processor, median {statistics.median(cpus[name]):.3f}", flush=True)
    return {name: Cost(statistics.median(walls[name]), statistics.median(cpus[name]), peaks[name]) for name in left}


@contextmanager
def _out_of_memory(left: dict[str, Any], name: str) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        print(f"{name}: out of memory", flush=True)
        del left[name]
        torch.cuda.empty_cache()


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def added_bytes(call: Callable[[], object], device: torch.device) -> int:
    """The most that torch's tensors take during a call beyond what they took before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says on stderr that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    results: Any = profiler.profiler
    changes = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


def compare(
    measure: str,
    *,
    ours: float | None,
    other: float | None,
    unit: str,
    more_is_better: bool = False,
    least_ratio: float | None = None,
) -> Row:
    """The row of two measured values, with a target on their ratio if there is one."""
    ratio = None
    if ours and other:
        ratio = ours / other if more_is_better else other / ours
    met = None if least_ratio is None or ratio is None else ratio >= least_ratio
    target = "" if least_ratio is None else f"ratio >= {least_ratio:g}"
    return Row(measure, _rounded(ours), _rounded(other), _rounded(ratio), unit, target, met)


def publish(name: str, device: str, rows: Sequence[Row], *, is_quick: bool = False, folder: Path = RESULTS) -> None:
    """Prints the rows and writes them, each with commit and date; quick ones are only printed."""
    print(table(rows))
    if is_quick:
        print("quick figures: not written")
        return
    stamp = {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    path = folder / f"{name}-{device}.json"
    write_json(path, [asdict(row) | stamp for row in rows])
    print(f"written to {path}")


def table(rows: Sequence[Row]) -> str:
    """The rows as text in columns."""
    names = [field.name for field in fields(Row)]
    cells = [names, *([_shown(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def device_name(device: torch.device) -> str:
    """The device as part of a file name: "cpu-2-cores", "nvidia-h200"."""
    if device.type == "cpu":
        return f"cpu-{os.cpu_count()}-cores"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def commit() -> str:
    """The commit of the code that ran, with "-dirty" where files differ from it; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _shown(value: str | float | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"
