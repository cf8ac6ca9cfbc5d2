"""How many pieces a mask has: several, where one mask covers a whole class."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from miras.dialogue.masks import decode
from miras.dialogue.records import Rle

GRID = 192  # cells along the longer side of a mask that is cut into pieces (measured on CamVid: 96 joins parked cars)
PIXELS_PER_CELL = 4  # more are passed over
LEAST_SHARE = 0.02  # of the largest piece: below, a piece does not count (measured: a far car beside a near one)
_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


def num_pieces(rle: Rle) -> int:
    """Pieces of a mask on a coarse grid, which closes gaps of less than a cell; tiny ones left out."""
    mask = decode(rle)
    stride = max(1, max(mask.shape) // (PIXELS_PER_CELL * GRID))
    mask = mask[::stride, ::stride]
    cell = max(1, max(mask.shape) // GRID)
    by_rows = np.maximum.reduceat(mask, range(0, mask.shape[0], cell), axis=0)
    coarse = np.maximum.reduceat(by_rows, range(0, mask.shape[1], cell), axis=1)
    pieces, _ = ndimage.label(coarse, structure=_EIGHT_NEIGHBOURS)
    num_cells = np.bincount(pieces.ravel())[1:]
    return int((num_cells >= LEAST_SHARE * num_cells.max()).sum()) if len(num_cells) else 1
