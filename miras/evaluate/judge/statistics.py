"""From verdicts to scores: means over dialogues, intervals over pictures, win rates. Missing is never zero."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from statistics import fmean, stdev

import numpy as np

from miras.evaluate.judge.records import (
    DIMENSIONS,
    ORDERS,
    Dimension,
    JudgedDialogue,
    Mean,
    PairwiseWinRate,
    Preference,
    Side,
    SideScores,
    UnansweredQuestion,
    Verdict,
    WinRate,
)

EQUAL_WITHIN = 1e-9  # of totals: sums of decimal fractions
Outcome = int  # 1 win, 0 tie, -1 loss, of the model


class Bootstrap:
    """Means with 95 % intervals over resampled pictures."""

    def __init__(self, *, rounds: int, seed: int) -> None:
        self._rounds = rounds
        self._seed = seed

    def mean(self, values: Mapping[str, float], dialogues: Sequence[JudgedDialogue]) -> Mean:
        """The mean over dialogues; a picture is drawn with all of its dialogues.

        Args:
            values: dialogue id -> value, of those that have one.
            dialogues: all.
        """
        sums: dict[str, float] = defaultdict(float)
        counts: Counter[str] = Counter()
        for dialogue in dialogues:
            if dialogue.dialogue_id in values:
                sums[dialogue.image_id] += values[dialogue.dialogue_id]
                counts[dialogue.image_id] += 1
        if not counts:
            return Mean(value=None, low=None, high=None)
        value = fsum(values.values()) / counts.total()
        if len(counts) < 2:
            return Mean(value=value, low=None, high=None)
        low, high = self._interval(np.array([sums[image_id] for image_id in counts]), np.array([*counts.values()]))
        return Mean(value=value, low=low, high=high)

    def _interval(self, sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        draws = np.random.default_rng(self._seed)
        means = []
        for _ in range(self._rounds):
            drawn = draws.integers(0, len(sums), len(sums))
            means.append(sums[drawn].sum() / counts[drawn].sum())
        low, high = np.percentile(means, [2.5, 97.5])
        return float(low), float(high)


def dialogue_scores(verdicts: Iterable[Verdict], side: Side) -> dict[str, dict[Dimension, float]]:
    """Dialogue id -> mean of its readings per dimension; dialogues without any reading are left out."""
    return {
        dialogue_id: {dimension: fmean(verdict.scores[dimension] for verdict in found) for dimension in DIMENSIONS}
        for dialogue_id, found in _by_dialogue(verdicts, side).items()
    }


def overall(scores: Mapping[str, Mapping[Dimension, float]]) -> dict[str, float]:
    """Dialogue id -> mean of the four dimensions."""
    return {dialogue_id: fmean(found.values()) for dialogue_id, found in scores.items()}


def side_scores(
    verdicts: Sequence[Verdict],
    unanswered: Iterable[UnansweredQuestion],
    side: Side,
    *,
    dialogues: Sequence[JudgedDialogue],
    bootstrap: Bootstrap,
) -> SideScores:
    """Scores of one side."""
    scores = dialogue_scores(verdicts, side)
    spreads = [
        stdev(fmean(verdict.scores.values()) for verdict in found)
        for found in _by_dialogue(verdicts, side).values()
        if len(found) > 1
    ]
    return SideScores(
        scored=len(scores),
        unscored=len(dialogues) - len(scores),
        readings=sum(verdict.side == side for verdict in verdicts),
        unanswered=_causes(question for question in unanswered if question.asked == side),
        scores={
            dimension: bootstrap.mean({key: found[dimension] for key, found in scores.items()}, dialogues)
            for dimension in DIMENSIONS
        },
        mean=bootstrap.mean(overall(scores), dialogues),
        spread=fmean(spreads) if spreads else None,
    )


def difference(verdicts: Sequence[Verdict], dialogues: Sequence[JudgedDialogue], bootstrap: Bootstrap) -> Mean:
    """Model minus reference, of the mean of the four dimensions, over the dialogues that have both."""
    return bootstrap.mean(_differences(verdicts), dialogues)


def by_total(verdicts: Sequence[Verdict], dialogues: Sequence[JudgedDialogue], bootstrap: Bootstrap) -> WinRate:
    """Wins where the model's four scores add up to more than the reference's (paper, C.4.3)."""
    outcomes = {
        dialogue_id: 0 if abs(by) < EQUAL_WITHIN else int(np.sign(by))
        for dialogue_id, by in _differences(verdicts).items()
    }
    return _win_rate(outcomes, dialogues, bootstrap)


def pairwise(
    preferences: Sequence[Preference],
    unanswered: Iterable[UnansweredQuestion],
    *,
    dialogues: Sequence[JudgedDialogue],
    bootstrap: Bootstrap,
) -> PairwiseWinRate:
    """Wins where both orders prefer the model; a dialogue that lacks an order is unscored."""
    found: dict[str, list[Preference]] = defaultdict(list)
    for preference in preferences:
        found[preference.dialogue_id].append(preference)
    both = {key: [each.better for each in pair] for key, pair in found.items() if len(pair) == len(ORDERS)}
    points = {"model": 1, "equal": 0, "reference": -1}
    outcomes = {key: points[pair[0]] if pair[0] == pair[1] else 0 for key, pair in both.items()}
    decided = [each for each in preferences if each.better != "equal"]
    first = sum(each.order == f"{each.better} first" for each in decided)
    return PairwiseWinRate(
        **dict(_win_rate(outcomes, dialogues, bootstrap)),
        split=sum(pair[0] != pair[1] for pair in both.values()),
        first_percent=100 * first / len(decided) if decided else None,
        unanswered=_causes(question for question in unanswered if question.asked == "comparison"),
    )


def _differences(verdicts: Sequence[Verdict]) -> dict[str, float]:
    model, reference = (overall(dialogue_scores(verdicts, side)) for side in ("model", "reference"))
    return {key: model[key] - reference[key] for key in model if key in reference}


def _win_rate(outcomes: Mapping[str, Outcome], dialogues: Sequence[JudgedDialogue], bootstrap: Bootstrap) -> WinRate:
    counts = Counter(outcomes.values())
    return WinRate(
        wins=counts[1],
        ties=counts[0],
        losses=counts[-1],
        unscored=len(dialogues) - len(outcomes),
        win_percent=bootstrap.mean({key: 100.0 * (outcome > 0) for key, outcome in outcomes.items()}, dialogues),
    )


def _by_dialogue(verdicts: Iterable[Verdict], side: Side) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.side == side:
            found[verdict.dialogue_id].append(verdict)
    return found


def _causes(questions: Iterable[UnansweredQuestion]) -> dict[str, int]:
    return dict(sorted(Counter(question.cause for question in questions).items()))
