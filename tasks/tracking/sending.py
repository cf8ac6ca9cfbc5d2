"""The process that sends a pipeline run's records to MLflow (`tasks.tracking.live`): started by the first stage,
one for all.

It holds a lock on the run's folder as long as it lives; its remarks go to a file there, for it outlives the stage that
started it.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tasks.tracking.spool import Sent, Spool, close, remove_finished

_LAST_SENDING_S = 120.0  # the wait for a slow server at the end
_LOOK_S = 0.05


def start(pipeline: Spool) -> None:
    """Starts the sender of a pipeline run, if none is at work."""
    with (pipeline.folder / "live.lock").open("a") as lock, _remarks_file(pipeline).open("ab") as remarks_file:
        if not _take(lock):
            return
        pipeline.ending.unlink(missing_ok=True)
        subprocess.Popen(
            [sys.executable, "-m", "tasks.tracking.live", str(pipeline.folder)],
            stdin=subprocess.DEVNULL,
            stdout=remarks_file,
            stderr=remarks_file,
            pass_fds=(lock.fileno(),),  # the lock goes over to the new process: held from now until its end
            start_new_session=True,  # Ctrl-C ends the stage; how it ended must still be sent
        )


def finish_run(run: Spool, pipeline: Spool, status: str, *, wait: bool) -> None:
    """Asks the sender to close a stage's run; `wait`: until it has tried to send everything."""
    run.end(status)
    start(pipeline)  # the one that was there may have died
    if wait:
        _wait_until(lambda: not run.ending.exists() or not pipeline.has_sender())
    if run.ending.exists() and not pipeline.has_sender():  # it died, too
        close(run, pipeline)
        run.ending.unlink()


def finish(pipeline: Spool, *, has_failed: bool = False) -> Sent:
    """Asks the sender to send what there is, waits until it has ended, and says how far it came.

    For the run's owner. Nothing happens where no stage has run.

    `has_failed`: although its stages may have ended well: the next one could not even begin.
    """
    if not pipeline.events.exists():
        return Sent(0, None)
    pipeline.end("FAILED" if has_failed else "FINISHED")
    _wait_until(lambda: not pipeline.has_sender())
    sent = pipeline.sent()
    remove_finished()
    return sent


def remarks(pipeline: Spool) -> str:
    """What the sender had to say so far: that MLflow is away, for instance. Empty if all is well."""
    try:
        return _remarks_file(pipeline).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _remarks_file(pipeline: Spool) -> Path:
    return pipeline.folder / "sender.log"


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_until(is_done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _LAST_SENDING_S
    while not is_done() and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
