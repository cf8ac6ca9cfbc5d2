"""A workspace of its own for what would disturb this one: a copy of the repository without any result."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 1800.0
STATE = ("DVC_", "MIRAS_", "MLFLOW_", "PREFECT_")  # variables of a run that we may be part of


def copy_repository(target: Path, *, preset: str = "smoke") -> None:
    """The repository with what is not committed yet, as one commit, with a preset in the place of params.yaml."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    shutil.copyfile(ROOT / "presets" / f"{preset}.yaml", target / "params.yaml")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "start")):
        subprocess.run(["git", *words], cwd=target, check=True)


def plain_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the state of a run, with this Python's tools first."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    path = os.pathsep.join([str(Path(sys.executable).parent), plain["PATH"]])
    quiet = {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false", "OMP_NUM_THREADS": "1"}
    return {**plain, **quiet, "PATH": path, **variables}


@dataclass(frozen=True)
class Workspace:
    """Such a copy."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *, preset: str = "smoke") -> Workspace:
        """A fresh copy of the repository in a new folder."""
        folder.mkdir(parents=True)
        copy_repository(folder, preset=preset)
        return cls(folder)

    def fork(self, folder: Path) -> Workspace:
        """A copy of everything that is in it."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workspace(folder)

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """A command in it, in a session of its own; what it prints is read from `stdout`."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=plain_environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in it, to its end."""
        with self.start(*command, **variables) as process:
            said, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, said)

    def must(self, *command: str, **variables: str) -> str:
        """What a command prints that has to end well.

        Raises:
            RuntimeError: it did not; with the end of what it printed.
        """
        done = self.run(*command, **variables)
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(command)} in {self.folder}: exit code {done.returncode}\n{done.stdout[-3000:]}"
            )
        return done.stdout


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that has to happen.

    Raises:
        RuntimeError: it did not, in time.
    """
    ends = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > ends:
            raise RuntimeError(f"waited {LIMIT_S:.0f} s in vain: {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A real Slurm cluster of this machine, ended at the end; yields the variables that its commands need.

    Raises:
        FileNotFoundError: Slurm is not installed; the message names what is missing.
    """
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    if missing := [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name, path=path)]:
        raise FileNotFoundError(f"needs Debian's slurmctld, slurmd, slurm-client and munge ({', '.join(missing)})")
    script = str(ROOT / "infra" / "slurm" / "cluster.sh")
    settings = {"CLUSTER_DIR": str(folder), "CLUSTER_PORT": str(free_port()), "SLURM_CONF": str(folder / "slurm.conf")}
    environment = {**os.environ, **settings}
    subprocess.run([script, "start"], env=environment, check=True)
    try:
        yield settings
    finally:
        subprocess.run([script, "stop"], env=environment, check=False)


@contextmanager
def service(folder: Path, *command: str, health: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A server that answers, run in a folder and ended at the end."""
    log = (folder / "server.log").open("a")
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=plain_environment(variables),
        stdout=log,
        stderr=log,
        text=True,
        start_new_session=True,
    )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(health, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(answers, f"an answer from {health}")
        yield process
    finally:
        kill_tree(process)
        log.close()


def kill_tree(process: subprocess.Popen[str]) -> None:
    """kill -9 of a server and its own workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
