"""A Slurm cluster of this machine alone, started for these tests from Debian's packages."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parents[2] / "infra" / "slurm" / "cluster.sh"


@dataclass(frozen=True)
class Cluster:
    """It runs, and SLURM_CONF names it."""

    folder: Path

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints."""
        return subprocess.check_output(command, text=True, timeout=60).strip()

    def states(self, job: str) -> list[str]:
        """Of all elements."""
        return self.ask("squeue", "-h", "-t", "all", "-r", "-j", job, "-o", "%T").split()

    def pid(self, daemon: str) -> int:
        """Of slurmctld or slurmd."""
        return int((self.folder / f"{daemon}.pid").read_text())

    def jobs(self) -> list[str]:
        """All since the test began, as numbers."""
        return sorted(set(self.ask("squeue", "-h", "-t", "all", "-o", "%F").split()), key=int)


def _free_ports() -> int:
    """The first of two neighbours that are free."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """The cluster; tests that need it skip where Slurm is not installed."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    if missing := [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name, path=path)]:
        pytest.skip(f"not installed: {', '.join(missing)} (apt-get install slurmctld slurmd slurm-client munge)")
    folder = Path(tempfile.mkdtemp(prefix="miras-slurm-"))  # short: a socket's path has 107 characters
    settings = {"CLUSTER_DIR": str(folder), "CLUSTER_PORT": str(_free_ports())}
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    for name, value in settings.items():
        patch.setenv(name, value)
    try:
        subprocess.run([CLUSTER, "start"], check=True)
        yield Cluster(folder)
    finally:
        subprocess.run([CLUSTER, "stop"], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        patch.undo()
