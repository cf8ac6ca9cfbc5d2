"""The section `ingest` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from miras.config import Section

SourceName = Literal["scenes", "coco", "labelme"]


class IngestConfig(Section):
    """Which source is read, how much of it, and how many unreadable records are borne."""

    source: SourceName
    """scenes (rendered by miras), coco (an instances file) or labelme (a folder of files)."""
    annotations: str
    """coco: the annotation file; labelme: the folder of *.json, with its subfolders; scenes: unused."""
    pictures: str
    """Folder of the pictures; "" looks beside the annotations; scenes: unused."""
    watched: str = Field(min_length=1)
    """File or folder that DVC watches: when it changes, the source is read again. Your own folder; for scenes the
    code that renders them."""
    max_pictures: int = Field(gt=0)
    """Stop after this many pictures (scenes: how many to render)."""
    scene_size_px: int = Field(gt=0)
    """Side of a rendered scene, pixels."""
    seed: int = Field(ge=0)
    """Seed of the rendered scenes."""
    max_rejected_share: float = Field(ge=0, le=1)
    """A larger share of unreadable pictures, or of unreadable regions, stops the stage."""
    max_megapixels: int = Field(gt=0, le=178)
    """A picture of more is refused before it is decoded; 178 is where Pillow itself refuses."""
    ignore_categories: list[str]
    """Names of categories or labels to leave out, spelled as in the annotations; not counted as rejected."""

    @model_validator(mode="after")
    def _user_source_names_its_annotations(self) -> IngestConfig:
        if self.source != "scenes" and not self.annotations:
            raise ValueError(f"source {self.source} needs `annotations`: the path of your annotations")
        return self
