"""What the checks need to know of a mask, without decoding it to an array."""

from __future__ import annotations

import re

import numpy as np

from miras.dialogue.records import Rle

# COCO writes each run in base 32, lowest digit first, one character from '0' (48) per digit; bit 6 says that
# more digits follow, bit 5 of the last digit is the sign, and from the fourth run on the difference to the
# run two places earlier is stored (pycocotools, maskApi.c, rleToString).
_READABLE = re.compile(r"[0-o]*[0-O]")
_FIRST_CHARACTER = 48
_MORE = 0x20
_SIGN = 0x10


def runs_px(rle: Rle) -> np.ndarray | None:
    """Lengths of the runs (int64, n), background first, or None when the text is not in COCO's form.

    The C code of pycocotools reads past the end of a broken text, so it is only called on sound ones.
    """
    if not _READABLE.fullmatch(rle.counts):
        return None
    digits = np.frombuffer(rle.counts.encode("ascii"), np.uint8).astype(np.int64) - _FIRST_CHARACTER
    last = (digits & _MORE) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(starts, np.diff([*starts, len(digits)]))
    if place.max() > 7:  # more than 2**40 pixels
        return None
    values = np.add.reduceat((digits & 0x1F) << (5 * place), starts)
    is_negative = (digits[last] & _SIGN) != 0
    values -= np.where(is_negative, np.left_shift(1, 5 * (place[last] + 1)), 0)
    return _undo_differences(values)


def _undo_differences(values: np.ndarray) -> np.ndarray:
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def fault(rle: Rle) -> str | None:
    """Why the code is no mask of its own size, or None when it is one."""
    return fault_of_runs(runs_px(rle), height=rle.size[0], width=rle.size[1])


def fault_of_runs(runs: np.ndarray | None, *, height: int, width: int) -> str | None:
    """The same, of what `runs_px` gave."""
    if runs is None:
        return "the run lengths cannot be read"
    if (runs < 0).any():
        return "a run has a negative length"
    if runs.sum() != height * width:
        return f"the runs cover {runs.sum()} pixels, the mask has {height} x {width} = {height * width}"
    return None
