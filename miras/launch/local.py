"""Jobs as processes of this machine; they end with the stage that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from miras.launch.job import JobSpec, JobState
from miras.launch.process import STARTER
from miras.launch.profiles import Launch


class LocalLaunch(Launch):
    """A profile of this machine: its GPUs, else its cores."""

    place: Literal["local"]


class LocalPlace:
    """Processes of this machine. The first one prints where the stage does, others to `process<number>.log`."""

    name = "local"
    poll_s = 0.1

    def __init__(self, launch: Launch) -> None:
        del launch  # a job's own numbers say all
        self._running: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._logs: dict[str, Path] = {}

    def attach(self, spec: JobSpec) -> str | None:
        """None: no process of ours outlives its stage."""
        del spec
        return None

    def submit(self, spec: JobSpec) -> str:
        """Starts the processes; the first one's pid is the job's number."""
        port = _free_port()
        processes = []
        for number in range(spec.processes):
            with ExitStack() as stack:  # closed here at once: the log is the process's own
                output = stack.enter_context(_log(spec.folder, number).open("wb")) if number else None
                processes.append(
                    subprocess.Popen(
                        _command(spec, number),
                        env={**os.environ, **_environment(spec, number, port)},
                        stdout=output,
                        stderr=output,
                        start_new_session=True,  # Ctrl-C reaches the stage alone, and that ends them
                    )
                )
        job = str(processes[0].pid)
        self._running[job], self._logs[job] = processes, spec.folder
        return job

    def state(self, job: str) -> JobState:
        """One process that fails ends all of them."""
        processes = self._running[job]
        codes = [process.poll() for process in processes]
        if any(codes):
            self.cancel(job)
            number, code = next((number, code) for number, code in enumerate(codes) if code)
            return JobState("failed", f"process {number} of {len(codes)} {_ended(code)}; {self._output(job, number)}")
        return JobState("running" if None in codes else "done")

    def cancel(self, job: str) -> None:
        """At any moment the last checkpoint is whole: nothing is lost by killing them."""
        for process in self._running[job]:
            process.kill()
        for process in self._running[job]:
            process.wait()

    def new_output(self, job: str) -> str:
        """Nothing: the first process prints to our own output."""
        del job
        return ""

    def collect(self, job: str, spec: JobSpec) -> None:
        """Nothing: they write here."""
        del job, spec

    def about(self, job: str) -> dict[str, str]:
        """Nothing that the message does not say."""
        del job
        return {}

    def _output(self, job: str, number: int) -> str:
        return f"its output is in {_log(self._logs[job], number)}" if number else "its output is above"


def _command(spec: JobSpec, number: int) -> list[str]:
    command = [sys.executable, "-m", spec.module, str(spec.request)]
    return command if spec.kind == "ranks" else [*command, str(number), str(spec.processes)]


def _environment(spec: JobSpec, number: int, port: int) -> dict[str, str]:
    """For ranks what torch.distributed, Accelerate and DeepSpeed want to find."""
    threads = spec.threads or max(1, (os.cpu_count() or 1) // spec.processes)
    values: dict[str, str | int] = {"OMP_NUM_THREADS": threads, STARTER: os.getpid()}
    if spec.kind == "ranks":
        values |= {
            "RANK": number,
            "LOCAL_RANK": number,
            "WORLD_SIZE": spec.processes,
            "LOCAL_WORLD_SIZE": spec.processes,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
    return {name: str(value) for name, value in values.items()}


def _ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


def _log(folder: Path, number: int) -> Path:
    return folder / f"process{number}.log"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
