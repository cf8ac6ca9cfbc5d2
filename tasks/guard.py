"""A stage never outlives who started it.

DVC leaves a stage's command running when DVC itself is killed; it would then write into a workspace that the
next run already uses.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from miras.errors import StarterGoneError
from tasks.pipeline_run import Owner, PipelineRun

_INTERVAL_S = 1.0


@contextmanager
def stopped_with_its_starters() -> Iterator[None]:
    """SIGTERM, and the death of the parent process or of the flow, act like Ctrl-C on what runs inside.

    Raises:
        StarterGoneError: inside, in the main thread: a starter is dead.
        KeyboardInterrupt: likewise, on SIGTERM otherwise.
    """
    starters = [PipelineRun.of_stage().owner, *_parent()]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL_S):
            if not all(starter.is_alive() for starter in starters):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt if all(starter.is_alive() for starter in starters) else StarterGoneError

    before = signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=watch, name="guard", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGTERM, before)


def _parent() -> list[Owner]:
    try:
        return [Owner.of(os.getppid())]
    except ProcessLookupError:  # gone before we looked
        return []
