"""Time from submission to the first training step on Slurm: `python -m benchmarks.slurm_start [--processes 2]`.

On the cluster that Slurm's commands here speak to (`infra/slurm/cluster.sh start` makes one), with a network of some
thousand parameters on rendered scenes: measured are Slurm, imports of Python, torch.distributed and DeepSpeed, not the
network. The queue is empty; how long others keep a job waiting is theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from miras.launch.job import JobSpec
from miras.launch.profiles import open_place, read_launch
from miras.launch.slurm import SlurmLaunch
from miras.metrics_log import METRICS
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace, train_config

ROOT = Path(__file__).parents[1]
LIMIT_S = 600.0
POLL_S = 0.05


@dataclass(frozen=True)
class Start:
    """Seconds since sbatch was called."""

    accepted_s: float
    """sbatch has answered."""
    running_s: float
    """squeue shows it running."""
    script_s: float
    """The script has printed its first line."""
    first_step_s: float
    """metrics.jsonl has its first line."""


def measure_start(folder: Path, *, processes: int, zero_stage: int = 2) -> Start:
    """Submits a training job in a new folder and cancels it after its first step.

    Raises:
        TimeoutError: there was no first step within ten minutes; the message names the log.
    """
    with contextlib.chdir(ROOT):  # where the launch profiles are
        paths = build_workspace(folder.resolve() / "workspace")
    launch = write_profile(folder, processes=processes, zero_stage=zero_stage)
    work = folder / "work"
    work.mkdir()
    request = {
        "stage": "stage1",
        "paths": paths.model_dump(),
        "work": str(work.resolve()),
        "network": network_config().model_dump(),
        "config": train_config(steps=10_000, checkpoint_every=10_000, validate_every=10_000).model_dump(),
        "launch": launch.for_process().model_dump(),
    }
    (work / "request.json").write_text(json.dumps(request))
    place = open_place(launch)
    spec = JobSpec("stage1", "miras.train.worker", work / "request.json", "ranks", processes, threads=1)
    begun = time.monotonic()
    job = place.submit(spec)
    seen = {"accepted_s": time.monotonic() - begun}
    log = Path(place.about(job)["log"])
    try:
        while "first_step_s" not in seen:
            now = time.monotonic() - begun
            if now > LIMIT_S or place.state(job).is_over:
                raise TimeoutError(f"no first step after {now:.0f} s; see {log}")
            if place.state(job).state == "running":
                seen.setdefault("running_s", now)
            if log.exists() and log.stat().st_size:
                seen.setdefault("script_s", now)
            if (work / METRICS).exists() and (work / METRICS).stat().st_size:
                seen["first_step_s"] = now
            time.sleep(POLL_S)
    finally:
        place.cancel(job)
    seen.setdefault("running_s", seen["script_s"])
    return Start(**{name: round(value, 2) for name, value in seen.items()})


def write_profile(folder: Path, *, processes: int, zero_stage: int) -> SlurmLaunch:
    """The shipped profile for a small job on CPUs."""
    values = yaml.safe_load((ROOT / "infra" / "launch" / "slurm.yaml").read_text("utf-8"))
    values |= {"processes": processes, "zero_stage": zero_stage, "gpus_per_node": 0, "cpus_per_process": 1}
    values |= {"memory_gb": 2 * processes, "threads": 1, "time": 30, "poll_s": 1}
    file = folder / "launch.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")
    launch = read_launch(str(file))
    assert isinstance(launch, SlurmLaunch)
    return launch


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm_start", description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    os.environ["MIRAS_LOG_EVERY_S"] = "0"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        print(json.dumps(asdict(measure_start(Path(folder), processes=options.processes))))


if __name__ == "__main__":
    main()
