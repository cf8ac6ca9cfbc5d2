"""What a judge is asked about, what it said, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field

from miras.dialogue.records import Frozen, Rejected
from miras.evaluate.records import History
from miras.llm.records import WhyUnanswered

Dimension = Literal["progression", "logical_coherence", "content_consistency", "target_relevance"]
DIMENSIONS: tuple[Dimension, ...] = ("progression", "logical_coherence", "content_consistency", "target_relevance")
BEST_SCORE = 5.0
Side = Literal["model", "reference"]
SIDES: tuple[Side, ...] = ("model", "reference")
Order = Literal["model first", "reference first"]
ORDERS: tuple[Order, ...] = ("model first", "reference first")
Asked = Literal["model", "reference", "comparison"]
"""A reading of the model's dialogue, one of the reference dialogue, or which of the two is better."""


@dataclass(frozen=True)
class Judged:
    """Whose predictions are judged."""

    benchmark: str
    model: str
    history: History

    def __str__(self) -> str:
        return f"{self.benchmark}, {self.model}, history {self.history}"


class TurnText(NamedTuple):
    """A turn as the judge reads it: one line each, without markers."""

    question: str
    answer: str


@dataclass(frozen=True)
class JudgedDialogue:
    """A dialogue as the model and as the reference answers it."""

    dialogue_id: str
    image_id: str
    """Empty: without picture."""
    file_name: str
    """Of the picture; empty where the questions do not say."""
    focus: str
    """What it leads to; empty where nobody says."""
    turns: Mapping[Side, tuple[TurnText, ...]]
    silent_turns: int
    """Turns that the model left without an answer."""


class _Said(Frozen):
    dialogue_id: str
    image_id: str
    remarks: str
    """The judge's reasons."""
    repairs: int
    """How often it had to be asked again."""
    raw: str
    """Its whole answer as it came."""


class Verdict(_Said):
    """One reading of one dialogue."""

    side: Side
    reading: int = Field(ge=0)
    scores: dict[Dimension, float]
    """0 to 5 each."""


class Preference(_Said):
    """Which of the two dialogues is better, shown in one order."""

    order: Order
    better: Literal["model", "reference", "equal"]


class UnansweredQuestion(Rejected):
    """A question that the judge gave no usable answer to; no score is made up for it."""

    dialogue_id: str
    asked: Asked
    number: int
    """Of the reading, or of the order."""
    cause: WhyUnanswered
    raw: tuple[str, ...]
    """Everything that was answered, first to last."""


class Mean(Frozen):
    """A mean over dialogues with its 95 % interval over resampled pictures."""

    value: float | None
    """None: nothing was scored."""
    low: float | None
    """None: fewer than two pictures."""
    high: float | None


class SideScores(Frozen):
    """Scores of the model's or of the reference dialogues; a dialogue's score is the mean of its readings."""

    scored: int
    """Dialogues with at least one reading."""
    unscored: int
    """Dialogues without any."""
    readings: int
    unanswered: dict[str, int]
    """Readings that are missing, by cause."""
    scores: dict[Dimension, Mean]
    """0 to 5."""
    mean: Mean
    """Of the four dimensions."""
    spread: float | None
    """Standard deviation of `mean` among readings of one dialogue, averaged: how far the judge agrees with itself.
    None: no dialogue has two readings."""


class WinRate(Frozen):
    """Model against reference; wins + ties + losses + unscored = dialogues."""

    wins: int
    ties: int
    losses: int
    unscored: int
    win_percent: Mean
    """Wins among the scored ones, 0 to 100."""


class PairwiseWinRate(WinRate):
    """The judge sees both dialogues, in both orders: what it prefers in both is a win or a loss, all else a tie."""

    split: int
    """Ties for want of agreement between the two orders."""
    first_percent: float | None
    """How often the dialogue shown first was preferred, among all preferences, 0 to 100; 50 is unbiased."""
    unanswered: dict[str, int]
    """Preferences that are missing, by cause."""


class Agreement(Frozen):
    """Judge and people on one dimension."""

    pearson: float | None
    """None: fewer than two dialogues, or one side gave all of them the same score."""
    spearman: float | None
    mean_absolute_difference: float | None
    """In points of the scale 0 to 5. None: no dialogue."""


class HumanAgreement(Frozen):
    """The judge's scores of the model's dialogues beside those of people."""

    file: str
    dialogues: int
    """Scored by both."""
    only_people: int
    """Dialogues of the file that the judge did not score."""
    only_judge: int
    people: dict[str, int]
    """Who scored -> dialogues; "" where the file does not say."""
    dimensions: dict[Dimension, Agreement]
    mean: Agreement
    """Of the mean of the four dimensions."""


class JudgeScores(Frozen):
    """All that the judge's answers come to, and what made them."""

    benchmark: str
    model: str
    history: History
    judge: str
    """Name of the model that judged."""
    temperature: float | None
    """None: the server's own."""
    judge_seed: int | None
    prompt_version: str
    """Hash of the prompts' templates and of the forms of the answers."""
    repeats: int
    baseline: str
    """What stands in for the human answers."""
    available: int
    """Dialogues of the benchmark."""
    dialogues: int
    """Judged: a seeded choice of them."""
    pictures: int
    silent_dialogues: int
    """Judged dialogues with at least one turn that the model left without an answer; they count."""
    silent_turns: int
    sides: dict[Side, SideScores]
    difference: Mean
    """Model minus reference, of `mean`, over dialogues with both."""
    pairwise: PairwiseWinRate
    by_total: WinRate
    """The paper's form: the four scores of the model's dialogue add up to more than the reference's, or as many."""
    failed_shares: dict[Asked, float]
    """Of the judge's answers of each kind, the share that is missing."""
    max_failed_share: float
    is_complete: bool
    """Whether no share is above the limit. Where it is not, the means are of a selected part."""
    human: HumanAgreement | None
