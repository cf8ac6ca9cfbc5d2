"""What a Dask task of ours does on its worker: a share's process, run to its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed

from miras.errors import JobFailedError
from miras.launch.process import STARTER

_ENDS_S = 1.5
"""A process whose worker is gone ends itself within this (see `miras.launch.process`)."""
_POLL_S = 0.2


@dataclass(frozen=True)
class Share:
    """One share's process."""

    module: str
    request: str
    number: int
    shares: int
    threads: int
    workspace: str
    log: str


def how_failed(code: int) -> str | None:
    """What a process's exit code says; None: it ended well."""
    if not code:
        return None
    return f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"


def run_share(values: dict[str, Any]) -> int:
    """On a worker: runs a share's process to its end; its exit code.

    When the stage takes the share back or is gone, or the worker closes, the process is ended. One that a lost worker
    has started ends itself, which is waited for.
    """
    share = Share(**values)
    is_wanted = _wanted_here()
    log = Path(share.log)
    if log.exists():
        time.sleep(_ENDS_S)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", share.module, share.request, str(share.number), str(share.shares)],
            cwd=share.workspace,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(share.threads),
                "PYTHONUNBUFFERED": "1",
                STARTER: str(os.getpid()),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        while process.poll() is None:
            if not is_wanted():
                raise JobFailedError(f"share {share.number} was taken back")
            time.sleep(_POLL_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode


def _wanted_here() -> Callable[[], bool]:
    """Asks whether the current task of this worker still is to be done."""
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        is_running: bool = worker.status == distributed.Status.running
        return is_running and task is not None and task.state != "cancelled"

    return is_wanted
