"""Progress with time left for everything that takes more than a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable[Any] | None = None, *, total: int | None = None, name: str, unit: str) -> tqdm:
    """A tqdm bar on stderr: name, done/total, rate, time left.

    At most one redraw a second, so that logs which keep every redraw stay readable.
    """
    return tqdm(items, total=total, desc=name, unit=f" {unit}", file=sys.stderr, mininterval=1.0, ncols=100, leave=True)
