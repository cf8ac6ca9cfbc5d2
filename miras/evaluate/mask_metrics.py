"""Mask metrics from integer pixel counts at the picture's own resolution.

Nothing is skipped: a sample without predicted mask has intersection 0 and counts in every average. What the
PRIST paper calls CIoU has no clear definition (fact sheet, section 5); the variants that could be meant are
computed under names of their own: `giou`, `background_foreground_iou`, `box_complete_iou`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miras.errors import DataError

IGNORED = 255
THRESHOLDS = (0.5, 0.7, 0.9)


@dataclass(frozen=True, kw_only=True)
class MaskSample:
    """Pixel counts of one prediction against its target."""

    image_id: str
    size_class: str
    """fine, medium or coarse by the target's area; empty when there is no target."""
    intersection_px: int
    predicted_px: int
    target_px: int
    counted_px: int
    """All pixels that are not ignored."""
    box_complete_iou: float
    """Complete IoU of the two masks' boxes; 0 when either is missing."""

    @property
    def union_px(self) -> int:
        """Pixels in either mask."""
        return self.predicted_px + self.target_px - self.intersection_px

    @property
    def iou(self) -> float:
        """Intersection over union; 1 when both masks are empty."""
        return self.intersection_px / self.union_px if self.union_px else 1.0


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval, as shares."""

    low: float
    high: float


def compare(*, predicted: np.ndarray, target: np.ndarray, image_id: str, size_class: str) -> MaskSample:
    """Counts of one pair of masks.

    Args:
        predicted: boolean (h, w), pixels of the picture.
        target: boolean or uint8 (h, w); 255 marks pixels that count for neither mask.
        image_id: the picture, for the bootstrap.
        size_class: of the target; empty when it is empty.

    Raises:
        DataError: the masks differ in size.
    """
    if predicted.shape != target.shape:
        raise DataError(
            f"picture {image_id}: predicted mask is {predicted.shape}, target is {target.shape} (h, w). "
            "Masks are compared at the picture's own size; run the stages ingest and features again."
        )
    counted = target != IGNORED if target.dtype == np.uint8 else np.ones(target.shape, dtype=bool)
    mask, truth = predicted.astype(bool) & counted, target.astype(bool) & counted
    return MaskSample(
        image_id=image_id,
        size_class=size_class,
        intersection_px=int(np.count_nonzero(mask & truth)),
        predicted_px=int(np.count_nonzero(mask)),
        target_px=int(np.count_nonzero(truth)),
        counted_px=int(np.count_nonzero(counted)),
        box_complete_iou=_box_complete_iou(mask, truth),
    )


def summarize(samples: Sequence[MaskSample]) -> dict[str, float | int]:
    """Every metric of a non-empty list of samples, as shares from 0 to 1, and counts.

    `ciou` = summed intersections / summed unions. `giou` = mean IoU, where a rightly empty mask is 1.
    `precision`, `recall`, `f1` are pooled over pixels; `macro_*` and `precision_at_*` are means over samples
    with a target. `no_target_accuracy` = share of samples without target that got no mask (absent if there
    are none).
    """
    assert samples, "a table row needs samples"
    with_target = [sample for sample in samples if sample.target_px]
    without_target = [sample for sample in samples if not sample.target_px]
    row: dict[str, float | int] = {
        "samples": len(samples),
        "pictures": len({sample.image_id for sample in samples}),
        "missing_masks": sum(not sample.predicted_px for sample in with_target),
        **_pooled(samples),
        "giou": _mean([sample.iou for sample in samples]),
    }
    if with_target:
        row |= _averaged(with_target)
    if without_target:
        row["no_target"] = len(without_target)
        row["no_target_accuracy"] = _mean([float(not sample.predicted_px) for sample in without_target])
    return row


def _pooled(samples: Sequence[MaskSample]) -> dict[str, float]:
    intersection = sum(sample.intersection_px for sample in samples)
    predicted = sum(sample.predicted_px for sample in samples)
    target = sum(sample.target_px for sample in samples)
    union = predicted + target - intersection
    counted = sum(sample.counted_px for sample in samples)
    background_union = counted - intersection
    background = _ratio(counted - union, background_union)
    precision, recall = _ratio(intersection, predicted), _ratio(intersection, target)
    foreground = _ratio(intersection, union)
    return {
        "ciou": foreground,
        "precision": precision,
        "recall": recall,
        "f1": f1(precision=precision, recall=recall),
        "background_foreground_iou": (background + foreground) / 2,
    }


def _averaged(samples: Sequence[MaskSample]) -> dict[str, float]:
    precisions = [_ratio(sample.intersection_px, sample.predicted_px) for sample in samples]
    recalls = [_ratio(sample.intersection_px, sample.target_px) for sample in samples]
    row = {
        "macro_precision": _mean(precisions),
        "macro_recall": _mean(recalls),
        "macro_f1": _mean([f1(precision=p, recall=r) for p, r in zip(precisions, recalls, strict=True)]),
        "box_complete_iou": _mean([sample.box_complete_iou for sample in samples]),
    }
    for threshold in THRESHOLDS:
        row[f"precision_at_{round(threshold * 100)}"] = share_at_least(samples, threshold)
    return row


def share_at_least(samples: Sequence[MaskSample], threshold: float) -> float:
    """Share of samples whose IoU is at least the threshold."""
    return _mean([float(sample.iou >= threshold) for sample in samples])


def f1(*, precision: float, recall: float) -> float:
    """Harmonic mean; 0 when both are 0."""
    return _ratio(2 * precision * recall, precision + recall)


def bootstrap(samples: Sequence[MaskSample], *, rounds: int, seed: int) -> tuple[Interval, Interval]:
    """95 % intervals of cIoU and gIoU; whole pictures are drawn with replacement.

    Questions about one picture are not independent, so pictures are the units (percentile bootstrap).
    """
    pictures = sorted({sample.image_id for sample in samples})
    row_of = {image_id: row for row, image_id in enumerate(pictures)}
    sums = np.zeros((len(pictures), 4))  # intersection, union, IoU, samples
    for sample in samples:
        sums[row_of[sample.image_id]] += (sample.intersection_px, sample.union_px, sample.iou, 1)
    draws = np.random.default_rng(seed).multinomial(
        len(pictures), np.full(len(pictures), 1 / len(pictures)), size=rounds
    )
    intersection, union, total_iou, count = (draws @ sums).T
    ciou = np.divide(intersection, union, out=np.zeros(rounds), where=union > 0)
    return _interval(ciou), _interval(total_iou / count)


def _interval(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def _box_complete_iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """IoU - d^2/c^2 - a v of the tight boxes (Complete IoU, Zheng et al. 2020); 0 when a mask is empty."""
    if not mask.any() or not truth.any():
        return 0.0
    ax0, ay0, ax1, ay1 = _tight_box(mask)
    bx0, by0, bx1, by1 = _tight_box(truth)
    overlap = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    iou = overlap / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - overlap)
    centre_distance = ((ax0 + ax1 - bx0 - bx1) / 2) ** 2 + ((ay0 + ay1 - by0 - by1) / 2) ** 2
    diagonal = (max(ax1, bx1) - min(ax0, bx0)) ** 2 + (max(ay1, by1) - min(ay0, by0)) ** 2
    angle = math.atan((bx1 - bx0) / (by1 - by0)) - math.atan((ax1 - ax0) / (ay1 - ay0))
    aspect = 4 / math.pi**2 * angle**2
    weight = aspect / (1 - iou + aspect) if aspect else 0.0
    return iou - centre_distance / diagonal - weight * aspect


def _tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
