from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from miras.errors import DataError
from miras.evaluate import statistics
from miras.evaluate.mask_metrics import MaskSample, summarize
from miras.evaluate.statistics import Interval, bootstrap, paired

METRICS = ("ciou", "giou", "f1", "precision_at_50", "macro_f1", "boundary_iou")


def made(
    intersection: int, predicted: int, target: int, *, picture: str = "p", boundary_iou: float = 0.5
) -> MaskSample:
    return MaskSample(
        image_id=picture,
        size_class="fine" if target else "",
        intersection_px=intersection,
        predicted_px=predicted,
        target_px=target,
        counted_px=10_000,
        box_complete_iou=0.0,
        boundary_iou=boundary_iou,
    )


def random_samples(count: int, *, pictures: int, quality: float = 0.6, seed: int = 0) -> list[MaskSample]:
    """Every fifth without target."""
    dice, truth = np.random.default_rng(seed), np.random.default_rng(99)
    found = []
    for number in range(count):
        target = 0 if number % 5 == 4 else int(truth.integers(1, 3000))
        predicted = int(dice.integers(0, 3000))
        intersection = int(min(target, predicted) * min(1.0, dice.random() + quality / 2))
        found.append(
            made(intersection, predicted, target, picture=f"p{number % pictures}", boundary_iou=float(dice.random()))
        )
    return found


def test_intervals_hold_the_scores_and_are_decided_by_the_seed() -> None:
    samples = random_samples(200, pictures=50)
    found, row = bootstrap(samples, rounds=400, seed=1), summarize(samples)
    assert tuple(found) == METRICS
    for name, interval in found.items():
        assert interval.low < row[name] < interval.high, name
        assert interval.high - interval.low < 0.3, name
    assert found == bootstrap(samples, rounds=400, seed=1)
    assert found != bootstrap(samples, rounds=400, seed=2)


def test_every_draw_is_scored_as_summarize_scores_its_samples() -> None:
    """Pictures drawn by hand with the same generator, their samples repeated as often as drawn."""
    samples = random_samples(40, pictures=8)
    pictures = sorted({sample.image_id for sample in samples})
    draws = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8), size=100)
    rows = [
        summarize([sample for sample in samples for _ in range(draw[pictures.index(sample.image_id)])])
        for draw in draws
    ]
    for name, interval in bootstrap(samples, rounds=100, seed=5).items():
        low, high = np.percentile([row[name] for row in rows], [2.5, 97.5])
        assert (interval.low, interval.high) == pytest.approx((low, high)), name


def test_pictures_are_drawn_not_samples() -> None:
    one_picture = [made(4, 4, 4, boundary_iou=1.0), made(0, 1, 1, boundary_iou=0.0)] * 10
    row = summarize(one_picture)
    for name, interval in bootstrap(one_picture, rounds=100, seed=0).items():
        assert interval.low == interval.high == pytest.approx(row[name]), name


