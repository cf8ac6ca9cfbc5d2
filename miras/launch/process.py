"""What every process of a job does first and last, wherever it runs.

    python -m <module> <request>                     one of the ranks; RANK and WORLD_SIZE say which
    python -m <module> <request> <share> <shares>    one of the shares

The place that starts it may name three things in the environment: MIRAS_STARTER, a process without which this one has
to end; MIRAS_SAVE_ON_SIGNAL, which makes SIGUSR1 and SIGTERM a wish to save and stop (see `stop_is_wanted`); and
MIRAS_KEPT, a file that a share makes when it has finished something that is kept (see `something_is_kept`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from miras.errors import MirasError, StoppedEarlyError
from miras.files import write_json
from miras.launch.job import ERROR

STARTER = "MIRAS_STARTER"
SAVE_ON_SIGNAL = "MIRAS_SAVE_ON_SIGNAL"
KEPT = "MIRAS_KEPT"
STOPPED_EARLY = 75
"""Exit code of a process that saved and stopped because it was asked to: it wants to go on later (EX_TEMPFAIL)."""
_WATCH_S = 0.5
_PR_SET_PDEATHSIG = 1
_AFTER_FIRST_S = 2.0
_wanted = threading.Event()


def rank_main(run: Callable[[Path], None]) -> None:
    """The `__main__` of a module for ranks: runs the request, then ends the process."""
    request = Path(sys.argv[1])
    _find_rank(os.environ)
    _prepare()
    rank = int(os.environ["RANK"])
    code = exit_code_of(lambda: run(request), request, number=rank)
    if code == STOPPED_EARLY and rank:
        time.sleep(_AFTER_FIRST_S)  # who starts the ranks may end all as soon as one has: the first has the last word
    sys.exit(code)


def share_main(run: Callable[[Path, int, int], None]) -> None:
    """The `__main__` of a module for shares: `run(request, share, shares)`, then ends the process."""
    request, share, shares = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    _prepare()
    sys.exit(exit_code_of(lambda: run(request, share, shares), request, number=share))


def exit_code_of(run: Callable[[], None], request: Path, *, number: int) -> int:
    """Runs it; an error that a user can cause is left beside the request, for the stage to raise."""
    try:
        run()
    except StoppedEarlyError as stopped:
        print(stopped, file=sys.stderr, flush=True)
        return STOPPED_EARLY
    except MirasError as error:
        # A name of its own: several may fail at once, and all that they say is told.
        write_json(request.with_name(f"{ERROR}.{number:05d}"), {"kind": type(error).__name__, "message": str(error)})
        return 1
    return 0


def stop_is_wanted() -> bool:
    """Whether this process was asked to save and stop, by a time limit, a preemption or a spot instance's end."""
    return _wanted.is_set()


def something_is_kept() -> None:
    """Says that a part of a share is finished: stopped now and started again, it would come further than this time."""
    if file := os.environ.get(KEPT):
        Path(file).touch()


def _prepare() -> None:
    if starter := os.environ.get(STARTER):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the stage
        _end_with(int(starter))
    if os.environ.get(SAVE_ON_SIGNAL):
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, _want_stop)


def _want_stop(_number: int, _frame: FrameType | None) -> None:
    _wanted.set()


def _find_rank(environment: Mapping[str, str]) -> None:
    """Gives torch.distributed, Accelerate and DeepSpeed the names they look for where Slurm has set its own."""
    if "RANK" not in environment and "SLURM_PROCID" in environment:
        os.environ.update(
            RANK=environment["SLURM_PROCID"],
            WORLD_SIZE=environment["SLURM_NTASKS"],
            LOCAL_RANK=environment["SLURM_LOCALID"],
        )


def _end_with(starter: int) -> None:
    """Ends this process when the one that started it is gone: it would go on writing into a workspace in use."""
    if sys.platform == "linux":  # at once, by the kernel
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == starter:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()
