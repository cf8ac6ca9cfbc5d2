"""Means, intervals and win rates against values worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from miras.evaluate.judge.records import (
    DIMENSIONS,
    JudgedDialogue,
    Order,
    Preference,
    Side,
    UnansweredQuestion,
    Verdict,
)
from miras.evaluate.judge.statistics import Bootstrap, by_total, difference, pairwise, side_scores

BOOTSTRAP = Bootstrap(rounds=200, seed=0)


def dialogues(*ids: str) -> list[JudgedDialogue]:
    return [JudgedDialogue(name, name[0], "", "", {"model": (), "reference": ()}, 0) for name in ids]


def verdict(name: str, side: Side, *scores: float, reading: int = 0) -> Verdict:
    four = dict(zip(DIMENSIONS, scores if len(scores) == 4 else scores * 4, strict=True))
    return Verdict(
        dialogue_id=name, image_id=name[0], side=side, reading=reading, scores=four, remarks="", repairs=0, raw=""
    )


def preference(name: str, order: Order, better: str) -> Preference:
    return Preference.model_validate(
        {
            "dialogue_id": name,
            "image_id": name[0],
            "order": order,
            "better": better,
            "remarks": "",
            "repairs": 0,
            "raw": "",
        }
    )


def missing(name: str, asked: str, cause: str) -> UnansweredQuestion:
    return UnansweredQuestion.model_validate(
        {"where": name, "reason": cause, "dialogue_id": name, "asked": asked, "number": 0, "cause": cause, "raw": ()}
    )


def test_a_dialogue_counts_once_however_many_readings_it_has() -> None:
    verdicts = [
        verdict("a1", "model", 1, 2, 3, 4),
        verdict("a1", "model", 3, 2, 3, 4, reading=1),
        verdict("b1", "model", 5),
        verdict("a1", "reference", 0),
    ]
    lost = [missing("b1", "model", "wrong"), missing("c1", "model", "failed"), missing("c1", "reference", "failed")]
    found = side_scores(verdicts, lost, "model", dialogues=dialogues("a1", "b1", "c1"), bootstrap=BOOTSTRAP)
    assert (found.scored, found.unscored, found.readings) == (2, 1, 3)
    assert found.unanswered == {"failed": 1, "wrong": 1}
    assert found.scores["progression"].value == pytest.approx((2 + 5) / 2)
    assert found.mean.value == pytest.approx((2.75 + 5) / 2)
    assert found.spread == pytest.approx(np.std([2.5, 3.0], ddof=1))


def test_nothing_scored_is_no_score() -> None:
    found = side_scores([], [], "model", dialogues=dialogues("a1"), bootstrap=BOOTSTRAP)
    assert found.mean.value is found.mean.low is found.spread is None
    assert (found.scored, found.unscored) == (0, 1)
    wins = by_total([], dialogues("a1"), BOOTSTRAP)
    assert (wins.wins, wins.ties, wins.losses, wins.unscored, wins.win_percent.value) == (0, 0, 0, 1, None)


def test_the_difference_is_over_dialogues_with_both_sides() -> None:
    verdicts = [verdict("a1", "model", 4), verdict("a1", "reference", 3), verdict("b1", "model", 0)]
    assert difference(verdicts, dialogues("a1", "b1"), BOOTSTRAP).value == pytest.approx(1)


def test_totals_that_differ_only_by_rounding_are_a_tie() -> None:
    verdicts = [
        *(verdict("a1", "model", score, reading=number) for number, score in enumerate((4.0, 4.1, 4.2))),
        verdict("a1", "reference", 4.1),
        verdict("b1", "model", 3),
        verdict("b1", "reference", 2),
        verdict("c1", "model", 1),
        verdict("c1", "reference", 2),
        verdict("d1", "model", 1),
    ]
    found = by_total(verdicts, dialogues("a1", "b1", "c1", "d1"), BOOTSTRAP)
    assert (found.wins, found.ties, found.losses, found.unscored) == (1, 1, 1, 1)
    assert found.win_percent.value == pytest.approx(100 / 3)


def test_a_win_takes_both_orders() -> None:
    pairs = {
        "a1": ("model", "model"),
        "b1": ("reference", "reference"),
        "c1": ("model", "reference"),  # always the one shown first
        "d1": ("equal", "equal"),
        "e1": ("model", "equal"),
        "f1": ("model", None),
    }
    found: list[Preference] = []
    for name, (one, other) in pairs.items():
        found += [preference(name, "model first", one)] if one else []
        found += [preference(name, "reference first", other)] if other else []
    rate = pairwise(found, [missing("f1", "comparison", "refused")], dialogues=dialogues(*pairs), bootstrap=BOOTSTRAP)
    assert (rate.wins, rate.ties, rate.losses, rate.unscored, rate.split) == (1, 3, 1, 1, 2)
    assert rate.win_percent.value == pytest.approx(20)
    assert rate.unanswered == {"refused": 1}
    # shown first and preferred: a1 once, b1 once, c1 twice, e1, f1; of 8 that prefer one
    assert rate.first_percent == pytest.approx(100 * 6 / 8)


def resampled(values: Sequence[Sequence[float]], rounds: int) -> tuple[float, float]:
    """The interval, drawn picture by picture."""
    draws = np.random.default_rng(0)
    means = []
    for _ in range(rounds):
        drawn = [values[number] for number in draws.integers(0, len(values), len(values))]
        means.append(np.mean([value for of_picture in drawn for value in of_picture]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def test_intervals_draw_pictures_with_all_their_dialogues() -> None:
    values = {"a1": 1.0, "a2": 1.0, "a3": 1.0, "b1": 5.0, "c1": 3.0, "c2": 2.0}
    found = BOOTSTRAP.mean(values, dialogues(*values))
    assert found.value == pytest.approx(13 / 6)
    assert (found.low, found.high) == pytest.approx(resampled([[1, 1, 1], [5], [3, 2]], 200))
    alone = BOOTSTRAP.mean({"a1": 1.0, "a2": 2.0}, dialogues("a1", "a2"))
    assert (alone.value, alone.low, alone.high) == (1.5, None, None)
