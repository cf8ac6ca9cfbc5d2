"""The section `ingest` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from miras.config import Section
from miras.sources.ade20k import Ade20kSource
from miras.sources.captions import CaptionsSource
from miras.sources.coco import CocoSource
from miras.sources.coco_panoptic import CocoPanopticSource
from miras.sources.labelme import LabelmeSource
from miras.sources.limits import ReadLimits
from miras.sources.llava_instruct import LlavaInstructSource
from miras.sources.lvis import LvisSource
from miras.sources.mrseg import MrsegSource
from miras.sources.paco import PacoSource
from miras.sources.pascal_part import PascalPartSource
from miras.sources.prist import PristSource
from miras.sources.reasonseg import ReasonSegSource
from miras.sources.refer import ReferSource
from miras.sources.scenes import ScenesSource
from miras.sources.semantic import SemanticSource
from miras.sources.visual_genome import VisualGenomeSource

Source = Annotated[
    ScenesSource
    | CocoSource
    | LabelmeSource
    | LvisSource
    | PacoSource
    | PascalPartSource
    | Ade20kSource
    | CocoPanopticSource
    | SemanticSource
    | VisualGenomeSource
    | ReferSource
    | ReasonSegSource
    | CaptionsSource
    | LlavaInstructSource
    | PristSource
    | MrsegSource,
    Field(discriminator="reader"),
]
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class IngestConfig(Section):
    """Which sources are read, how much of them, and how many unreadable records are borne."""

    sources: dict[SourceName, Source] = Field(min_length=1)
    """Name of each source -> its reader and what that reads. Where there are several, ids begin with the name."""
    watched: str = Field(min_length=1)
    """File or folder that DVC watches: when it changes, the sources are read again. Your own folder; for scenes the
    code that renders them."""
    max_pictures: int = Field(gt=0)
    """Of each source, stop after this many."""
    max_rejected_share: float = Field(ge=0, le=1)
    """A larger share of unreadable pictures, or of unreadable regions, of a source stops the stage."""
    max_megapixels: int = Field(gt=0, le=178)
    """A picture of more is refused before it is decoded; 178 is where Pillow itself refuses."""
    ignore_categories: list[str]
    """Names of categories or labels to leave out, spelled as in the annotations; not counted as rejected."""

    def limits(self) -> ReadLimits:
        """What every reader is told."""
        return ReadLimits(self.max_pictures, self.max_megapixels, tuple(self.ignore_categories))
