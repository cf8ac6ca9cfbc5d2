"""Sends the records of a pipeline run to MLflow while its stages run: one process of its own beside them.

    python -m tasks.tracking.live PIPELINE_FOLDER

A process, not a thread: importing MLflow takes seconds of a stage's own imports, and two threads that import packages
with circular imports can break each other (seen). One for all stages, so that MLflow is imported once. It ends with
the pipeline run: when the run was asked to end, or its owner is gone.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miras.errors import MirasError, ServiceUnavailableError
from tasks.tracking.shipping import ship_all
from tasks.tracking.spool import MetricsTail, Spool, close, close_dead_runs, pipelines, remove_finished

log = logging.getLogger(__name__)

_LOOK_S = 0.2  # between two looks for a stage that has ended
_INTERVAL_S = 5.0  # between two sendings of a running stage's records
_RETRY_INTERVAL_S = 60.0  # to a server that is away
_SYSTEM_INTERVAL_S = 10.0
_NICE = 10  # the stages' own work comes first


class Sender:
    """Copies what the stages measure into their runs, and sends the runs, until the pipeline run has ended."""

    def __init__(self, pipeline: Spool) -> None:
        self._pipeline = pipeline
        self._tails: dict[Path, MetricsTail] = {}
        # by an earlier sender: a later try of the same stage writes on in the same metrics.jsonl
        self._closed = {run.folder for run in pipeline.children() if run.last_status() != "RUNNING"}
        self._is_away = False
        self._next_copy_s = 0.0
        self._next_ship_s = 0.0
        self._next_sample_s = time.monotonic() + _SYSTEM_INTERVAL_S

    def until_end(self) -> None:
        """Works until the pipeline run is over; then sends also what earlier ones left."""
        # `dvc exp run --temp` removes the folder with everything in it
        while self._pipeline.folder.exists() and not self._is_over():
            self._look_again()
            time.sleep(_LOOK_S)
        if self._pipeline.folder.exists():
            self._look_again()
            if self._pipeline.wanted_status() == "FAILED" and self._pipeline.last_status() == "FINISHED":
                self._pipeline.status("FAILED")
        close_dead_runs(self._pipeline)
        self._ship([self._pipeline] if self._is_away else pipelines())  # a server that hangs is waited for once
        remove_finished()

    def _is_over(self) -> bool:
        """A stage outlives a killed flow, or `dvc`, by seconds: how it ended is sent, too."""
        running = [run for run in self._pipeline.children() if run.folder not in self._closed]
        return bool(self._pipeline.wanted_status()) and all(run.wanted_status() for run in running)

    def _look_again(self) -> None:
        try:
            self.look()
        except (MirasError, OSError, ValueError) as error:  # a full disk, a folder removed under us: the next may do
            log.warning("records could not be copied or sent, trying again: %s", error)
            time.sleep(_INTERVAL_S)

    def look(self) -> None:
        """Closes the runs that have ended and sends them at once; sends the others from time to time."""
        running = [run for run in self._pipeline.children() if run.folder not in self._closed]
        ended = [run for run in running if run.wanted_status()]
        now_s = time.monotonic()
        if now_s >= self._next_copy_s or ended:
            self._next_copy_s = now_s + _INTERVAL_S
            for run in running:
                self._copy(run)
        for run in ended:
            self._closed.add(run.folder)
            if run.last_status() == "RUNNING":  # else the stage has closed it itself
                close(run, self._pipeline)
        if now_s >= self._next_sample_s and _wants_system_metrics():
            self._next_sample_s = now_s + _SYSTEM_INTERVAL_S
            for run in running:
                if run not in ended:
                    run.metrics(system_metrics())
        if now_s >= self._next_ship_s or ended:
            self._ship([self._pipeline])
        for run in ended:
            run.ending.unlink(missing_ok=True)

    def _copy(self, run: Spool) -> None:
        if run.folder not in self._tails:
            self._tails[run.folder] = MetricsTail(run)
        self._tails[run.folder].copy()

    def _ship(self, spools: list[Spool]) -> None:
        self._next_ship_s = time.monotonic() + _INTERVAL_S
        try:
            ship_all(spools)
        except ServiceUnavailableError as error:
            self._next_ship_s = time.monotonic() + _RETRY_INTERVAL_S
            if not self._is_away:  # said once
                log.warning("%s", error)
            self._is_away = True
        else:
            self._is_away = False


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
    parser = argparse.ArgumentParser(prog="python -m tasks.tracking.live")
    parser.add_argument("pipeline", type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # we say ourselves when a server is away
    os.nice(_NICE)
    Sender(Spool(options.pipeline)).until_end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
