"""Exports of the finished data set to other forms: Hugging Face, COCO, PRIST and MRSeg.

Run as `miras export-data FORMAT INTO`. Streaming: one picture with its regions and dialogues is in memory at a time.
What has no place in a form is counted in `left_out`; what should have one and is broken goes to rejected.jsonl.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from sqlite3 import Connection
from typing import Literal, TextIO, get_args

from miras.card.shelf import RecordShelf, temporary_index
from miras.dialogue.records import SPLITS, Dialogue, Picture, Region, Rejected, Split
from miras.errors import ConfigError, DataError
from miras.files import finished_folder
from miras.paths import Paths
from miras.sources.annotations import rejection
from miras.sources.records import Original

Format = Literal["hf", "coco", "prist", "mrseg"]
FORMATS: tuple[Format, ...] = get_args(Format)
REJECTED = "rejected.jsonl"


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    folder: Path
    splits: tuple[Split, ...]
    pictures: int
    """Picture files, or rows with a picture."""
    regions: int
    """Masks."""
    dialogues: int
    left_out: Mapping[str, int]
    """Kind of dialogue -> how many the form has no place for."""
    rejected: int
    """Records in rejected.jsonl."""


@dataclass
class Export:
    """An export that is being written: its folder, the tables, and the counts."""

    paths: Paths
    folder: Path
    index: Connection
    pictures: RecordShelf[Picture]
    regions: RecordShelf[Region]
    rejected_file: TextIO
    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def dialogues(self, split: Split) -> RecordShelf[Dialogue]:
        """The dialogues of a split, by id and by picture."""
        table = self.paths.split_dialogues(split)
        return RecordShelf(self.index, table, Dialogue, key="dialogue_id", group="image_id")

    def originals(self) -> Mapping[str, Original]:
        """Source records of imported dialogues."""
        return RecordShelf(self.index, self.paths.source_originals, Original, key="dialogue_id")

    def reject(self, where: object, reason: object) -> None:
        """Lists a record that could not be exported."""
        self.add_rejected(rejection(Rejected, where, reason))

    def add_rejected(self, refused: Rejected) -> None:
        """The same of one that another part refused."""
        self.rejected_file.write(refused.model_dump_json() + "\n")
        self.counts["rejected"] += 1

    def picture(self, image_id: str) -> Picture:
        """The record of a picture.

        Raises:
            DataError: it is in no table.
        """
        try:
            return self.pictures[image_id]
        except KeyError:
            raise DataError(
                f"picture {image_id!r} is not in {self.paths.picture_table}. The stages ran on different data: run "
                "`dvc repro split` again"
            ) from None

    def picture_file(self, picture: Picture) -> Path:
        """The stored file.

        Raises:
            DataError: it is gone.
        """
        path = self.paths.pictures / picture.file_name
        if not path.is_file():
            raise DataError(f"{path}: no such picture; run `dvc repro ingest` again")
        return path

    def copy_picture(self, picture: Picture, name: str) -> None:
        """Copies a picture to this place in the export, once.

        Raises:
            DataError: its file is gone, the name leads out of the export, or another picture has it.
        """
        source = self.picture_file(picture)
        parts = PurePosixPath(name)
        if not name or parts.is_absolute() or ".." in parts.parts:
            raise DataError(f"its picture is called {name!r}, which leads out of the export's folder")
        sql = "CREATE TEMP TABLE IF NOT EXISTS copied (name TEXT PRIMARY KEY, sha256 TEXT)"
        self.index.execute(sql)
        row = self.index.execute("SELECT sha256 FROM copied WHERE name = ?", (name,)).fetchone()
        if row is None:
            target = self.folder / parts
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            self.index.execute("INSERT INTO copied VALUES (?, ?)", (name, picture.sha256))
            self.counts["pictures"] += 1
        elif row[0] != picture.sha256:
            raise DataError(f"the name {name!r} of its picture is another picture's; export the sources apart")


Writer = Callable[[Export, Split], None]


def export(paths: Paths, format: str, into: Path, *, split: str | None = None) -> Exported:
    """Writes the data set, or one split of it, in another form.

    Args:
        paths: of the stages ingest to split.
        format: hf, coco, prist or mrseg.
        into: folder to write, new or empty; it appears when all is well.
        split: train, val or test; None: all three.

    Raises:
        ConfigError: there is no such format or split.
        DataError: the folder holds something, or a table is missing or broken.
    """
    splits = _splits(split)
    write = _writer(format)
    _refuse_filled(into)
    with finished_folder(into) as folder, ExitStack() as opened:
        index = opened.enter_context(temporary_index(folder))
        job = Export(
            paths=paths,
            folder=folder,
            index=index,
            pictures=RecordShelf(index, paths.picture_table, Picture, key="image_id"),
            regions=RecordShelf(index, paths.checked_regions, Region, key="region_id", group="image_id"),
            rejected_file=opened.enter_context((folder / REJECTED).open("w", encoding="utf-8")),
        )
        for name in splits:
            write(job, name)
    return Exported(
        folder=into,
        splits=splits,
        pictures=job.counts["pictures"],
        regions=job.counts["regions"],
        dialogues=job.counts["dialogues"],
        left_out=dict(job.left_out.most_common()),
        rejected=job.counts["rejected"],
    )


def json_list(values: Iterator[object]) -> Iterator[str]:
    """A JSON list in pieces, one line per value."""
    opening = "[\n"
    for value in values:
        yield opening + json.dumps(value, ensure_ascii=False)
        opening = ",\n"
    yield "[]" if opening == "[\n" else "\n]"


def _splits(split: str | None) -> tuple[Split, ...]:
    if split is None:
        return SPLITS
    chosen: Sequence[Split] = [name for name in SPLITS if name == split]
    if not chosen:
        raise ConfigError(f"no such split: {split!r}; known: {', '.join(SPLITS)}.")
    return tuple(chosen)


def _writer(format: str) -> Writer:
    if format == "hf":
        from miras.card.huggingface import write  # pyarrow takes a moment to load
    elif format == "coco":
        from miras.card.coco_form import write
    elif format == "prist":
        from miras.card.prist_form import write
    elif format == "mrseg":
        from miras.card.mrseg_form import write
    else:
        raise ConfigError(f"no such format: {format!r}; known: {', '.join(FORMATS)}.")
    return write


def _refuse_filled(into: Path) -> None:
    if into.is_file():
        raise DataError(f"{into}: is a file; name a folder that is new or empty.")
    if into.is_dir() and any(into.iterdir()):
        raise DataError(f"{into}: the folder is not empty; name one that is new or empty, or clear it yourself.")
