"""Markers: how a stored answer becomes the text a model reads and writes, and back.

`[OBJ]` opens and `[SEG]` closes the phrase of one target (PRIST paper, section 4.1). Where the question speaks of a
mask, `<mask>` and `<box>` stand before it and the group is `[REF][OBJ]phrase[SEG]` (SegLLM paper, section 4.2). They
are special tokens of the tokenizer; stored questions and answers hold none, only `{target}` slots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from miras.dialogue.records import TARGET_SLOT, Turn

OBJ = "[OBJ]"
SEG = "[SEG]"
REF = "[REF]"
IMAGE = "<image>"
MASK = "<mask>"
BOX = "<box>"
MARKERS = (OBJ, SEG, IMAGE, REF, MASK, BOX)

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
    for name in target_names(turn, phrases):
        text = text.replace(TARGET_SLOT, f"{OBJ}{name}{SEG}", 1)
    return text


def target_names(turn: Turn, phrases: Mapping[str, str]) -> tuple[str, ...]:
    """What the answer calls each of its targets.

    Args:
        turn: to be rendered.
        phrases: region id -> phrase; not looked at where the turn has names of its own.
    """
    return turn.names or tuple(phrases[region_id] for region_id in turn.targets)


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
        answer = answer.replace(marker, " " if marker in (IMAGE, MASK, BOX) else "")
    return _SPACE_BEFORE_STOP.sub(r"\1", " ".join(answer.split()))
