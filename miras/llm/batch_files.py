"""The file of requests that a batch is submitted as."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from miras.errors import DataError
from miras.files import disk_errors
from miras.llm.budget import NO_AMOUNT, Amount
from miras.llm.config import ServiceConfig
from miras.llm.estimating import most_of
from miras.llm.records import Prompt
from miras.llm.wire import Request, body

MAX_BYTES = 150_000_000  # of 200 MB that the server allows


@dataclass(frozen=True)
class Line:
    """A request in a file of requests."""

    key: str
    content: bytes
    most: Amount
    """Upper estimate of what it takes."""


class Part:
    """Prompts that go together, and the file of the requests that their first questions need."""

    def __init__(self, folder: Path, left: Amount) -> None:
        self.name = uuid.uuid4().hex
        self.prompts: list[Prompt] = []
        self.amount = NO_AMOUNT
        self._left = left
        self.keys: set[str] = set()
        """Of the requests in the file."""
        self._bytes = 0
        self._path = folder / f"{self.name}.jsonl"
        self._file: BinaryIO | None = None

    @property
    def count(self) -> int:
        """Requests in the file."""
        return len(self.keys)

    def has_room(self, line: Line) -> bool:
        """Whether one more request is within the server's limits and the budget."""
        after = self.amount + line.most
        fits = after.tokens <= self._left.tokens and after.usd <= self._left.usd
        return fits and self._bytes + len(line.content) <= MAX_BYTES

    def add(self, line: Line) -> None:
        """Writes a request, unless the same one is in it."""
        if line.key in self.keys:
            return
        with disk_errors(self._path):
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb")
            self._file.write(line.content)
        self.keys.add(line.key)
        self._bytes += len(line.content)
        self.amount += line.most

    def close(self) -> Part:
        """The part, its file on the disk."""
        if self._file is not None:
            with disk_errors(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
        return self


def line_of(request: Request, service: ServiceConfig) -> Line | None:
    """The request as a line of the file; None where the picture went away meanwhile; the ordinary call says so."""
    try:
        made = {
            "custom_id": request.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body(request, service),
        }
    except DataError:
        return None
    return Line(request.key, json.dumps(made).encode("ascii") + b"\n", most_of(request, service))
