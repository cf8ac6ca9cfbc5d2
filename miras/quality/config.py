"""Settings of the stages `check` and `split`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from miras.config import Section


class ShareBounds(Section):
    """What a share may be; null where there is no bound."""

    least: float | None = Field(ge=0, le=1)
    most: float | None = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least ({self.least}) is above most ({self.most})")
        return self


class SizeShares(Section):
    """Bounds of the shares of the targets by their size on the 1024 canvas (PRIST: 53, 25 and 22 %)."""

    fine: ShareBounds
    """Below 51.2 x 51.2 px."""
    medium: ShareBounds
    """Below 153.6 x 153.6 px."""
    coarse: ShareBounds
    """All larger ones."""

    @model_validator(mode="after")
    def _bounds_can_be_met(self) -> Self:
        bounds = (self.fine, self.medium, self.coarse)
        least = sum(bound.least or 0 for bound in bounds)
        most = sum(1 if bound.most is None else bound.most for bound in bounds)
        if least > 1 or most < 1:
            raise ValueError(f"no shares meet the bounds: the least add up to {least:g}, the most to {most:g}")
        return self


class CheckConfig(Section):
    """What a good record is, and how many bad ones are too many."""

    min_turns: int = Field(ge=1)
    """Fewest turns of a PRIST dialogue (3 in the paper); the other kinds have bounds of their own."""
    max_turns: int = Field(ge=1)
    """Most turns of a PRIST dialogue (7 in the paper)."""
    max_words_per_turn: int = Field(ge=1)
    """Longest question or answer, in words separated by blanks."""
    min_area_canvas_px: int = Field(ge=1)
    """Smallest mask of a target, in pixels of a 1024 x 1024 canvas (304 in the PRIST paper, section 3)."""
    near_duplicate_similarity: float = Field(gt=0, le=1)
    """Dialogues of one picture with the same targets repeat each other from this Jaccard similarity of their
    three-word shingles on; 1.0 finds exact repetitions only."""
    min_focus_named: float = Field(ge=0, le=1)
    """Of the content words of a PRIST dialogue's focus, the share that its turns before the request must name;
    99.3 % of the published records reach 0.6."""
    min_turns_linked: float = Field(ge=0, le=1)
    """Of a PRIST dialogue's later turns, the share that must take up a content word of earlier ones; 97.5 % of the
    published records reach 0.75."""
    word_list: str = Field(min_length=1)
    """File of patterns, one per line, that no text may hold; DVC watches it."""
    refuse_emails: bool
    """Whether texts with an e-mail address go to quarantine."""
    refuse_phones: bool
    """Whether texts with a telephone number (9 to 15 digits) go to quarantine."""
    min_agreement_iou: float = Field(ge=0, le=1)
    """Mean IoU of the masks that two people drew of the same thing must be above this (PRIST Table 1: 0.80)."""
    min_agreement_kappa: float = Field(ge=-1, le=1)
    """The same for Cohen's kappa (PRIST Table 1: 0.75)."""
    size_shares: SizeShares
    """What share of the targets may be fine, medium and coarse."""
    max_unknown_foci_share: float = Field(ge=0, le=1)
    """Of the PRIST foci, the share of which the rules may know no class; 1 bounds nothing."""
    on_bad_share: Literal["stop", "warn"]
    """What bad agreement and shares out of bounds do: stop the pipeline, or be told in log, summary and Data Docs."""
    without_licence: Literal["allow", "warn", "stop"]
    """What pictures whose licence nobody states do."""
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
    """Share of the pictures in `val`: expected, or with `keep_split` reached in every stratum."""
    test_share: float = Field(gt=0, lt=1)
    """Share of the pictures in `test`, likewise."""
    seed: int
    """Another seed gives another split."""
    keep_split: bool
    """Whether a picture keeps the split that the ledger has for it, whatever is added; false: its content alone
    decides, and the ledger is left as it is."""
    ledger: str = Field(min_length=1)
    """File of every picture's split, read and added to by the stage."""
    near_duplicate_bits: int = Field(ge=0, le=12)
    """Pictures whose 64-bit difference hashes differ in at most so many bits, and that look alike when compared, stay
    together. A copy differs in up to 9 bits, in 5 in most cases."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError(f"val_share + test_share is {self.val_share + self.test_share}: nothing to train on")
        return self
