"""What the page sends, checked; bodies are read up to a bound only."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, Field, ValidationError

from miras.chat.edits import MAX_EDITS, Edit
from miras.dialogue.records import Frozen
from miras.errors import DataError

MAX_JSON_BYTES = 8_000_000
MAX_REFERENCES = 16
MAX_TARGETS = 100

Body = TypeVar("Body", bound=BaseModel)


class TooLargeError(DataError):
    """A body of more bytes than are taken."""


class Named(Frozen):
    """A target of an answer."""

    model: int
    turn: int
    target: int


class Question(Frozen):
    """The next question of a dialogue."""

    question: str
    about: tuple[Named, ...] = Field(default=(), max_length=MAX_REFERENCES)
    """Masks that it speaks of."""


class CorrectedTarget(Frozen):
    """A target as a person wants it."""

    source: int | None
    """Which target of the answer it starts from; None: a new one, from nothing."""
    phrase: str
    edits: tuple[Edit, ...] = Field(default=(), max_length=MAX_EDITS)


class Correction(Frozen):
    """An answer as a person wants it."""

    model: int
    turn: int
    text: str
    targets: tuple[CorrectedTarget, ...] = Field(max_length=MAX_TARGETS)


async def body(request: Request, *, max_bytes: int, what: str) -> bytes:
    """The bytes of a request.

    Args:
        request: not read yet.
        max_bytes: most that are taken.
        what: for the message.

    Raises:
        TooLargeError: there are more; the rest is not read.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise TooLargeError(f"{what} has more than {max_bytes / 1e6:g} MB, which is the most that is taken.")
    return bytes(content)


async def parsed(request: Request, kind: type[Body]) -> Body:
    """A request's JSON.

    Raises:
        DataError: it is not of the form.
    """
    content = await body(request, max_bytes=MAX_JSON_BYTES, what="The request")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise DataError(f"{where}: {first['msg']}.") from None
