"""Shards of the feature store: rows of tensors by key, in safetensors files that never change once written.

A shard's header holds its keys and a checksum of every row, and its name follows from its keys; so a folder of
shards needs no index to be taken up again after an interruption, and damage is found row by row.
Letters: n rows of a shard.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from miras.errors import DataError
from miras.files import finished_file
from miras.progress import progress

log = logging.getLogger(__name__)

_HEADER = "rows"  # the one entry of the file's metadata: several would be written in any order


class ShardHeader(BaseModel):
    """What a shard says of its rows."""

    keys: list[str]
    checksums: dict[str, list[int]]
    """Part -> CRC-32 of each row's bytes."""


def shard_name(keys: Sequence[str]) -> str:
    """File name of the shard with these keys."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16] + ".safetensors"


def write_shard(folder: Path, keys: Sequence[str], parts: Mapping[str, Tensor]) -> Path:
    """Writes rows to the file named after them; returns its path.

    Args:
        folder: where to.
        keys: n, each once.
        parts: part -> [n, ...] on the CPU.
    """
    checksums = {part: [_checksum(row) for row in rows] for part, rows in parts.items()}
    header = ShardHeader(keys=list(keys), checksums=checksums)
    path = folder / shard_name(keys)
    with finished_file(path) as aside:
        contiguous = {part: rows.contiguous() for part, rows in parts.items()}
        save_file(contiguous, aside, metadata={_HEADER: header.model_dump_json()})
    return path


class Shard:
    """An open shard, read by memory map one row at a time."""

    def __init__(self, path: Path) -> None:
        """Raises DataError when the file is missing, cut off, or names other keys than its own name says."""
        self.path = path
        try:
            self._file = safe_open(path, framework="pt")
            header = ShardHeader.model_validate_json((self._file.metadata() or {}).get(_HEADER, ""))
        except (SafetensorError, OSError, ValidationError) as error:
            raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}).") from None
        is_complete = all(len(checksums) == len(header.keys) for checksums in header.checksums.values())
        if not is_complete or shard_name(header.keys) != path.name.rpartition("-")[2]:
            raise DataError(f"{path}: damaged (its rows are not those it is named after).")
        self.keys = header.keys
        self._checksums = header.checksums
        self._place = {key: row for row, key in enumerate(header.keys)}
        self._compared: set[int] = set()

    def row(self, key: str) -> dict[str, Tensor]:
        """Part -> tensor of one row.

        Raises:
            DataError: its bytes are not those that were written; compared when a row is first read.
        """
        number = self._place[key]
        try:
            row = {part: self._file.get_slice(part)[number] for part in self._checksums}
        except SafetensorError as error:
            raise DataError(f"{self.path}: damaged ({error}).") from None
        if number not in self._compared:
            for part, tensor in row.items():
                if _checksum(tensor) != self._checksums[part][number]:
                    raise DataError(f"{self.path}: damaged (wrong checksum of {part}, row {number}).")
            self._compared.add(number)
        return row


def whole_shards(folder: Path) -> list[Shard]:
    """The shards of a folder that are as they were written, every byte compared; others are removed."""
    for left_over in folder.glob(".*.partial"):  # of a killed process
        left_over.unlink()
    paths, found = sorted(folder.glob("*.safetensors")), []
    for path in progress(paths, name=f"stored {folder.name}", unit="shard") if paths else ():
        try:
            shard = Shard(path)
            for key in shard.keys:
                shard.row(key)
            found.append(shard)
        except DataError as error:
            log.warning("%s It is made again.", error)
            path.unlink()
    return found


def provided(shards: Sequence[Shard], wanted: Collection[str]) -> dict[Shard, list[str]]:
    """Which of the wanted keys each shard gives, every key once; the shards with most of them go first."""
    left = set(wanted)
    chosen = {}
    for shard in sorted(shards, key=lambda shard: (-len(left.intersection(shard.keys)), shard.path.name)):
        keys = [key for key in shard.keys if key in left]
        if keys:
            chosen[shard] = keys
            left.difference_update(keys)
    return chosen


def compacted(rows: Mapping[Shard, list[str]], *, shard_size: int) -> dict[Shard, list[str]]:
    """The same rows with thin shards merged into new files: those where fewer than half of the rows they hold, or
    of `shard_size`, are of use.

    So whatever came and went before, a table has at most twice the rows of use, and one thin shard.
    """
    thin = [shard for shard, keys in rows.items() if 2 * len(keys) < max(len(shard.keys), shard_size)]
    kept = {shard: keys for shard, keys in rows.items() if shard not in thin}
    moved = [(shard, key) for shard in thin for key in rows[shard]]
    for start in range(0, len(moved), shard_size):
        group = moved[start : start + shard_size]
        keys = [key for _, key in group]
        path = group[0][0].path.with_name(shard_name(keys))
        if not path.exists():
            copies = [shard.row(key) for shard, key in group]
            write_shard(path.parent, keys, {part: torch.stack([row[part] for row in copies]) for part in copies[0]})
        kept[Shard(path)] = keys
    return kept


def _checksum(row: Tensor) -> int:
    return zlib.crc32(row.contiguous().numpy().data)
