"""Training processes on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from pydantic import Field

from miras import errors
from miras.config import Section, parse_sections, read_yaml
from miras.errors import MirasError

PROFILE = Path("infra/launch/local.yaml")
ERROR = "error.json"
_POLL_S = 0.1


class LocalLaunch(Section):
    """infra/launch/local.yaml."""

    processes: int = Field(ge=1)
    """Training processes."""
    zero_stage: Literal[0, 2, 3]
    """What the processes share by DeepSpeed: nothing (0: plain Accelerate), optimiser and gradients (2), weights too
    (3)."""
    gradient_checkpointing: bool
    """Computes the language model's activations again in the backward pass: less memory, more time, same results."""
    threads: int = Field(ge=0)
    """CPU threads per process; 0 leaves it to torch (when answering test questions: one)."""
    predict_processes: int = Field(ge=0)
    """Processes that share the test questions; 0: one per GPU, without GPU one per core, at most 8."""
    gpu_memory_gb: float | None = Field(gt=0, strict=False)
    """Memory of one GPU in 1e9 bytes, for `miras plan`; null: asked from CUDA, without CUDA the machine's RAM."""
    tflops: float | None = Field(gt=0, strict=False)
    """Sustained 1e12 operations a second per process, for `miras plan`; null: from a table, on a CPU measured."""


def read_local_launch(path: Path = PROFILE) -> LocalLaunch:
    """The launch profile of this machine; raises ConfigError naming every mistake in it."""
    sections = parse_sections({"launch": read_yaml(path)}, {"launch": LocalLaunch}, source=str(path))
    launch: LocalLaunch = sections["launch"]
    return launch


def run_workers(module: str, request: Path, launch: LocalLaunch) -> None:
    """Runs `python -m module request` in every process and waits for the end; none outlives this call.

    The first one writes to our own output, the others to `process<number>.log` beside the request.

    Raises:
        MirasError: what a process left in `error.json` beside the request, as the class it was there; else which
            process ended how.
    """
    (request.parent / ERROR).unlink(missing_ok=True)
    with ExitStack() as stack:
        workers = []
        port = _free_port()
        for rank in range(launch.processes):
            output = stack.enter_context(_log(request, rank).open("w")) if rank else None
            worker = subprocess.Popen(
                [sys.executable, "-m", module, str(request)],
                env=os.environ | _environment(launch, rank=rank, port=port),
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end them
            )
            stack.callback(worker.wait)
            stack.callback(worker.kill)  # at any moment the last checkpoint is whole
            workers.append(worker)
        _wait(workers, request)


def _environment(launch: LocalLaunch, *, rank: int, port: int) -> dict[str, str]:
    """What torch.distributed, Accelerate and DeepSpeed want to find."""
    threads = launch.threads or max(1, (os.cpu_count() or 1) // launch.processes)
    values = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": launch.processes,
        "LOCAL_WORLD_SIZE": launch.processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": threads,
    }
    return {name: str(value) for name, value in values.items()}


def _wait(workers: Sequence[subprocess.Popen[bytes]], request: Path) -> None:
    while not any(codes := [worker.poll() for worker in workers]):
        if None not in codes:
            return
        time.sleep(_POLL_S)
    rank, code = next((rank, code) for rank, code in enumerate(codes) if code)
    left = request.parent / ERROR
    if left.exists():
        found = json.loads(left.read_text("utf-8"))
        raise getattr(errors, found["kind"])(found["message"])
    ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    where = f"its output is in {_log(request, rank)}" if rank else "its output is above"
    raise MirasError(
        f"training process {rank} of {len(workers)} {ended}; {where}. "
        "The last checkpoint is kept; run again to go on from it."
    )


def _log(request: Path, rank: int) -> Path:
    return request.with_name(f"process{rank}.log")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
