"""Section `generate` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from miras.config import Section
from miras.llm.config import ModelConfig

Wording = Literal["train", "held_out"]


class GenerateConfig(Section):
    """How dialogues are written."""

    teacher: Literal["annotated", "model"]
    """Who writes the PRIST dialogues. annotated: from regions, parts and relations alone, without any language model;
    model: the language model below, which looks at the picture (and asks people to draw what has no mask). All other
    dialogues are always made from the regions."""
    model: ModelConfig | None
    """The language model of teacher `model`; where and how it is asked stands in infra/teacher.yaml."""
    polish: bool
    """Whether that model also puts the MRSeg questions into better words, kept where it finds the meaning unchanged."""
    dialogues_per_picture: int = Field(ge=0)
    """PRIST dialogues, at most; fewer where a picture has too few things that can be told apart."""
    queries_per_picture: int = Field(ge=0)
    """One-turn dialogues (semantic, referring, vqa, caption), at most; some pictures allow fewer."""
    mrseg_per_picture: int = Field(ge=0)
    """MRSeg dialogues of 2 to 6 turns, at most; 0 leaves them out."""
    hard_pairs_per_picture: int = Field(ge=0)
    """Classes with several objects about which "the other one" and "this one" are asked, at most; two objects of a
    class give 4 one-turn dialogues and 2 of two turns, more objects 2 one-turn dialogues. 0 leaves them out."""
    wording: Wording
    """Set of sentences of the MRSeg dialogues: those to train on, or those held out for tests."""
    min_turns: int = Field(ge=2, le=5)
    """Of a PRIST dialogue, the request for the mask included; every target has enough to be said for 5."""
    max_turns: int = Field(ge=2, le=12)
    """Of a PRIST dialogue; the paper's have 3 to 7."""
    seed: int = 0
    """Another seed gives other wording and other targets; pictures do not influence each other."""

    @model_validator(mode="after")
    def _model_is_there_when_asked(self) -> GenerateConfig:
        if (self.teacher == "model" or self.polish) != (self.model is not None):
            raise ValueError("teacher model, and polish, need `model`; without both model is null")
        return self

    @model_validator(mode="after")
    def _bounds_in_order(self) -> GenerateConfig:
        if self.min_turns > self.max_turns:
            raise ValueError(f"min_turns ({self.min_turns}) must not exceed max_turns ({self.max_turns})")
        return self
