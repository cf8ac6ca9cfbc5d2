"""Mask metrics against other people's: pycocotools, scikit-learn, torchmetrics, and masks counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_erosion, zoom
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torchmetrics.functional import classification as binary

from miras.dialogue.masks import decode, encode
from miras.dialogue.records import Rle
from miras.errors import DataError
from miras.evaluate.mask_metrics import MaskSample, compare, encode_labels, share_at_least, summarize
from miras.evaluate.mask_runs import check_rle

SEED = 3


def sample(
    predicted: np.ndarray | list[list[int]], labels: np.ndarray | list[list[int]], name: str = "p"
) -> MaskSample:
    """Of dense masks; 255 in the labels is ignored."""
    drawn, labels = np.array(predicted, dtype=bool), np.array(labels, dtype=np.uint8)
    target, ignored = encode_labels(labels)
    height, width = labels.shape
    return compare(predicted=encode(drawn), target=target, ignored=ignored, size=(height, width), image_id=name)


def blob(dice: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth shape with holes and several pieces, anywhere between empty and full."""
    coarse = zoom(dice.random((6, 6)), (height / 6, width / 6), order=3)[:height, :width]
    return np.asarray(coarse > dice.uniform(0.1, 0.9))


def random_pairs(count: int, *, seed: int = SEED) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predicted masks and labels: noise, shapes, empty ones, and some with ignored pixels."""
    dice = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        height, width = (int(side) for side in dice.integers(6, 70, 2))
        predicted = blob(dice, height, width) if number % 3 else dice.random((height, width)) < 0.3
        labels = blob(dice, height, width).astype(np.uint8)
        if number % 4 == 1:
            labels[dice.random((height, width)) < 0.2] = 255
        pairs.append((predicted & (number % 7 != 6), labels * (number % 5 != 4)))
    return pairs


def random_samples(count: int) -> list[MaskSample]:
    return [sample(*pair, f"p{number % 5}") for number, pair in enumerate(random_pairs(count))]


def coco(rle: Rle) -> dict[str, object]:
    return {"size": list(rle.size), "counts": rle.counts.encode()}


# --- by hand


def test_counts_of_two_by_two_masks_are_those_counted_by_hand() -> None:
    found = sample([[1, 1], [0, 0]], [[1, 0], [1, 0]])
    assert (found.intersection_px, found.union_px, found.predicted_px, found.target_px) == (1, 3, 2, 2)
    assert found.iou == pytest.approx(1 / 3)
    assert found.background_iou == pytest.approx(1 / 3)
    assert found.f1 == pytest.approx(1 / 2)


def test_pooled_and_mean_iou_differ_as_computed_by_hand() -> None:
    row = summarize([sample([[1, 1], [1, 1]], [[1, 1], [1, 1]]), sample([[1, 0], [0, 0]], [[0, 1], [0, 0]])])
    assert row["ciou"] == pytest.approx(4 / 6)
    assert row["giou"] == row["mean_iou_with_target"] == pytest.approx(0.5)
    assert row["precision"] == row["recall"] == pytest.approx(4 / 5)
    assert row["macro_precision"] == pytest.approx(0.5)
    assert row["precision_at_50"] == pytest.approx(0.5)
    # background: first picture has none; second has 2 of 4 pixels in neither mask, union 4 (all but 4 found)
    assert row["background_foreground_iou"] == pytest.approx((2 / 4 + 4 / 6) / 2)
    assert row["background_foreground_giou"] == pytest.approx(((1 + 1) / 2 + (2 / 4 + 0) / 2) / 2)


def test_two_empty_masks_agree_and_are_counted_apart() -> None:
    row = summarize([sample([[0, 0]], [[0, 0]]), sample([[1, 0]], [[0, 0]])])
    assert row["giou"] == pytest.approx(0.5)
    assert (row["no_target"], row["no_target_accuracy"]) == (2, 0.5)
    assert row["ciou"] == 0.0
    for key in ("precision_at_50", "macro_f1", "boundary_iou", "mean_iou_with_target"):
        assert key not in row


def test_what_cannot_be_scored_has_no_score() -> None:
    assert summarize([]) == {}
    row = summarize([sample([[0, 0]], [[0, 0]])])
    assert not {"ciou", "f1", "precision", "recall", "background_foreground_iou"} & row.keys()
    assert (row["giou"], row["no_target_accuracy"]) == (1.0, 1.0)


def test_a_missing_mask_counts_as_zero_everywhere() -> None:
    full, missing = sample([[1, 1]], [[1, 1]]), sample([[0, 0]], [[1, 1]])
    row = summarize([full, missing])
    assert row["missing_masks"] == 1
    for key in ("ciou", "giou", "recall", "macro_precision", "precision_at_90", "box_complete_iou", "boundary_iou"):
        assert row[key] == pytest.approx(0.5), key


def test_no_code_is_an_empty_mask() -> None:
    empty, full = encode(np.zeros((4, 6), bool)), encode(np.ones((4, 6), bool))
    for given in (None, empty):
        found = compare(predicted=given, target=full, ignored=None, size=(4, 6), image_id="p")
        assert (found.predicted_px, found.iou, found.size_class) == (0, 0.0, "coarse")
        found = compare(predicted=full, target=given, ignored=None, size=(4, 6), image_id="p")
        assert (found.target_px, found.iou, found.size_class) == (0, 0.0, "")
        found = compare(predicted=given, target=given, ignored=None, size=(4, 6), image_id="p")
        assert (found.iou, found.background_iou, found.boundary_iou) == (1.0, 1.0, 0.0)


def test_pixels_marked_255_count_for_neither_mask() -> None:
    found = sample([[1, 1], [0, 0]], [[1, 255], [255, 0]])
    assert (found.intersection_px, found.union_px, found.counted_px) == (1, 1, 2)
    assert found.box_complete_iou == pytest.approx(1.0)  # the ignored pixel is not in the box either


def test_a_target_that_is_ignored_whole_is_none() -> None:
    whole = encode(np.ones((3, 3), bool))
    found = compare(predicted=whole, target=whole, ignored=whole, size=(3, 3), image_id="p")
    assert (found.target_px, found.counted_px, found.size_class, found.iou) == (0, 0, "", 1.0)


def test_complete_iou_of_boxes_punishes_distance() -> None:
    near = sample([[1, 0, 0, 0]], [[0, 1, 0, 0]]).box_complete_iou
    far = sample([[1, 0, 0, 0]], [[0, 0, 0, 1]]).box_complete_iou
    assert near == pytest.approx(-1 / 5)  # centres 1 apart, common box 2 x 1
    assert far == pytest.approx(-9 / 17)


@pytest.mark.parametrize(("side", "size_class"), [(51, "fine"), (52, "medium"), (153, "medium"), (154, "coarse")])
def test_size_classes_are_those_of_the_target_on_a_canvas_of_1024(side: int, size_class: str) -> None:
    target = np.zeros((1024, 700), dtype=np.uint8)
    target[:side, :side] = 1
    assert sample(np.ones((1024, 700)), target).size_class == size_class


# --- against others


def test_iou_is_that_of_pycocotools() -> None:
    for predicted, labels in random_pairs(60):
        target = labels == 1
        if labels.max() < 255 and (predicted | target).any():
            expected = coco_mask.iou([coco(encode(predicted))], [coco(encode(target))], [0])[0][0]
            assert sample(predicted, labels).iou == pytest.approx(expected, abs=1e-12)


def test_single_and_pooled_scores_are_those_of_scikit_learn() -> None:
    pairs = random_pairs(24)
    for predicted, labels in pairs:
        found, counted = sample(predicted, labels), labels != 255
        if found.target_px and found.predicted_px:
            truth, answer = labels[counted] == 1, predicted[counted]
            row = summarize([found])
            assert row["ciou"] == row["giou"] == pytest.approx(jaccard_score(truth, answer))
            assert row["background_foreground_giou"] == pytest.approx(jaccard_score(truth, answer, average="macro"))
            assert row["macro_f1"] == pytest.approx(f1_score(truth, answer))
    row = summarize([sample(*pair) for pair in pairs])
    truth = np.concatenate([labels[labels != 255] == 1 for _, labels in pairs])
    answer = np.concatenate([predicted[labels != 255] for predicted, labels in pairs])
    assert row["ciou"] == pytest.approx(jaccard_score(truth, answer))
    assert row["background_foreground_iou"] == pytest.approx(jaccard_score(truth, answer, average="macro"))
    assert row["precision"] == pytest.approx(precision_score(truth, answer))
    assert row["recall"] == pytest.approx(recall_score(truth, answer))


def test_scores_are_those_of_torchmetrics() -> None:
    for predicted, labels in random_pairs(20, seed=SEED + 1):
        found = sample(predicted, labels)
        if not found.union_px:
            continue
        truth = torch.from_numpy(labels.astype(np.int64))
        options = {"ignore_index": 255, "validate_args": False}
        iou = binary.binary_jaccard_index(torch.from_numpy(predicted).long(), truth, **options)
        hits, false_hits, _, misses, _ = binary.binary_stat_scores(
            torch.from_numpy(predicted).long(), truth, **options
        ).tolist()
        assert found.iou == pytest.approx(float(iou), abs=1e-6)
        assert (found.intersection_px, found.predicted_px, found.target_px) == (hits, hits + false_hits, hits + misses)


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """The band by repeated erosion of the dense mask, as Boundary IoU is published."""
    steps = max(1, round(0.02 * math.hypot(*mask.shape)))
    eroded = binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=steps)[1:-1, 1:-1]
    return np.asarray(mask & ~eroded)


def test_boundary_iou_is_that_of_dense_erosion() -> None:
    dice = np.random.default_rng(SEED)
    pairs = random_pairs(32)
    pairs += [(blob(dice, 240, 330), blob(dice, 240, 330).astype(np.uint8)) for _ in range(4)]  # bands 8 px wide
    pairs.append((np.ones((60, 90), bool), np.ones((60, 90), np.uint8)))
    compared = 0
    for predicted, labels in pairs:
        found = sample(predicted, labels)
        if found.target_px and found.predicted_px:
            bands = [plain_boundary(mask) & (labels != 255) for mask in (predicted, labels == 1)]
            expected = jaccard_score(bands[0].ravel(), bands[1].ravel())
            assert found.boundary_iou == pytest.approx(expected)
            compared += 1
    assert compared > 20


def test_ignored_pixels_do_not_make_an_outline() -> None:
    labels = np.zeros((100, 100), dtype=np.uint8)
    labels[10:90, 10:90] = 1
    labels[40:60, 40:60] = 255
    inside = np.zeros((100, 100), bool)
    inside[10:90, 10:90] = True
    assert sample(inside, np.where(labels == 255, 1, labels)).boundary_iou == 1.0
    hollow = sample(inside, labels)
    assert hollow.iou == 1.0
    assert 0 < hollow.boundary_iou < 1  # the truth has a hole there, the answer does not


# --- what always holds


def test_pooled_iou_follows_from_pooled_f1() -> None:
    for count in (1, 2, 5, 30):
        row = summarize(random_samples(count))
        assert row["ciou"] == pytest.approx(row["f1"] / (2 - row["f1"]))


def test_exchanging_the_masks_exchanges_precision_and_recall_alone() -> None:
    for predicted, labels in random_pairs(30):
        target = labels == 1
        one, other = sample(predicted, target), sample(target, predicted)
        for key in ("iou", "background_iou", "f1", "boundary_iou", "box_complete_iou"):
            assert getattr(one, key) == pytest.approx(getattr(other, key)), key
        if one.union_px:
            rows = summarize([one]), summarize([other])
            assert rows[0]["precision"] == rows[1]["recall"]


def test_a_mask_agrees_with_itself() -> None:
    for predicted, _ in random_pairs(30):
        found = sample(predicted, predicted)
        assert found.iou == found.background_iou == 1.0
        if predicted.any():
            assert found.boundary_iou == found.f1 == found.box_complete_iou == 1.0


def test_scores_do_not_depend_on_the_order_of_samples() -> None:
    samples = random_samples(30)
    assert summarize(samples) == summarize(samples[::-1])


def test_counts_stay_exact_above_two_to_the_24_pixels() -> None:
    mask = np.ones((5000, 5000), dtype=bool)
    target = mask.astype(np.uint8)
    target[0, 0] = 0
    found = sample(mask, target)
    assert (found.intersection_px, found.union_px) == (5000**2 - 1, 5000**2)
    row = summarize([found] * 1000)
    assert row["ciou"] == (5000**2 - 1) / 5000**2  # float32 sums would give 1
    assert row["missing_masks"] == 0


def test_an_iou_at_the_threshold_reaches_it() -> None:
    target = np.zeros((1, 10), np.uint8)
    target[0, :7] = 1
    found = sample(np.ones((1, 10)), target)
    assert share_at_least([found], 0.7) == 1.0
    assert share_at_least([found], 0.71) == 0.0


# --- bad input


def refused(rle: Rle, match: str, *, size: tuple[int, int] = (40, 30)) -> None:
    sound = encode(np.ones(size, bool))
    for name in ("predicted", "target", "ignored"):
        masks = {"predicted": sound, "target": sound, "ignored": None, name: rle}
        with pytest.raises(DataError, match=match) as error:
            compare(**masks, size=size, image_id="cat.jpg")
        assert str(error.value).startswith(f"picture cat.jpg: {name} mask")


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    refused(encode(np.ones((30, 40), bool)), "mask is 30 x 40, the picture 40 x 30")


def test_a_code_cut_off_anywhere_is_refused() -> None:
    whole = encode(blob(np.random.default_rng(SEED), 40, 30)).counts
    assert len(whole) > 20
    for length in range(len(whole)):
        refused(Rle(size=(40, 30), counts=whole[:length]), "damaged")


def test_a_code_with_too_many_pixels_is_refused() -> None:
    refused(Rle(size=(40, 30), counts=encode(np.ones((41, 30), bool)).counts), "hold 1230 pixels, expected the 1200")


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        ("", "hold 0 pixels"),
        ("T1é", "characters that no run-length code has"),
        ("T1 3", "characters that no run-length code has"),
        ("o" * 30, "stops in the middle"),
        ("P" * 30 + "0", "31 characters"),
        ("OO", "negative run"),
        ("\ud800", "characters that no run-length code has"),
    ],
)
def test_what_is_no_code_is_refused(counts: str, match: str) -> None:
    refused(Rle.model_construct(size=(40, 30), counts=counts), match)


def test_codes_of_other_writers_may_hold_empty_runs() -> None:
    plain = np.isin(np.arange(24), [7, 8, 9]).reshape(4, 6).T
    odd = Rle(size=(6, 4), counts=as_text([7, 1, 0, 2, 10, 0, 4]))
    assert decode(odd).tolist() == plain.tolist()
    found = compare(predicted=odd, target=encode(plain), ignored=None, size=(6, 4), image_id="p")
    assert (found.iou, found.box_complete_iou, found.boundary_iou) == (1.0, 1.0, 1.0)
    nothing = Rle(size=(6, 4), counts=as_text([12, 0, 12]))
    assert compare(predicted=nothing, target=None, ignored=None, size=(6, 4), image_id="p").iou == 1.0


def as_text(lengths: list[int]) -> str:
    """Runs as COCO writes them, where one character each is enough."""
    steps = [length - (lengths[place - 2] if place > 2 else 0) for place, length in enumerate(lengths)]
    assert all(-16 <= step < 16 for step in steps)
    return "".join(chr(48 + (step & 31)) for step in steps)


@pytest.mark.parametrize("labels", [np.zeros((2, 2), bool), np.zeros((2, 2), np.int64), np.zeros(4, np.uint8)])
def test_labels_of_another_kind_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected uint8 with shape"):
        encode_labels(labels)


def test_a_code_can_be_checked_on_its_own() -> None:
    """Before it is united with others, where pycocotools would not notice."""
    sound = encode(np.ones((40, 30), bool))
    check_rle(sound, size=(40, 30), where="line 3")
    with pytest.raises(DataError, match=r"^line 3: the run-length code is damaged"):
        check_rle(Rle(size=(40, 30), counts=sound.counts[:-1]), size=(40, 30), where="line 3")
