"""Markers: how a stored answer becomes the text a model reads and writes, and back.

`[OBJ]` opens and `[SEG]` closes the phrase of one target (PRIST paper, section 4.1). They are special tokens
of the tokenizer, written here alone; stored answers only hold `{target}` slots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from miras.dialogue.records import TARGET_SLOT, Turn

OBJ = "[OBJ]"
SEG = "[SEG]"
IMAGE = "<image>"
MARKERS = (OBJ, SEG, IMAGE)

# The innermost pair: an [OBJ] that is opened again before it is closed opens nothing.
_GROUP = re.compile(r"\[OBJ\]((?:(?!\[OBJ\]).)*?)\[SEG\]", re.DOTALL)


# Generated text has a space after every marker, also before punctuation.
_SPACE_BEFORE_STOP = re.compile(r" ([.,;:!?])")


def render_answer(turn: Turn, phrases: Mapping[str, str]) -> str:
    """The answer with each slot written as `[OBJ]phrase[SEG]`.

    Args:
        turn: its answer has exactly one slot per target (the checks see to that).
        phrases: region id -> phrase.
    """
    text = turn.answer
    for region_id in turn.targets:
        text = text.replace(TARGET_SLOT, f"{OBJ}{phrases[region_id]}{SEG}", 1)
    return text


def phrases_in(answer: str) -> list[str]:
    """Phrases of the `[OBJ]...[SEG]` groups of a rendered or generated answer, in order."""
    return [phrase.strip() for phrase in _GROUP.findall(answer)]


def split_groups(answer: str) -> tuple[str, tuple[str, ...]]:
    """A rendered or generated answer as text with slots, and the phrase of each slot.

    The inverse of `render_answer`; markers without partner are dropped.
    """
    pieces = _GROUP.split(answer.replace(TARGET_SLOT, ""))
    text = TARGET_SLOT.join(_without_markers(piece) for piece in pieces[::2])
    return text, tuple(_without_markers(phrase).strip() for phrase in pieces[1::2])


def _without_markers(text: str) -> str:
    for marker in MARKERS:
        text = text.replace(marker, "")
    return text


def plain_text(answer: str) -> str:
    """The answer as a person reads it: markers dropped, phrases kept."""
    for marker in MARKERS:
        answer = answer.replace(marker, " " if marker == IMAGE else "")
    return _SPACE_BEFORE_STOP.sub(r"\1", " ".join(answer.split()))
