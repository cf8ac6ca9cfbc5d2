"""Sends a stage's records to MLflow while the stage runs: a process of its own beside the stage's.

    python -m tasks.live PIPELINE_FOLDER RUN_FOLDER METRICS_FILE

A process, not a thread: importing MLflow beside the stage's own imports costs it time, and two threads that
import packages with circular imports can break each other (seen). The stage writes its final status to our
standard input; when it is killed, the input just ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miras.errors import ServiceUnavailableError
from tasks.shipping import ship
from tasks.spool import Spool, pipelines, remove_finished

log = logging.getLogger(__name__)

_INTERVAL_S = 5.0
_RETRY_INTERVAL_S = 60.0  # to a server that is away
_SYSTEM_INTERVAL_S = 10.0


class MetricsTail:
    """Copies new lines of a stage's `metrics.jsonl` into the spool.

    A line is a JSON object with `step`, `samples` and numbers by name. A resumed training may cut the file
    back to its checkpoint and write the same steps again: each step of a metric is copied once.
    """

    def __init__(self, file: Path, spool: Spool) -> None:
        self._file = file
        self._spool = spool
        self._offset_bytes = 0
        self._seen: set[tuple[str, int]] = set()

    def copy(self) -> None:
        """Copies what was written since the last call."""
        if not self._file.exists():
            return
        with self._file.open("rb") as lines:
            if self._file.stat().st_size < self._offset_bytes:
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
            self._spool.metrics(numbers, step=step)


class Shipper:
    """Copies what a stage measures into its run, and sends the run, until the stage has ended."""

    def __init__(self, *, pipeline: Spool, run: Spool, metrics_file: Path) -> None:
        self._pipeline = pipeline
        self._run = run
        self._tail = MetricsTail(metrics_file, run)
        self._next_ship_s = 0.0
        self._next_sample_s = time.monotonic() + _SYSTEM_INTERVAL_S

    def until_end(self) -> None:
        """Works until the standard input says how the stage ended."""
        while not select.select([sys.stdin], [], [], _INTERVAL_S if self._next_ship_s else 0)[0]:
            self._tail.copy()
            self._sample_system()
            if time.monotonic() >= self._next_ship_s:
                self._ship([self._pipeline])
        status = sys.stdin.readline().strip() or "KILLED"
        self._tail.copy()
        self._run.status(status)
        self._pipeline.status(status)
        self._ship(pipelines())  # also what earlier runs left
        remove_finished()

    def _ship(self, spools: list[Spool]) -> None:
        self._next_ship_s = time.monotonic()
        try:
            for pipeline in spools:
                ship(pipeline)
        except ServiceUnavailableError as error:
            self._next_ship_s += _RETRY_INTERVAL_S
            if not self._waits_file.exists():
                log.warning("%s", error)
            self._waits_file.touch()
        else:
            self._waits_file.unlink(missing_ok=True)

    @property
    def _waits_file(self) -> Path:
        """There while MLflow is away: the stages of one pipeline run say so once."""
        return self._pipeline.folder / "waits"

    def _sample_system(self) -> None:
        if time.monotonic() < self._next_sample_s or not _wants_system_metrics():
            return
        self._next_sample_s = time.monotonic() + _SYSTEM_INTERVAL_S
        self._run.metrics(system_metrics())


def _wants_system_metrics() -> bool:
    return os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() != "false"


def system_metrics() -> dict[str, float]:
    """Load of processors, memory, disk and GPUs now, under the names MLflow's own page shows."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (ImportError, RuntimeError):  # no NVIDIA library or no such device: nothing to measure
        log.debug("tracking.no_gpu_metrics")
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values.update({f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()})
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's work."""
    parser = argparse.ArgumentParser(prog="python -m tasks.live")
    for name in ("pipeline", "run", "metrics_file"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # we say ourselves when a server is away
    run = Spool(options.run)
    Shipper(pipeline=Spool(options.pipeline), run=run, metrics_file=options.metrics_file).until_end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
