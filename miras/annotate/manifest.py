"""The list of what was handed out: `manifest.jsonl`, one line per sample, later lines about it take its place.

Lines are appended as samples are handed out, so that a killed run goes on behind the last one; a line that was cut
off by the kill is written again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from miras.annotate.records import HandedOut
from miras.files import disk_errors, finished_file, read_records

MANIFEST = "manifest.jsonl"


class Manifest:
    """What was handed out from one folder."""

    def __init__(self, folder: Path) -> None:
        """Reads the folder's manifest; an absent one is empty.

        Raises:
            DataError: a whole line is not what this program writes.
        """
        self._path = folder / MANIFEST
        self._by_sample: dict[str, HandedOut] = {}
        if self._path.exists():
            self._drop_cut_line()
            self._by_sample = {item.sample: item for item in read_records(self._path, HandedOut)}

    @property
    def samples(self) -> Mapping[str, HandedOut]:
        """Sample -> its last line."""
        return self._by_sample

    def add(self, item: HandedOut) -> None:
        """Writes a line that is on the disk when this returns; nothing when it is already said."""
        if self._by_sample.get(item.sample) == item:
            return
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write(item.model_dump_json() + "\n")
                lines.flush()
                os.fsync(lines.fileno())
        self._by_sample[item.sample] = item

    def _drop_cut_line(self) -> None:
        content = self._path.read_bytes()
        if content and not content.endswith(b"\n"):
            with finished_file(self._path) as aside:
                aside.write_bytes(content[: content.rfind(b"\n") + 1])


def sha256_of(content: bytes) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(content).hexdigest()


def place(path: Path, content: bytes, *, handed_out_sha256: str | None) -> str:
    """Puts a file where people find it, unless they have saved theirs there; returns the hash to remember it by.

    Args:
        handed_out_sha256: of what was put there before; None: nothing known of it.

    Returns:
        The hash of `content` where that lies there now, or where nobody knows what was there before; else
        `handed_out_sha256`: the file is somebody's work on what they were given.
    """
    sha256 = sha256_of(content)
    there = sha256_of(path.read_bytes()) if path.exists() else None
    if there is None or (there == handed_out_sha256 and there != sha256):
        with finished_file(path) as aside:
            aside.write_bytes(content)
        return sha256
    return sha256 if there == sha256 or handed_out_sha256 is None else handed_out_sha256
