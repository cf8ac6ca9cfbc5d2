"""One run per workspace: overlapping runs are not safe in DVC.

The lock belongs to the process and vanishes with it, so there are no stale locks.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from miras.errors import WorkspaceBusyError

LOCK = Path("work") / "run.lock"


_INTERVAL_S = 1.0


@contextmanager
def workspace_lock(
    purpose: str, path: Path = LOCK, *, on_wait: Callable[[str], object] | None = None
) -> Iterator[None]:
    """Holds the workspace; `purpose` is what the others are told.

    Args:
        path: the lock's file.
        on_wait: where another run holds it, wait for its end, after calling this once with who that is. None: refuse.

    Raises:
        WorkspaceBusyError: another run holds it, and nobody waits; the message says which and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        holder = _try_lock(file)
        if holder is not None and on_wait is None:
            raise WorkspaceBusyError(
                f"{holder} Two runs in one folder would overwrite each other's results. "
                f"Wait for it, {_stop_of(file)}, or work in a second clone."
            )
        if holder is not None and on_wait is not None:
            on_wait(f"{holder} This run goes on when that one has ended.")
            while _try_lock(file) is not None:
                time.sleep(_INTERVAL_S)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}", "purpose": purpose}))
        file.flush()
        yield


def _try_lock(file: IO[str]) -> str | None:
    """Takes the lock, or says who has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(file)
    return None


def _holder(file: IO[str]) -> str:
    found = _content(file)
    if found is None:
        return "This workspace is busy with another run."
    return f"This workspace is busy with {found['purpose']} (process {found['pid']}, since {found['since']})."


def _stop_of(file: IO[str]) -> str:
    found = _content(file)
    return f"stop it with `kill {found['pid']}`" if found else "stop it"


def _content(file: IO[str]) -> dict[str, object] | None:
    file.seek(0)
    try:
        found = json.loads(file.read())
        return {key: found[key] for key in ("pid", "since", "purpose")}
    except (ValueError, KeyError):  # it has locked but not yet written who it is
        return None
