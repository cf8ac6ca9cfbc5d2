"""Label pictures: a file of the same size as a picture whose values are class indices.

For the readers of data sets that store masks so (CamVid, ADE20K, COCO-Stuff); `coco` and `labelme` need none.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from miras.errors import DataError
from miras.sources.pictures import decode_image, printable, read_content

log = logging.getLogger(__name__)

LOSSY_FORMATS = ("JPEG", "MPO")
HALF_OF_255 = 128


def read_mask_file(path: Path, *, size: tuple[int, int], num_classes: int, max_megapixels: int) -> np.ndarray:
    """Class index of each pixel, uint8 (h, w), values 0 to num_classes - 1; all zero is a valid mask.

    With two classes, 0 and 255 may stand for 0 and 1. A JPEG blurs its values: with two classes it is cut at
    128 and a warning is logged, with more it is refused.

    Args:
        size: (h, w) of the picture, pixels.

    Raises:
        DataError: not readable, colours instead of indices, another size, or an index out of range.
    """
    where = printable(path)
    image = decode_image(read_content(path), where=where, max_megapixels=max_megapixels)
    if image.mode not in ("1", "L", "P"):
        raise DataError(
            f"{where}: colours (mode {image.mode}) where one class index per pixel is expected. "
            "Save the mask as a one-channel or palette PNG."
        )
    indices = np.asarray(image).astype(np.uint8)
    _check_size(where, found=indices.shape, expected=size)
    if image.format in LOSSY_FORMATS:
        return _cut(indices, where=where, num_classes=num_classes)
    if num_classes == 2 and set(np.unique(indices)) <= {0, 255}:
        return (indices > 0).astype(np.uint8)
    if indices.max() >= num_classes:
        raise DataError(
            f"{where}: class index {indices.max()} is unknown; classes are 0 to {num_classes - 1}. "
            "Correct the mask or the list of classes."
        )
    return indices


def _check_size(where: str, *, found: tuple[int, ...], expected: tuple[int, int]) -> None:
    if found == expected:
        return
    hint = "its axes are swapped: transpose it" if found == expected[::-1] else "save it at the picture's size"
    raise DataError(
        f"{where}: size {found[1]} x {found[0]}, but the picture has {expected[1]} x {expected[0]}; {hint}."
    )


def _cut(values: np.ndarray, *, where: str, num_classes: int) -> np.ndarray:
    if num_classes != 2:
        raise DataError(f"{where}: a JPEG does not keep {num_classes} class indices. Save the mask as PNG.")
    doubtful = int(((values > 16) & (values < 239)).sum())
    log.warning("lossy_mask file=%s threshold=%d doubtful_px=%d", where, HALF_OF_255, doubtful)
    return (values >= HALF_OF_255).astype(np.uint8)
