"""Training processes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pydantic import Field

from miras.config import Section, parse_sections, read_yaml
from miras.errors import MirasError

PROFILE = Path("infra/launch/local.yaml")


class LocalLaunch(Section):
    """infra/launch/local.yaml."""

    processes: int = Field(ge=1)
    """Training processes."""
    deepspeed: bool
    """ZeRO-2 through Accelerate's DeepSpeed plugin."""
    threads: int = Field(ge=0)
    """CPU threads per process; 0 leaves it to torch."""


def read_local_launch(path: Path = PROFILE) -> LocalLaunch:
    """The launch profile of this machine; raises ConfigError naming every mistake in it."""
    sections = parse_sections({"launch": read_yaml(path)}, {"launch": LocalLaunch}, source=str(path))
    launch: LocalLaunch = sections["launch"]
    return launch


def run_workers(module: str, request: Path, launch: LocalLaunch) -> None:
    """Runs `python -m module request` in every process under torchrun and waits for the end.

    Raises:
        MirasError: a process failed; its own message stands above.
    """
    threads = str(launch.threads or max(1, (os.cpu_count() or 1) // launch.processes))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={launch.processes}", "-m", module, str(request)]
    finished = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": threads}, check=False)
    if finished.returncode:
        raise MirasError(
            f"a training process of {launch.processes} failed (exit {finished.returncode}); its message is above. "
            "The last checkpoint is kept; run again to go on from it."
        )
