from __future__ import annotations

import numpy as np
import pytest

from miras.errors import DataError
from miras.evaluate.mask_metrics import MaskSample, bootstrap, compare, summarize


def sample(predicted: list[list[int]], target: list[list[int]], *, image_id: str = "p") -> MaskSample:
    return compare(
        predicted=np.array(predicted, dtype=bool),
        target=np.array(target, dtype=np.uint8),
        image_id=image_id,
        size_class="fine",
    )


def random_samples(count: int) -> list[MaskSample]:
    dice = np.random.default_rng(3)
    return [
        compare(
            predicted=dice.random((9, 7)) < 0.4,
            target=dice.random((9, 7)) < 0.5,
            image_id=f"p{number % 5}",
            size_class="fine",
        )
        for number in range(count)
    ]


def test_counts_of_two_by_two_masks_are_those_counted_by_hand() -> None:
    found = sample([[1, 1], [0, 0]], [[1, 0], [1, 0]])
    assert (found.intersection_px, found.union_px, found.predicted_px, found.target_px) == (1, 3, 2, 2)
    assert found.iou == pytest.approx(1 / 3)


def test_pooled_and_mean_iou_differ_as_computed_by_hand() -> None:
    row = summarize([sample([[1, 1], [1, 1]], [[1, 1], [1, 1]]), sample([[1, 0], [0, 0]], [[0, 1], [0, 0]])])
    assert row["ciou"] == pytest.approx(4 / 6)
    assert row["giou"] == pytest.approx(0.5)
    assert row["precision"] == row["recall"] == pytest.approx(4 / 5)
    assert row["macro_precision"] == pytest.approx(0.5)
    assert row["precision_at_50"] == pytest.approx(0.5)
    # background: first picture has none; second has 2 of 4 pixels in neither mask, union 4 (all but 4 found)
    assert row["background_foreground_iou"] == pytest.approx((2 / 4 + 4 / 6) / 2)


def test_two_empty_masks_agree_and_are_counted_apart() -> None:
    row = summarize([sample([[0, 0]], [[0, 0]]), sample([[1, 0]], [[0, 0]])])
    assert row["giou"] == pytest.approx(0.5)
    assert (row["no_target"], row["no_target_accuracy"]) == (2, 0.5)
    assert row["ciou"] == 0.0
    assert "precision_at_50" not in row


def test_a_missing_mask_counts_as_zero_everywhere() -> None:
    full, missing = sample([[1, 1]], [[1, 1]]), sample([[0, 0]], [[1, 1]])
    row = summarize([full, missing])
    assert row["missing_masks"] == 1
    for key in ("ciou", "giou", "recall", "macro_precision", "precision_at_90", "box_complete_iou"):
        assert row[key] == pytest.approx(0.5), key


def test_pixels_marked_255_count_for_neither_mask() -> None:
    found = sample([[1, 1], [0, 0]], [[1, 255], [255, 0]])
    assert (found.intersection_px, found.union_px, found.counted_px) == (1, 1, 2)


def test_counts_stay_exact_above_two_to_the_24_pixels() -> None:
    mask = np.ones((4097, 4097), dtype=bool)
    target = mask.copy()
    target[0, 0] = False
    found = compare(predicted=mask, target=target, image_id="p", size_class="coarse")
    assert found.intersection_px == 4097**2 - 1
    assert summarize([found])["missing_masks"] == 0


def test_pooled_iou_follows_from_pooled_f1() -> None:
    row = summarize(random_samples(12))
    assert row["ciou"] == pytest.approx(row["f1"] / (2 - row["f1"]))


def test_complete_iou_of_boxes_punishes_distance() -> None:
    near = sample([[1, 0, 0, 0]], [[0, 1, 0, 0]]).box_complete_iou
    far = sample([[1, 0, 0, 0]], [[0, 0, 0, 1]]).box_complete_iou
    assert near == pytest.approx(-1 / 5)  # centres 1 apart, common box 2 x 1
    assert far == pytest.approx(-9 / 17)


def test_masks_of_different_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(DataError, match=r"p: predicted mask is \(1, 2\), target is \(2, 1\)"):
        sample([[1, 1]], [[1], [1]])


def test_bootstrap_is_decided_by_its_seed_and_holds_the_score() -> None:
    samples = random_samples(40)
    ciou, giou = bootstrap(samples, rounds=300, seed=1)
    assert (ciou, giou) == bootstrap(samples, rounds=300, seed=1)
    assert (ciou, giou) != bootstrap(samples, rounds=300, seed=2)
    assert ciou.low < summarize(samples)["ciou"] < ciou.high


def test_bootstrap_draws_pictures_not_samples() -> None:
    good, bad = sample([[1, 1]], [[1, 1]]), sample([[1, 0]], [[0, 1]])
    one_picture = [good, bad] * 10
    ciou, giou = bootstrap(one_picture, rounds=100, seed=0)
    assert ciou.low == ciou.high == pytest.approx(summarize(one_picture)["ciou"])
    assert giou.low == giou.high == pytest.approx(0.5)
