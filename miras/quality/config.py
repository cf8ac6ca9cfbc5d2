"""Settings of the stages `check` and `split`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from miras.config import Section


class CheckConfig(Section):
    """What a good record is, and how many bad ones are too many."""

    min_turns: int = Field(ge=1)
    """Fewest turns of a PRIST dialogue (3 in the paper); every other kind has exactly one turn."""
    max_turns: int = Field(ge=1)
    """Most turns of a PRIST dialogue (7 in the paper)."""
    max_words_per_turn: int = Field(ge=1)
    """Longest question or answer, in words separated by blanks."""
    min_area_canvas_px: int = Field(ge=1)
    """Smallest mask of a target, in pixels of a 1024 x 1024 canvas (304 in the PRIST paper, section 3)."""
    near_duplicate_similarity: float = Field(gt=0, le=1)
    """Dialogues of one picture with the same targets repeat each other from this Jaccard similarity of their
    three-word shingles on; 1.0 finds exact repetitions only."""
    max_quarantined_share: float = Field(ge=0, le=1)
    """A larger share of quarantined dialogues, or of quarantined regions, stops the pipeline."""

    @model_validator(mode="after")
    def _turn_bounds_agree(self) -> Self:
        if self.min_turns > self.max_turns:
            raise ValueError(f"min_turns ({self.min_turns}) is above max_turns ({self.max_turns})")
        return self


class SplitConfig(Section):
    """Which pictures are kept apart from training."""

    val_share: float = Field(gt=0, lt=1)
    """Expected share of the pictures in `val`."""
    test_share: float = Field(gt=0, lt=1)
    """Expected share of the pictures in `test`."""
    seed: int
    """Another seed gives another split."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError(f"val_share + test_share is {self.val_share + self.test_share}: nothing to train on")
        return self
