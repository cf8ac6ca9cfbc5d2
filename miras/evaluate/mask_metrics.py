"""Mask metrics from integer pixel counts at the picture's own resolution.

Nothing is skipped: a sample without predicted mask has intersection 0 and counts in every average. What the
PRIST paper calls CIoU has no clear definition; the variants that could be meant are
computed under names of their own: `giou`, `mean_iou_with_target`, `background_foreground_iou`,
`background_foreground_giou`, `box_complete_iou`. Intervals and comparisons: miras.evaluate.statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miras.dialogue.masks import canvas_area_px, encode, size_class
from miras.dialogue.records import Rle
from miras.errors import DataError
from miras.evaluate.mask_runs import Runs, difference, empty_runs, erode, intersect, read_runs

IGNORED = 255
THRESHOLDS = (0.5, 0.7, 0.9)
BOUNDARY_WIDTH = 0.02  # share of the picture's diagonal (Cheng et al. 2021, section 4)


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
    boundary_iou: float
    """IoU of the bands inside the two outlines; 0 when either mask is missing."""

    @property
    def union_px(self) -> int:
        """Pixels in either mask."""
        return self.predicted_px + self.target_px - self.intersection_px

    @property
    def iou(self) -> float:
        """Intersection over union; 1 when both masks are empty."""
        return _iou(self.intersection_px, self.union_px)

    @property
    def background_iou(self) -> float:
        """IoU of what neither mask covers; 1 when both cover every counted pixel."""
        return _iou(self.counted_px - self.union_px, self.counted_px - self.intersection_px)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 I / (P + T); 0 when both masks are empty."""
        return _ratio(2 * self.intersection_px, self.predicted_px + self.target_px)


