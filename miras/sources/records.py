"""What every reader hands to the stage `ingest`: one picture with its regions."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from miras.dialogue.records import Dialogue, Region


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
