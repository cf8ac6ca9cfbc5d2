"""One run per workspace: overlapping runs are not safe in DVC (design section 2.7).

The lock belongs to the process and vanishes with it, so there are no stale locks.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from miras.errors import WorkspaceBusyError

LOCK = Path("work") / "run.lock"


@contextmanager
def workspace_lock(purpose: str, path: Path = LOCK) -> Iterator[None]:
    """Holds the workspace; `purpose` is what the others are told.

    Raises:
        WorkspaceBusyError: another run holds it; the message says which and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise WorkspaceBusyError(_busy(file.read())) from None
        holder = {"pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}", "purpose": purpose}
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield


def _busy(content: str) -> str:
    try:
        holder = json.loads(content)
        who = f"{holder['purpose']} (process {holder['pid']}, since {holder['since']})"
        stop = f"stop it with `kill {holder['pid']}`"
    except (ValueError, KeyError):  # it has locked but not yet written who it is
        who, stop = "another run", "stop it"
    return (
        f"This workspace is busy with {who}. Two runs in one folder would overwrite each other's results. "
        f"Wait for it, {stop}, or work in a second clone."
    )
