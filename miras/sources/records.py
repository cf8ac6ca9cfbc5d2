"""What readers hand to the stage `ingest`: a picture with its regions and dialogues, or dialogues without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from miras.dialogue.records import Dialogue, Frozen, Region


class Original(Frozen):
    """A source record whose form holds more than a `Dialogue` does (ids, roles, markers, blanks).

    Kept beside the dialogues, since no stage but the export needs it, and written back by it.
    """

    dialogue_id: str
    """The dialogue that was made of it."""
    record: dict[str, Any]
    """As it stood in the source's JSON."""


@dataclass(frozen=True)
class TextOnly:
    """Dialogues without a picture (`image_id` "")."""

    dialogues: tuple[Dialogue, ...]


@dataclass(frozen=True)
class SourcePicture:
    """A picture as a reader yields it, before it is stored."""

    image_id: str
    """Unique in the data set, usable as a file name."""
    pixels: Image.Image
    """Upright, mode RGB."""
    origin: str
    """The source's own name of it: a file name, or the seed it was rendered from."""
    regions: tuple[Region, ...]
    """Objects and parts; `phrase` is "" where the source has none: the stage fills it with
    `miras.generate.phrases.identify`."""
    dialogues: tuple[Dialogue, ...] = ()
    """What the source itself says about the picture: referring expressions, questions and answers, captions."""
    licence: str = ""
    """Name or address of the picture's licence, where the source states one."""
    absent: tuple[str, ...] = ()
    """Class names that the source states to be nowhere in the picture, checked by people."""
    originals: tuple[Original, ...] = ()
    """Source records of its dialogues, in their order, where an export could not be made from the dialogues alone."""