def encode_labels(labels: np.ndarray) -> tuple[Rle, Rle | None]:
    """Target and ignored pixels of a map of labels.

    Args:
        labels: uint8 (h, w); 255 marks pixels that count for neither mask, any other value but 0 the target.

    Returns:
        Their codes; None when no pixel is ignored.

    Raises:
        DataError: not uint8 (h, w): 255 would mean nothing.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise DataError(
            f"a map of labels is {labels.dtype} with shape {labels.shape}; expected uint8 with shape (height, width)."
        )
    ignored = labels == IGNORED
    return encode((labels != 0) & ~ignored), encode(ignored) if ignored.any() else None


def compare(
    *, predicted: Rle | None, target: Rle | None, ignored: Rle | None, size: tuple[int, int], image_id: str
) -> MaskSample:
    """Counts of one pair of masks, from their codes alone.

    Args:
        predicted: None: no mask was given.
        target: None: the right mask is an empty one.
        ignored: pixels that count for neither mask. They do not move an outline: the bands of the boundary IoU are
            those of the masks as given, without the ignored pixels.
        size: (height, width) of the picture.
        image_id: the picture, for the bootstrap.

    Raises:
        DataError: a mask is of another size, or its code is damaged.
    """
    masks = {
        name: empty_runs(size) if rle is None else read_runs(rle, size=size, where=f"picture {image_id}: {name} mask")
        for name, rle in (("predicted", predicted), ("target", target), ("ignored", ignored))
    }
    left_out = masks["ignored"]
    mask, truth = _counted(masks["predicted"], left_out), _counted(masks["target"], left_out)
    intersection_px, has_both = intersect(mask, truth).area_px, bool(mask.area_px and truth.area_px)
    boundary_iou = box_complete_iou = 0.0
    if has_both:
        box_complete_iou = _box_complete_iou(mask.box_xyxy_px, truth.box_xyxy_px)
        width_px = boundary_width_px(size)
        inside, truth_inside = (_counted(erode(masks[name], width_px), left_out) for name in ("predicted", "target"))
        boundary_iou = _boundary_iou(mask, truth, inside, truth_inside, intersection_px=intersection_px)
    return MaskSample(
        image_id=image_id,
        size_class=size_class(canvas_area_px(target)) if target and truth.area_px else "",
        intersection_px=intersection_px,
        predicted_px=mask.area_px,
        target_px=truth.area_px,
        counted_px=size[0] * size[1] - left_out.area_px,
        box_complete_iou=box_complete_iou,
        boundary_iou=boundary_iou,
    )


def _counted(runs: Runs, ignored: Runs) -> Runs:
    return difference(runs, ignored) if ignored.area_px else runs


def boundary_width_px(size: tuple[int, int]) -> int:
    """Of the band inside an outline, in a picture of this (height, width); at least 1."""
    return max(1, round(BOUNDARY_WIDTH * math.hypot(*size)))


def _boundary_iou(mask: Runs, truth: Runs, inside: Runs, truth_inside: Runs, *, intersection_px: int) -> float:
    """IoU of the bands that lie between each mask and what an erosion leaves of it."""
    areas_px = mask.area_px - inside.area_px + truth.area_px - truth_inside.area_px
    one_inside_px = intersect(inside, truth).area_px + intersect(mask, truth_inside).area_px
    in_both_px = intersection_px - one_inside_px + intersect(inside, truth_inside).area_px
    return _iou(in_both_px, areas_px - in_both_px)


def summarize(samples: Sequence[MaskSample]) -> dict[str, float | int]:
    """Every metric of a list of samples, as shares from 0 to 1, and counts; nothing at all for no samples.

    `ciou` = summed intersections / summed unions. `giou` = mean IoU, where a rightly empty mask is 1.
    `precision`, `recall`, `f1` are pooled over pixels; `background_foreground_iou` is the mean of the pooled IoU
    of background and foreground; these five are absent when no mask of any sample has a pixel.
    `background_foreground_giou` = mean over samples of the mean of both IoU.
    `macro_*`, `precision_at_*`, `mean_iou_with_target`, `box_complete_iou` and `boundary_iou` are means over the
    samples with a target (absent if there are none). `no_target_accuracy` = share of the samples without target
    that got no mask (absent if there are none).
    """
    if not samples:
        return {}
    with_target = [sample for sample in samples if sample.target_px]
    without_target = [sample for sample in samples if not sample.target_px]
    row: dict[str, float | int] = {
        "samples": len(samples),
        "pictures": len({sample.image_id for sample in samples}),
        "missing_masks": sum(not sample.predicted_px for sample in with_target),
        **_pooled(samples),
        "giou": _mean([sample.iou for sample in samples]),
        "background_foreground_giou": _mean([(sample.background_iou + sample.iou) / 2 for sample in samples]),
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
    if not union:
        return {}
    counted = sum(sample.counted_px for sample in samples)
    background = _ratio(counted - union, counted - intersection)
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
    row = {
        "macro_precision": _mean([_ratio(sample.intersection_px, sample.predicted_px) for sample in samples]),
        "macro_recall": _mean([_ratio(sample.intersection_px, sample.target_px) for sample in samples]),
        "macro_f1": _mean([sample.f1 for sample in samples]),
        "mean_iou_with_target": _mean([sample.iou for sample in samples]),
        "box_complete_iou": _mean([sample.box_complete_iou for sample in samples]),
        "boundary_iou": _mean([sample.boundary_iou for sample in samples]),
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


def _box_complete_iou(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    """IoU - d^2/c^2 - a v of two boxes (Complete IoU, Zheng et al. 2020)."""
    ax0, ay0, ax1, ay1 = first
    bx0, by0, bx1, by1 = second
    overlap = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    iou = overlap / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - overlap)
    centre_distance = ((ax0 + ax1 - bx0 - bx1) / 2) ** 2 + ((ay0 + ay1 - by0 - by1) / 2) ** 2
    diagonal = (max(ax1, bx1) - min(ax0, bx0)) ** 2 + (max(ay1, by1) - min(ay0, by0)) ** 2
    angle = math.atan((bx1 - bx0) / (by1 - by0)) - math.atan((ax1 - ax0) / (ay1 - ay0))
    aspect = 4 / math.pi**2 * angle**2
    weight = aspect / (1 - iou + aspect) if aspect else 0.0
    return iou - centre_distance / diagonal - weight * aspect


def _iou(intersection_px: int, union_px: int) -> float:
    return intersection_px / union_px if union_px else 1.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
