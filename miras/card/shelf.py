"""Records of JSONL tables by key without holding a table in memory: an index of places on disk.

A table of ten million regions costs about 1 GB of temporary disk and no memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from miras.errors import DataError
from miras.sources.records import Original

Record = TypeVar("Record", bound=BaseModel)

CACHE_KIB = 65_536
RECENT_RECORDS = 512


@contextmanager
def temporary_index(folder: Path) -> Iterator[sqlite3.Connection]:
    """An empty database in a folder of its own within `folder`; both are removed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".index-") as place:
        connection = sqlite3.connect(Path(place) / "index.sqlite", isolation_level=None)
        try:
            # The index is made anew by each run: nothing of it has to survive one.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("BEGIN")  # one transaction: a single one per row takes ten times as long
            yield connection
        finally:
            connection.close()


class SeenPairs:
    """Counts each (part, key) once."""

    def __init__(self, index: sqlite3.Connection, name: str) -> None:
        self._index, self._name = index, name
        index.execute(f"CREATE TABLE {name} (part TEXT, key TEXT, PRIMARY KEY (part, key)) WITHOUT ROWID")

    def is_new(self, part: str, key: str) -> bool:
        """Whether this pair is met for the first time."""
        done = self._index.execute(f"INSERT OR IGNORE INTO {self._name} VALUES (?, ?)", (part, key))
        return done.rowcount == 1


class RecordShelf(Mapping[str, Record]):
    """The records of one table, by key, and by a second field that groups them.

    Args:
        index: as `temporary_index` gives it; open as long as the shelf is used.
        path: of the table. It must not change meanwhile.
        kind: of its records.
        key: field with the records' ids; of records with one id the first is kept.
        group: field that `of` asks by; it must be text.
    """

    def __init__(
        self, index: sqlite3.Connection, path: Path, kind: type[Record], *, key: str, group: str | None = None
    ) -> None:
        self._index, self._path, self._kind = index, path, kind
        # Dialogues of one picture mostly follow each other and speak of the same regions.
        self._recent = lru_cache(maxsize=RECENT_RECORDS)(self._found)
        known = index.execute("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
        self._table = f"shelf_{known}"
        index.execute(
            f"CREATE TABLE {self._table} "
            "(key TEXT PRIMARY KEY, part TEXT, offset INTEGER, length INTEGER) WITHOUT ROWID"
        )
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; run the stage that makes it (`dvc repro`).") from None
        index.executemany(f"INSERT OR IGNORE INTO {self._table} VALUES (?, ?, ?, ?)", self._places(key, group))
        index.execute(f"CREATE INDEX {self._table}_parts ON {self._table} (part, offset)")

    def _places(self, key: str, group: str | None) -> Iterator[tuple[str, str, int, int]]:
        offset = 0
        for number, line in enumerate(self._file, 1):
            try:
                values = json.loads(line)
                place = (values[key], values[group] if group else "", offset, len(line))
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f'{self._path}:{number}: not a {self._kind.__name__} with "{key}". Run the stage that makes this '
                    "file again, or drop the line."
                ) from None
            yield place
            offset += len(line)

    def __getitem__(self, key: str) -> Record:
        return self._recent(key)

    def _found(self, key: str) -> Record:
        found = self._index.execute(f"SELECT offset, length FROM {self._table} WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise KeyError(key)
        return self._at(*found)

    def __contains__(self, key: object) -> bool:
        return self._index.execute(f"SELECT 1 FROM {self._table} WHERE key = ?", (key,)).fetchone() is not None

    def __iter__(self) -> Iterator[str]:
        for (key,) in self._index.execute(f"SELECT key FROM {self._table} ORDER BY offset"):
            yield key

    def __len__(self) -> int:
        return int(self._index.execute(f"SELECT COUNT(*) FROM {self._table}").fetchone()[0])

    def of(self, part: str) -> Iterator[Record]:
        """The records of one group, in the order of the file."""
        sql = f"SELECT offset, length FROM {self._table} WHERE part = ? ORDER BY offset"
        for offset, length in self._index.execute(sql, (part,)).fetchall():
            yield self._at(offset, length)

    def parts(self) -> Iterator[str]:
        """The groups, in the order in which the file first has one of each."""
        sql = f"SELECT part, MIN(offset) AS first FROM {self._table} GROUP BY part ORDER BY first"
        for part, _ in self._index.execute(sql):
            yield part

    def _at(self, offset: int, length: int) -> Record:
        self._file.seek(offset)
        line = self._file.read(length)
        try:
            return self._kind.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(
                f"{self._path}: byte {offset}: not a {self._kind.__name__}: {where}: {first['msg']}. "
                "Run the stage that makes this file again, or drop the line."
            ) from None


class OriginalsOfForm(Mapping[str, Original]):
    """Of the originals by dialogue id, those of one source form: their record has the form's own key."""

    def __init__(self, originals: Mapping[str, Original], *, key: str) -> None:
        self._originals = originals
        self._key = key

    def __getitem__(self, dialogue_id: str) -> Original:
        original = self._originals[dialogue_id]
        if self._key not in original.record:
            raise KeyError(dialogue_id)
        return original

    def __iter__(self) -> Iterator[str]:
        return (dialogue_id for dialogue_id in self._originals if dialogue_id in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
