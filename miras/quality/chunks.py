"""The data set in chunks of whole pictures, however large it is and in whatever order its tables are.

One pass over each table notes where every line begins, in 24 bytes a record; then the lines of a chunk are read by
their place. So what has to be compared (all that is said about one picture) is in memory together, and nothing else.
Ids are compared by 64-bit hashes: two different ones among a million share one with a probability of 3e-8.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic

import numpy as np
from pydantic import ValidationError

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import Record
from miras.progress import progress
from miras.quality.duplicates import text_key

CHUNK_ROWS = 40_000  # regions and dialogues; measured: 350 MiB above what Great Expectations takes when imported


@dataclass(frozen=True)
class Chunk:
    """All records about some pictures."""

    region_rows: np.ndarray
    """Place of each region in its table (int64)."""
    dialogue_rows: np.ndarray
    regions: Sequence[Region]
    dialogues: Sequence[Dialogue]
    elsewhere: Sequence[Region]
    """Regions of other pictures that these wrongly speak of."""
    pictures: dict[str, Picture]
    """By id, those that the records name and that exist."""
    repeated_region_ids: frozenset[str]
    """Ids here that more than one region of the data set has."""
    repeated_dialogue_ids: frozenset[str]


class LineIndex(Generic[Record]):
    """Where each record of a JSONL file lies, and which group it belongs to.

    Args:
        path: of the file.
        kind: of its records.
        keys: the id and the group of a record.

    Raises:
        DataError: the file is missing, or a line holds no such record (with file and line).
    """

    def __init__(self, path: Path, kind: type[Record], keys: Callable[[Record], tuple[str, str]]) -> None:
        self._path, self._kind = path, kind
        ids, groups, starts = array("Q"), array("Q"), array("q")
        for start, record in _records(path, kind):
            record_id, group = keys(record)
            ids.append(_hash(record_id))
            groups.append(_hash(group))
            starts.append(start)
        self._ids = np.frombuffer(ids, np.uint64) if ids else np.empty(0, np.uint64)
        self.groups = np.frombuffer(groups, np.uint64) if groups else np.empty(0, np.uint64)
        """Hash of the group of each record."""
        self._starts = np.frombuffer(starts, np.int64) if starts else np.empty(0, np.int64)
        self._order = np.argsort(self._ids, kind="stable")
        self._sorted = self._ids[self._order]
        self.repeated = np.zeros(len(self._ids), bool)
        """Whether another record has the same id."""
        same = self._sorted[1:] == self._sorted[:-1]
        self.repeated[self._order[1:][same]] = self.repeated[self._order[:-1][same]] = True
        self._file: BinaryIO = path.open("rb")

    def __len__(self) -> int:
        return len(self._ids)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def find(self, record_id: str) -> Record | None:
        """The first record with this id."""
        wanted = np.uint64(_hash(record_id))
        place = int(np.searchsorted(self._sorted, wanted))
        if place == len(self._sorted) or self._sorted[place] != wanted:
            return None
        return next(iter(self.read(self._order[place : place + 1])))

    def read(self, rows: np.ndarray) -> Iterator[Record]:
        """The records at these rows, in the order given."""
        for row in rows.tolist():
            yield self._kind.model_validate_json(self.line(row))

    def line(self, row: int) -> bytes:
        """The line of a row, as it stands in the file."""
        self._file.seek(int(self._starts[row]))
        return self._file.readline()


def _records(path: Path, kind: type[Record]) -> Iterator[tuple[int, Record]]:
    """Each record with the byte at which its line begins."""
    try:
        lines = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage that makes it (`dvc repro`).") from None
    start = 0
    with lines:
        for number, line in enumerate(progress(lines, total=None, name=f"indexing {path.name}", unit="lines"), 1):
            try:
                yield start, kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise DataError(
                    f"{path}:{number}: not a {kind.__name__}: {where}: {first['msg']}. "
                    "Run the stage that makes this file again, or drop the line."
                ) from None
            start += len(line)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def region_keys(region: Region) -> tuple[str, str]:
    """Id and picture."""
    return region.region_id, region.image_id


def dialogue_keys(dialogue: Dialogue) -> tuple[str, str]:
    """Id and picture; dialogues without picture belong together when they say the same."""
    if dialogue.image_id:
        return dialogue.dialogue_id, dialogue.image_id
    texts = [text for turn in dialogue.turns for text in (turn.question, turn.answer)]
    return dialogue.dialogue_id, f"\n{text_key(' '.join(texts))}"


def chunks(
    regions: LineIndex[Region],
    dialogues: LineIndex[Dialogue],
    pictures: LineIndex[Picture],
    *,
    rows: int = CHUNK_ROWS,
) -> Iterator[Chunk]:
    """All records, each once, in chunks of about `rows` records; those about one picture are in one chunk.

    Pictures come in the order in which the regions, then the dialogues, name them first; records of a chunk in the
    order of their table.
    """
    groups = np.concatenate([regions.groups, dialogues.groups])
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    sizes = np.bincount(rank[group_of], minlength=len(first))
    chunk_of = ((np.cumsum(sizes) - sizes) // rows)[rank[group_of]]
    region_chunks, dialogue_chunks = chunk_of[: len(regions)], chunk_of[len(regions) :]
    region_order, dialogue_order = (np.argsort(each, kind="stable") for each in (region_chunks, dialogue_chunks))
    for number in progress(np.unique(chunk_of).tolist(), total=None, name="checking", unit="chunks"):
        own_regions = _of_chunk(region_chunks, region_order, number)
        own_dialogues = _of_chunk(dialogue_chunks, dialogue_order, number)
        yield _chunk(own_regions, own_dialogues, regions, dialogues, pictures)


def _of_chunk(chunk_of: np.ndarray, order: np.ndarray, number: int) -> np.ndarray:
    low, high = np.searchsorted(chunk_of[order], [number, number + 1])
    return order[low:high]


def _chunk(
    region_rows: np.ndarray,
    dialogue_rows: np.ndarray,
    regions: LineIndex[Region],
    dialogues: LineIndex[Dialogue],
    pictures: LineIndex[Picture],
) -> Chunk:
    own_regions, own_dialogues = list(regions.read(region_rows)), list(dialogues.read(dialogue_rows))
    here = {region.region_id for region in own_regions}
    named = dict.fromkeys(_named_regions(own_regions, own_dialogues))
    found = [regions.find(region_id) for region_id in named if region_id not in here]
    image_ids = dict.fromkeys([region.image_id for region in own_regions])
    image_ids |= dict.fromkeys(dialogue.image_id for dialogue in own_dialogues if dialogue.image_id)
    shown = {image_id: pictures.find(image_id) for image_id in image_ids}
    return Chunk(
        region_rows=region_rows,
        dialogue_rows=dialogue_rows,
        regions=own_regions,
        dialogues=own_dialogues,
        elsewhere=[region for region in found if region is not None],
        pictures={image_id: picture for image_id, picture in shown.items() if picture is not None},
        repeated_region_ids=frozenset(
            region.region_id
            for region, is_repeated in zip(own_regions, regions.repeated[region_rows], strict=True)
            if is_repeated
        ),
        repeated_dialogue_ids=frozenset(
            item.dialogue_id
            for item, is_repeated in zip(own_dialogues, dialogues.repeated[dialogue_rows], strict=True)
            if is_repeated
        ),
    )


def _named_regions(regions: Iterable[Region], dialogues: Iterable[Dialogue]) -> Iterator[str]:
    for region in regions:
        if region.parent_id is not None:
            yield region.parent_id
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield from turn.targets
            yield from turn.points_at
