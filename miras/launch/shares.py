"""A stage's work shared out over processes of this machine: each takes every n-th piece of a plan.

Process number k of n runs `python -m <module> <plan> <k> <n>`. It ends when its standard input does, so none outlives
the stage that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from miras.errors import MirasError

_POLL_S = 0.2


def run_shares(module: str, plan: Path, *, processes: int, threads: int, watch: Callable[[], None], name: str) -> None:
    """Runs a module in every process and waits for the end.

    Args:
        module: its `__main__` calls `share_main`.
        plan: what it reads.
        processes: how many.
        threads: of torch in each.
        watch: called while they work, to show progress.
        name: of the stage, for messages.

    Raises:
        MirasError: a process failed; its own message stands above.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(plan), str(share), str(processes)],
            stdin=subprocess.PIPE,
            env=environment,
        )
        for share in range(processes)
    ]
    try:
        while any(worker.poll() is None for worker in workers):
            time.sleep(_POLL_S)
            watch()
            if any(worker.poll() for worker in workers):
                break
        if exit_codes := [worker.poll() for worker in workers if worker.poll()]:
            raise MirasError(
                f"{name}: a process of {processes} failed (exit {exit_codes[0]}); its message is above. "
                "What was finished is kept; run again to go on from it."
            )
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def share_main(make: Callable[[Path, int, int], None]) -> None:
    """The `__main__` of such a module: `make(plan, share, processes)`, then the process ends."""
    _end_with_starter()
    sys.exit(exit_code_of(make, Path(sys.argv[1]), share=int(sys.argv[2]), processes=int(sys.argv[3])))


def exit_code_of(make: Callable[[Path, int, int], None], plan: Path, *, share: int, processes: int) -> int:
    """Runs one share; an error that a user can cause is one message and exit code 1."""
    try:
        make(plan, share, processes)
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _end_with_starter() -> None:
    """Ends this process when the stage ends, however it ends: the system then closes our standard input."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read(): a thread inside it spoils the end of the interpreter
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the stage
    threading.Thread(target=watch, daemon=True).start()
