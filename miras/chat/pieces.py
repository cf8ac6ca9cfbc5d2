"""An answer cut into what stands between its targets and what names them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from miras.dialogue.rendering import OBJ, SEG, plain_text

_SIGNS = re.compile(f"({re.escape(OBJ)}|{re.escape(SEG)})")
_STOPS = tuple(".,;:!?")


@dataclass(frozen=True)
class Piece:
    """A stretch of an answer."""

    text: str
    target: int | None
    """Which target it names, from 0; None: it stands between targets."""


def pieces_of(answer: str) -> tuple[Piece, ...]:
    """The pieces of an answer as it was generated; together they read as `plain_text` of it.

    There is one piece for each `[SEG]`, in order, as there is one mask; where no `[OBJ]` opened it, it has no text.
    """
    found: list[Piece] = []
    waiting, is_open, targets = "", False, 0
    for part in _SIGNS.split(answer):
        if part == OBJ:
            _add(found, waiting, None)
            waiting, is_open = "", True
        elif part == SEG:
            if not is_open:
                _add(found, waiting, None)
            _add(found, waiting if is_open else "", targets)
            waiting, is_open, targets = "", False, targets + 1
        else:
            waiting += part
    _add(found, waiting, None)
    return tuple(found)


def _add(found: list[Piece], raw: str, target: int | None) -> None:
    text = plain_text(raw)
    before = found[-1].text if found else " "
    is_apart = raw[:1].isspace() and not before.endswith(" ") and not text.startswith(_STOPS)
    if is_apart and (text or target is None) and found:
        if target is None:
            text = f" {text}"
        else:
            found.append(Piece(" ", None))
    if target is None and raw[-1:].isspace() and text.strip():
        text += " "
    if text or target is not None:
        found.append(Piece(text, target))
