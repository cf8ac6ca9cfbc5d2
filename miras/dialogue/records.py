"""Picture, Region, Turn and Dialogue: one data model for every data set.

PRIST is a dialogue whose last turn has one target; MRSeg has a target in every turn, and questions that speak of
earlier masks; RefCOCO and ADE20K are one-turn dialogues; VQA and captions have no target.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

TARGET_SLOT = "{target}"  # where an answer's text names a target; the renderer fills it, in order of `targets`

DialogueKind = Literal["prist", "mrseg", "semantic", "referring", "vqa", "caption"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Frozen(BaseModel):
    """A stored record: strict, unchangeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rle(Frozen):
    """A binary mask in COCO's compressed run-length form."""

    size: tuple[int, int]
    """(height, width) in pixels of the picture."""
    counts: str
    """Compressed runs, column-major, as pycocotools writes them."""


class Picture(Frozen):
    """A picture of the data set, stored upright as RGB."""

    image_id: str = Field(min_length=1)
    file_name: str
    """Name within `Paths.pictures`."""
    height: int = Field(gt=0)
    """Pixels."""
    width: int = Field(gt=0)
    """Pixels."""
    sha256: str
    """Of the stored file's bytes."""
    origin: str = ""
    """Where it came from: the source's own name of the file, or the seed it was rendered from."""
    source: str = ""
    """Which of `ingest.sources` it was read from."""
    licence: str = ""
    """Name or address of its licence, where the source states one."""
    absent: tuple[str, ...] = ()
    """Class names that the source states to be nowhere in it, checked by people."""
    is_exhaustive: bool = True
    """Whether a class of the source that is not annotated here is not here."""


class Relation(Frozen):
    """How a region stands to another one of its picture, as the source states it."""

    predicate: str
    """In lower case: "on", "wearing", "to the left of"."""
    object_id: str
    """Region id of the other one."""


class Region(Frozen):
    """Something in a picture that can be pointed at: an object, a part, a text label."""

    region_id: str = Field(min_length=1)
    """Unique in the data set."""
    image_id: str
    phrase: str
    """Noun phrase that identifies it in its picture, without article: "handle of the left red mug"."""
    mask: Rle | None
    """In pixels of the stored picture; None when the source has text only (the public PRIST test file)."""
    ignored: Rle | None = None
    """Pixels around it that scoring leaves out, where the source states some."""
    category: str = ""
    """Class name of an object ("mug"), or of a part without its object ("handle")."""
    attributes: dict[str, str] = {}
    """What the source states besides the class, such as {"colour": "red"} or {"text": "EXIT"}. `others` = yes or maybe:
    the picture shows, or may show, more of its class than is outlined."""
    parent_id: str | None = None
    """Region this one is part of."""
    relations: tuple[Relation, ...] = ()
    """How it stands to other regions, where the source says so."""


class Turn(Frozen):
    """A question and its answer."""

    question: str
    answer: str
    """Text; each `{target}` stands for one of `targets`. No `[OBJ]`, `[SEG]` or `<image>` is ever stored."""
    targets: tuple[str, ...] = ()
    """Region ids, in the order the answer names them. Empty: a text turn, or "there is none"."""
    names: tuple[str, ...] = ()
    """What the answer calls each target. Empty: each region's own phrase."""
    refers_to: tuple[int, ...] = ()
    """Indices of earlier turns whose masks the question speaks of."""
    points_at: tuple[str, ...] = ()
    """Region ids that the person points at together with the question (SegLLM's hard form: a mask and a text)."""


class Dialogue(Frozen):
    """Turns about one picture."""

    dialogue_id: str = Field(min_length=1)
    image_id: str
    """Empty: a dialogue without picture."""
    kind: DialogueKind
    focus: str
    """Phrase of what the dialogue leads to; empty for VQA and captions."""
    turns: tuple[Turn, ...]

    def references(self, number: int) -> tuple[str, ...]:
        """Ids of the regions whose masks the question of turn `number` speaks of."""
        turn = self.turns[number]
        earlier = [region_id for place in turn.refers_to for region_id in self.turns[place].targets]
        return tuple(dict.fromkeys((*earlier, *turn.points_at)))


class Rejected(Frozen):
    """A source record that could not be read, or was refused by a check."""

    where: str
    """File and record."""
    reason: str
    """What was found and what was expected."""
