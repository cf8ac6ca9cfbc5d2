"""Walks through a large JSON file one element at a time, and reads single elements again by their place.

An annotation file of a gigabyte takes several as Python objects. Walked through once, it leaves the place of each
element (two numbers); what belongs to a picture is read when its turn comes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from miras.errors import DataError
from miras.sources.pictures import printable

CHUNK_BYTES = 2**22
MAX_ELEMENT_BYTES = 2**28  # a longer element is a fault in the file, such as a quote that is never closed
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Element:
    """A value within a JSON file."""

    member: str
    """Name of the member of the outermost object it is or lies in; "" in an outermost list."""
    value: Any
    offset: int
    """Bytes from the start of the file."""
    length: int
    """Bytes."""


def walk(path: Path, *, lists: Collection[str] = ()) -> Iterator[Element]:
    """The elements of an outermost list, or the members of an outermost object, in order.

    NaN and Infinity are let through, as by `read_json`, for the reader to name their record.

    Args:
        path: the file, UTF-8, with or without byte order mark.
        lists: names of members that are lists and come element by element; all others come whole.

    Raises:
        DataError: the file is missing, not UTF-8 or not JSON, or its outermost value is no list or object.
    """
    try:
        with path.open("rb") as file:
            text = _Text(file, path)
            opening = text.take("[{", "a list or an object")
            if opening == "[":
                yield from _list(text, member="")
            else:
                yield from _object(text, lists)
            if text.peek():
                raise text.fault("something follows the end")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(
            f"{printable(path)}: no such file. Name it in the source's settings (params.yaml: ingest.sources)."
        ) from None


def element_at(file: BinaryIO, offset: int, length: int) -> Any:
    """The value at a place that `walk` gave, from the same file, opened in binary."""
    file.seek(offset)
    return json.loads(file.read(length).decode("utf-8"))


def _object(text: _Text, lists: Collection[str]) -> Iterator[Element]:
    if text.peek() == "}":
        text.take("}", "}")
        return
    separator = ","
    while separator == ",":
        name = text.value(member="").value
        if not isinstance(name, str):
            raise text.fault("a name in quotes is expected")
        text.take(":", "a colon")
        if name in lists:
            text.take("[", f'a list under "{name}"')
            yield from _list(text, member=name)
        else:
            yield text.value(member=name)
        separator = text.take(",}", "a comma or the object's end")


def _list(text: _Text, *, member: str) -> Iterator[Element]:
    if text.peek() == "]":
        text.take("]", "]")
        return
    separator = ","
    while separator == ",":
        yield text.value(member=member)
        separator = text.take(",]", "a comma or the list's end")


class _Text:
    """A window that moves over a file; read as Latin-1, so that a place in it is a byte of the file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._start = 0  # byte of the file at which the window begins
        self._at = 0  # place in the window
        self._window = ""
        head = file.read(len(BYTE_ORDER_MARK))
        if head == BYTE_ORDER_MARK:
            self._start = len(head)
        else:
            self._window = head.decode("latin-1")

    def fault(self, reason: object) -> DataError:
        place = self._start + self._at
        return DataError(f"{printable(self._path)}: not JSON, or cut off: {reason} at byte {place}. Export it again.")

    def peek(self) -> str:
        """The next character that is no blank; "" at the end of the file."""
        while True:
            blanks = _BLANKS.match(self._window, self._at)
            assert blanks is not None  # the pattern matches nothing, too
            self._at = blanks.end()
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._widen():
                return ""

    def take(self, allowed: str, words: str) -> str:
        """The next character, which must be one of `allowed`."""
        found = self.peek()
        if not found or found not in allowed:
            raise self.fault(f"expected {words}")
        self._at += 1
        return found

    def value(self, *, member: str) -> Element:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._window) - self._at > MAX_ELEMENT_BYTES or not self._widen():
                    raise self.fault(error) from None
                continue
            if end < len(self._window) or not self._widen():  # a number at the window's end may go on
                return self._element(member, value, end)

    def _element(self, member: str, value: Any, end: int) -> Element:
        source = self._window[self._at : end]
        element_start = self._start + self._at
        if not source.isascii():
            try:
                value = json.loads(source.encode("latin-1").decode("utf-8"))
            except UnicodeDecodeError:
                raise DataError(f"{printable(self._path)}: not text in UTF-8. Save it as UTF-8.") from None
        self._at = end
        return Element(member=member, value=value, offset=element_start, length=len(source))

    def _widen(self) -> bool:
        """Drops what was read and adds at least as much as is left; False at the end of the file."""
        chunk = self._file.read(max(CHUNK_BYTES, len(self._window) - self._at))
        if not chunk:
            return False
        self._start += self._at
        self._window = self._window[self._at :] + chunk.decode("latin-1")
        self._at = 0
        return True
