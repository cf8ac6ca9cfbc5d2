"""IoU and Cohen's kappa, against scikit-learn and at their edges."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, jaccard_score

from miras.annotate.agreement import compare, count, summarise
from miras.dialogue import masks
from miras.dialogue.records import Rle


def mask(*, width: int = 50, rows: int = 10, start: int = 0) -> Rle:
    drawn = np.zeros((40, width), dtype=bool)
    drawn[start : start + rows, 5:25] = True
    return masks.encode(drawn)


def test_the_numbers_are_those_of_scikit_learn() -> None:
    dice = np.random.default_rng(3)
    for _ in range(20):
        first, second = (dice.random((2, 12, 17)) < dice.random((2, 1, 1))).astype(bool)
        if not first.any() or first.all():
            continue
        counts = count(masks.encode(first), masks.encode(second))
        assert counts.kappa == pytest.approx(cohen_kappa_score(first.ravel(), second.ravel()))
        assert counts.iou == pytest.approx(jaccard_score(first.ravel(), second.ravel()))


@pytest.mark.parametrize(
    ("first", "second", "iou", "kappa"),
    [
        (mask(rows=0), mask(rows=0), 1.0, 1.0),
        (mask(rows=0), mask(), 0.0, 0.0),
        (mask(), mask(), 1.0, 1.0),
        (mask(), mask(start=20), 0.0, -1 / 9),
    ],
)
def test_the_edges_are_defined(first: Rle, second: Rle, iou: float, kappa: float) -> None:
    counts = count(first, second)
    assert counts.iou == iou
    assert counts.kappa == pytest.approx(kappa)


def test_all_of_the_picture_against_none_of_it_is_chance() -> None:
    full = masks.encode(np.ones((4, 5), dtype=bool))
    empty = masks.encode(np.zeros((4, 5), dtype=bool))
    assert count(full, full).kappa == 1.0
    assert count(full, empty).kappa == 0.0


def test_the_table_has_groups_pairs_and_sizes() -> None:
    half = mask(rows=5)
    agreements = [
        *compare("s1", [("a", mask()), ("b", mask())]),
        *compare("s2", [("b", half), ("c", mask())]),
        *compare("s3", [("a", mask(rows=0)), ("b", mask(rows=0))]),
    ]
    table = summarise(agreements)
    assert table["all"]["samples"] == 3
    assert table["all"]["iou"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert table["all"]["iou_pooled"] == pytest.approx(300 / 400)
    assert table["pairs"]["a and b"]["iou"] == 1.0
    assert table["groups"]["c"] == table["pairs"]["b and c"]
    assert set(table["sizes"]) == {"coarse", "empty"}
    assert [row["iou"] for row in table["samples"]] == [1.0, 0.5, 1.0]


def test_three_groups_are_compared_in_pairs() -> None:
    found = compare("s", [("a", mask()), ("b", mask(rows=5)), ("c", mask(rows=5))])
    assert {item.groups: item.counts.iou for item in found} == {("a", "b"): 0.5, ("a", "c"): 0.5, ("b", "c"): 1.0}


def test_every_name_is_one_that_mlflow_takes() -> None:
    table = summarise(compare("s", [("group-1", mask()), ("Group_2", mask(rows=5)), ("3", mask(rows=0))]))
    names = {name for part in ("groups", "pairs", "sizes") for name in table[part]}
    assert all(re.fullmatch(r"[\w.\- :/]+", name) for name in names), names  # mlflow.utils.validation


def test_without_comparisons_there_is_no_agreement() -> None:
    assert summarise([])["all"] == {"samples": 0}
