"""What a prediction is: one answer of one model, with all that scoring it needs."""

from __future__ import annotations

from typing import Literal

from miras.dialogue.records import DialogueKind, Frozen, Rle

Benchmark = Literal["dialogues", "queries", "hard"]
History = Literal["reference", "own", "none", "any"]


class PredictedMask(Frozen):
    """A mask and the phrase it was given with."""

    phrase: str
    mask: Rle


class Prediction(Frozen):
    """One answered turn. Scoring reads these records only."""

    benchmark: Benchmark
    model: str
    """stage1, stage2, no-picture, or a baseline: whole-image, random-object, largest-object."""
    history: History
    """What the model had read before the question: reference answers, its own, or nothing; any: a baseline
    that reads nothing."""
    dialogue_id: str
    image_id: str
    kind: DialogueKind
    turn: int
    """Index within the dialogue."""
    is_last: bool
    """Whether this turn is the dialogue's last: the one whose mask is scored."""
    question: str
    reference: str
    """The reference answer, with markers."""
    answer: str
    """The generated answer, with markers; empty for baselines."""
    groups: tuple[PredictedMask, ...]
    targets: tuple[str, ...]
    """Phrases of the targets; empty: there is none."""
    target: Rle | None
    """Union of the targets' masks; None: no target, or a target without mask (then it is not scored)."""
    seconds: float
    """Wall time of the answer."""
    is_cut: bool = False
    """Whether the answer was cut off at the longest length allowed."""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """Unique in a file of predictions."""
        return self.benchmark, self.model, self.history, self.dialogue_id, self.turn