def test_draws_in_parts_are_the_draws_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = random_samples(60, pictures=20)
    whole = bootstrap(samples, rounds=130, seed=3)
    monkeypatch.setattr(statistics, "DRAWS_AT_A_TIME", 7 * 20)
    assert bootstrap(samples, rounds=130, seed=3) == whole


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    dice = np.random.default_rng(0)
    samples = [made(int(share * 1000), 1000, 1000, picture=f"p{n}") for n, share in enumerate(dice.random(400))]
    ious = np.array([sample.iou for sample in samples])
    half = 1.96 * ious.std() / 20
    interval = bootstrap(samples, rounds=3000, seed=0)["giou"]
    assert interval.low == pytest.approx(ious.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(ious.mean() + half, abs=0.1 * half)


def test_a_metric_without_value_has_no_interval() -> None:
    assert bootstrap([], rounds=100, seed=0) == {}
    empty = [made(0, 0, 0, picture=f"p{number}") for number in range(5)]
    assert bootstrap(empty, rounds=100, seed=0) == {"giou": Interval(1.0, 1.0)}
    no_target = [made(0, number % 2, 0, picture=f"p{number}") for number in range(5)]
    assert set(bootstrap(no_target, rounds=100, seed=0)) == {"ciou", "giou", "f1"}


def test_draws_without_value_are_left_out() -> None:
    """One picture of six has a target: a third of the draws lack it, and say nothing about the masks with target."""
    samples = [made(0, 0, 0, picture=f"p{number}") for number in range(5)] + [made(3, 4, 5, picture="q")]
    found = bootstrap(samples, rounds=200, seed=0)
    assert found["ciou"].low == found["ciou"].high == pytest.approx(3 / 6)
    assert found["macro_f1"].low == found["macro_f1"].high == pytest.approx(6 / 9)


def test_sums_beyond_two_to_the_24_pixels_are_exact() -> None:
    samples = [
        dataclasses.replace(made(5000**2 - 1, 5000**2 - 1, 5000**2, picture=f"p{n}"), counted_px=5000**2)
        for n in range(2000)
    ]
    interval = bootstrap(samples, rounds=100, seed=0)["ciou"]
    assert interval.low == interval.high == (5000**2 - 1) / 5000**2


# --- two models


def test_a_model_does_not_differ_from_itself() -> None:
    samples = random_samples(60, pictures=20)
    found = paired(samples, samples, rounds=200, seed=0)
    assert (found.samples, found.pictures) == (60, 20)
    for difference in (found.ciou, found.giou):
        assert difference is not None
        assert (difference.value, difference.interval, difference.p_value) == (0.0, Interval(0.0, 0.0), 1.0)


def test_a_clear_difference_is_found_and_changes_sign_with_the_order() -> None:
    target = random_samples(200, pictures=60)
    better = [dataclasses.replace(s, intersection_px=s.target_px, predicted_px=s.target_px) for s in target]
    found, turned = paired(better, target, rounds=500, seed=0), paired(target, better, rounds=500, seed=0)
    for name in ("ciou", "giou"):
        difference, opposite = getattr(found, name), getattr(turned, name)
        expected = summarize(better)[name] - summarize(target)[name]
        assert difference.value == pytest.approx(expected)
        assert 0 < difference.interval.low < expected < difference.interval.high
        assert difference.p_value == pytest.approx(2 / 501)
        assert opposite.value == pytest.approx(-expected)
        assert opposite.interval.low == pytest.approx(-difference.interval.high)
        assert opposite.p_value == pytest.approx(difference.p_value)


def test_models_of_the_same_quality_differ_by_chance_as_often_as_they_should() -> None:
    """Of 60 comparisons of equally good models about 3 have p < 0.05."""
    p_values = []
    for number in range(60):
        dice = np.random.default_rng(number)
        first, second = (
            [made(int(share * 1000), 1000, 1000, picture=f"p{n}") for n, share in enumerate(dice.random(40))]
            for _ in range(2)
        )
        p_values.append(paired(first, second, rounds=200, seed=number).giou.p_value)
    assert sum(p < 0.05 for p in p_values) <= 8
    assert 0.35 < float(np.mean(p_values)) < 0.65


def test_the_same_pictures_are_drawn_for_both() -> None:
    """The second is worse by the same amount everywhere: the difference is certain although the scores are not."""
    first = [made(500 + 4 * n, 1000, 1000, picture=f"p{n}") for n in range(100)]
    second = [dataclasses.replace(sample, intersection_px=sample.intersection_px - 20) for sample in first]
    score, difference = bootstrap(first, rounds=300, seed=0)["giou"], paired(first, second, rounds=300, seed=0).giou
    assert score.high - score.low > 5 * (difference.interval.high - difference.interval.low)


def test_there_is_no_pooled_difference_where_no_mask_has_a_pixel() -> None:
    empty = [made(0, 0, 0, picture=f"p{number}") for number in range(5)]
    found = paired(empty, empty, rounds=100, seed=0)
    assert found.ciou is None
    assert found.giou.value == 0.0


def test_lists_about_other_questions_are_refused_with_what_is_missing() -> None:
    samples = [made(1, 2, 3, picture=f"p{number}") for number in range(6)]
    with pytest.raises(DataError, match=r"6 and 4 samples; the second lacks 2 \(pictures p4, p5\)"):
        paired(samples, samples[:4], rounds=100, seed=0)
    with pytest.raises(DataError, match=r"the first lacks 5 \(pictures p1, p2, p3, \.\.\.\)"):
        paired(samples[:1], samples, rounds=100, seed=0)
    with pytest.raises(DataError, match=r"sample 0 is picture p0 .* in the first list and picture p5"):
        paired(samples, samples[::-1], rounds=100, seed=0)
    other_target = [*samples[:5], made(1, 2, 4, picture="p5")]
    with pytest.raises(DataError, match=r"sample 5 .* 3 of 10000 px .* 4 of 10000 px"):
        paired(samples, other_target, rounds=100, seed=0)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_fewer_than_two_pictures_say_nothing(count: int) -> None:
    samples = [made(1, 2, 3)] * count
    with pytest.raises(DataError, match=rf"{count} question\(s\) about {min(count, 1)} picture\(s\)"):
        paired(samples, samples, rounds=100, seed=0)
