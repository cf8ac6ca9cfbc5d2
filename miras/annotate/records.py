"""What is kept about people's work: what was handed out, what came back, how well it agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miras.dialogue.records import Dialogue, Frozen, Picture, Region, Rle

Field = Literal["question", "answer"]
State = Literal["accepted", "open", "rejected"]


@dataclass(frozen=True)
class Sample:
    """One thing to draw, with the dialogues that lead to it."""

    name: str
    """File stem: the region's id made safe, and a hash of picture and phrase; another phrase is another sample."""
    region: Region
    picture: Picture
    dialogues: tuple[Dialogue, ...]
    """Those whose last target it is; their text may be corrected here. A dialogue belongs to one sample at most."""


class HandedOut(Frozen):
    """A line of `manifest.jsonl`: a sample and what each group was given; the last line about a sample counts."""

    sample: str
    region_id: str
    image_id: str
    phrase: str
    size: tuple[int, int]
    """(height, width) of the picture, pixels."""
    outline_sha256: dict[str, str]
    """Group -> hash of its Labelme file as it was given; a file that still has it was never saved. In the order in
    which the sample was dealt."""
    text_sha256: dict[str, str]
    """Group -> hash of its text file as it was given."""


class Change(Frozen):
    """A correction of one question or answer."""

    dialogue_id: str
    turn: int
    """From 0."""
    field: Field
    before: str
    after: str


class Answer(Frozen):
    """What one group says about one sample, or why it says nothing yet."""

    sample: str
    group: str
    state: State
    reason: str = ""
    """Empty when accepted; else file, what was found, what was expected, what to do."""
    mask: Rle | None = None
    """None when not accepted, or when the group says that the thing is not in the picture."""
    changes: tuple[Change, ...] = ()


class Correction(Frozen):
    """A line of corrections.jsonl: a change of a dialogue that was taken over."""

    groups: tuple[str, ...]
    """Who asked for it."""
    change: Change
