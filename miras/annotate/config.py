"""Section `annotate` of params.yaml."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from miras.config import Section

Mode = Literal["off", "labelme"]
Scope = Literal["missing", "all"]
SamType = Literal["vit_b", "vit_l", "vit_h"]

ADJUDICATION = "adjudication"  # the folder of the third opinion, beside those of the groups
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class AnnotateConfig(Section):
    """Whether people draw masks, who draws what, and how well they have to agree."""

    mode: Mode
    """off: regions and dialogues pass as they are; labelme: they are handed out as folders of Labelme files."""
    folder: str = Field(min_length=1)
    """Where the folders of the groups lie; make it first. DVC watches it; nothing deletes it: it is people's work."""
    groups: list[str]
    """Names of the groups of annotators, one folder each; unused with mode off."""
    per_sample: int = Field(ge=1)
    """How many groups draw each sample, without seeing each other's work; the paper has 2."""
    scope: Scope
    """missing: regions without a mask that a dialogue speaks of; all: every region a dialogue speaks of."""
    min_iou: float = Field(ge=0, le=1)
    """Two outlines of a sample that overlap less go to the adjudicator."""
    min_kappa: float = Field(ge=-1, le=1)
    """The same for Cohen's kappa over the picture's pixels."""
    sam: str | None
    """Weights of SAM (a `sam_vit_*.pth`) that propose outlines where there is no mask; null: no proposals."""
    sam_type: SamType
    """Size of that SAM."""

    @model_validator(mode="after")
    def _groups_can_be_dealt(self) -> AnnotateConfig:
        if self.mode == "off":
            return self
        lower = [group.lower() for group in self.groups]  # some file systems do not tell cases apart
        if len(set(lower)) < len(lower):
            raise ValueError(f"groups: {self.groups} names one group twice")
        for group in self.groups:
            if not _FOLDER_NAME.fullmatch(group) or group.lower() == ADJUDICATION:
                raise ValueError(
                    f"groups: {group!r} cannot be a group's folder; use letters, digits, - and _, at most 40, "
                    f"and not {ADJUDICATION!r}"
                )
        if len(self.groups) < self.per_sample:
            raise ValueError(f"per_sample is {self.per_sample}, but there are only {len(self.groups)} groups")
        return self
