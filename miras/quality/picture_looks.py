"""What a picture looks like, in 264 bytes, and which pictures look nearly the same.

Finds copies that were rescaled, recompressed, or changed a little in light; not crops, mirror images or turned ones.
A 64-bit difference hash finds the candidates; a grey 16 x 16 thumbnail confirms them, because pictures with large
plain areas share hashes by chance. Measured on one busy core:
0.6 ms a picture of 128 px, 0.7 to 2 ms a photograph.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from miras.errors import DataError

HASH_SIDE = 8  # 8 x 8 comparisons of a grey picture of 9 x 8 pixels with their right neighbours
THUMBNAIL_SIDE = 16
# Mean absolute difference of two thumbnails, after mean 0 and spread 1. Measured on eight real data sets and rendered
# scenes: copies at half the size, at JPEG quality 50 or 15 % brighter stay below 0.16; the nearest other picture is at
# 0.27 among rendered scenes and 0.38 to 0.56 among photographs that are no video.
MAX_THUMBNAIL_DIFFERENCE = 0.2
_FLAT_BELOW = 2.0  # spread in grey levels under which a thumbnail is noise: such pictures are compared as they are
_LINE = re.compile(rf"([^\s]+)\t([0-9a-f]{{16}})\t([0-9a-f]{{{2 * THUMBNAIL_SIDE**2}}})\n")


@dataclass(frozen=True)
class Look:
    """What is compared."""

    difference_hash: int
    """64 bits: whether each pixel of a row is darker than the next."""
    thumbnail: bytes
    """16 x 16 grey values, row by row."""


def look_of(file: Path) -> Look:
    """The look of a picture file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(file) as opened:
            opened.draft("L", (8 * THUMBNAIL_SIDE, 8 * THUMBNAIL_SIDE))  # JPEG: decoded small, several times as fast
            grey = opened.convert("L")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read ({error}), and it is a picture of the data set. Run the stage ingest again."
        ) from None
    small = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumbnail = grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return Look(int.from_bytes(bits.tobytes(), "big"), thumbnail.tobytes())


class LookCache:
    """Looks by content hash in a file that is only ever added to: a killed run goes on, new pictures alone are read.

    Args:
        file: made when it is missing; a last line that was cut off is not believed.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = dict(_read(file)) if file.exists() else {}

    def looks(self, files: Sequence[tuple[str, Path]]) -> Iterator[Look]:
        """The look of each (content hash, picture file), in order.

        Raises:
            DataError: a file cannot be read.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write("\n")  # ends a line that was cut off
            for content, file in files:
                if content not in self._known:
                    look = self._known[content] = look_of(file)
                    lines.write(f"{content}\t{look.difference_hash:016x}\t{look.thumbnail.hex()}\n")
                yield self._known[content]


def _read(file: Path) -> Iterator[tuple[str, Look]]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if match := _LINE.fullmatch(line):
                content, difference_hash, thumbnail = match.groups()
                yield content, Look(int(difference_hash, 16), bytes.fromhex(thumbnail))


def near_duplicate_groups(looks: Sequence[Look], *, bits: int) -> list[int]:
    """For each picture the position of the first one of its group; its own where nothing looks like it.

    Two pictures belong together when their hashes differ in at most `bits` bits and their thumbnails agree, and so do
    those that a chain of such pairs connects. Not quadratic: the 64 bits are cut into `bits + 1` bands, of which two
    such hashes have at least one in common, so only pictures that share a band are compared.

    Args:
        looks: of the pictures, in any order.
        bits: 0 to 12; more bands make smaller ones, and more comparisons.
    """
    parents = list(range(len(looks)))
    if not looks:
        return parents
    hashes = np.array([look.difference_hash for look in looks], np.uint64)
    thumbnails = np.frombuffer(b"".join(look.thumbnail for look in looks), np.uint8).reshape(len(looks), -1)
    for shift, mask in _bands(bits + 1):
        keys = (hashes >> np.uint64(shift)) & np.uint64(mask)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order])) + 1
        for members in np.split(order, starts):
            if len(members) > 1:
                _join_alike(members, hashes, thumbnails, parents, bits)
    return [_root(parents, index) for index in range(len(looks))]


def _bands(count: int) -> list[tuple[int, int]]:
    """(shift, mask) of each band of the 64 bits."""
    edges = [64 * band // count for band in range(count + 1)]
    return [(low, (1 << (high - low)) - 1) for low, high in itertools.pairwise(edges)]


def _join_alike(members: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray, parents: list[int], bits: int) -> None:
    """Joins the pairs among pictures that share a band; row by row, so that memory stays small."""
    own = hashes[members]
    for place in range(len(members) - 1):
        distance = np.bitwise_count(own[place + 1 :] ^ own[place])
        near = members[place + 1 :][distance <= bits]
        if len(near):
            for other in near[_agree(thumbnails[members[place]], thumbnails[near])]:
                _join(parents, int(members[place]), int(other))


def _agree(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.abs(_levelled(one[None]) - _levelled(others)).mean(axis=1) <= MAX_THUMBNAIL_DIFFERENCE


def _levelled(thumbnails: np.ndarray) -> np.ndarray:
    """Mean 0 and spread 1 in each; one that is all but flat keeps its mean, so that only equal tones agree."""
    values = thumbnails.astype(np.float32)
    spread = values.std(axis=1, keepdims=True)
    is_flat = spread < _FLAT_BELOW
    return np.where(is_flat, values, (values - values.mean(axis=1, keepdims=True)) / np.maximum(spread, _FLAT_BELOW))


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _join(parents: list[int], one: int, other: int) -> None:
    """The earlier picture becomes the root."""
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first
