"""Outlines to start from, proposed by SAM where a region has no mask yet.

SAM is asked about a grid of points, as its own automatic generator does, which this is not: that one needs compiled
parts of torchvision, which are missing beside a CPU-only torch. SAM does not know which of its masks is the one that
is meant: they come as `proposal 1`, `proposal 2` and so on, best first, and the annotator renames what fits. Off
unless weights are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from segment_anything.utils.amg import build_point_grid, calculate_stability_score

from miras.annotate import outlines
from miras.annotate.config import SamType
from miras.annotate.guide import PROPOSAL
from miras.annotate.hand_out import Propose
from miras.dialogue import masks
from miras.dialogue.records import Rle
from miras.model.sam import SAM_SHAPES, SamShape, load_sam
from miras.sources.pictures import open_picture

MOST_PROPOSALS = 20  # assumed: more hide the picture
MAX_MEGAPIXELS = 178  # the pictures are those of the stage ingest, which has its own limit below this
QUALITY, STABILITY = 0.88, 0.95  # segment_anything's own defaults, as are the next two
POINTS_PER_SIDE = 32
SAME_ABOVE_IOU = 0.7
_POINTS_AT_ONCE = 16  # computed: their masks take 200 MB for a picture of one megapixel
_STABILITY_OFFSET = 1.0  # of the logits, as segment_anything has it


def proposer(weights: Path, *, sam_type: SamType) -> Propose:
    """Proposes with a published SAM, on the GPU where there is one.

    Raises:
        DataError: the weights are missing, damaged, or of another size.
    """
    return SamProposals(
        weights, SAM_SHAPES[sam_type], quality=QUALITY, stability=STABILITY, points_per_side=POINTS_PER_SIDE
    )


class SamProposals:
    """SAM's masks of a picture as Labelme shapes; the last picture is remembered, as samples share pictures."""

    def __init__(
        self, weights: Path, shape: SamShape, *, quality: float, stability: float, points_per_side: int
    ) -> None:
        """Loads SAM.

        Args:
            weights: `sam_vit_*.pth`, or what `miras.model.weights.save_sam` wrote.
            shape: the sizes of that SAM.
            quality: masks of a lower predicted IoU are dropped.
            stability: masks whose IoU with themselves at a threshold one logit higher and lower is below are dropped.
            points_per_side: of the grid of points that are asked about.
        """
        parts = load_sam(shape, weights)
        sam = Sam(parts.image_encoder, parts.prompt_encoder, parts.mask_decoder)
        self._predictor = SamPredictor(sam.to("cuda" if torch.cuda.is_available() else "cpu").eval())
        self._quality, self._stability = quality, stability
        self._grid = build_point_grid(points_per_side)
        self._last: tuple[Path, list[dict[str, Any]]] | None = None

    def __call__(self, picture: Path) -> list[dict[str, Any]]:
        """The proposals for a picture file, best first.

        Raises:
            DataError: the picture cannot be read.
        """
        if self._last is None or self._last[0] != picture:
            pixels = np.array(open_picture(picture, max_megapixels=MAX_MEGAPIXELS))
            shapes = [
                shape
                for number, rle in enumerate(self._distinct(pixels), 1)
                for shape in outlines.shapes(rle, label=f"{PROPOSAL} {number}", group_id=number)
            ]
            self._last = (picture, shapes)
        return self._last[1]

    def _distinct(self, pixels: np.ndarray) -> list[Rle]:
        """The best masks, each unlike all better ones."""
        kept: list[Rle] = []
        for _, rle in sorted(self._candidates(pixels), key=lambda found: found[0], reverse=True):
            if not any(_iou(rle, other) > SAME_ABOVE_IOU for other in kept):
                kept.append(rle)
            if len(kept) == MOST_PROPOSALS:
                break
        return kept

    def _candidates(self, pixels: np.ndarray) -> Iterator[tuple[float, Rle]]:
        """(predicted quality, mask) of every mask that is good enough and covers something."""
        height, width = pixels.shape[:2]
        predictor = self._predictor
        predictor.set_image(pixels)
        points = predictor.transform.apply_coords(self._grid * (width, height), (height, width))
        for some in torch.as_tensor(points, dtype=torch.float32, device=predictor.device).split(_POINTS_AT_ONCE):
            logits, quality, _ = predictor.predict_torch(
                some[:, None], torch.ones(len(some), 1, device=predictor.device), return_logits=True
            )  # (points, 3, h, w), (points, 3)
            logits, quality = logits.flatten(0, 1), quality.flatten()
            threshold = predictor.model.mask_threshold
            stability = calculate_stability_score(logits, threshold, _STABILITY_OFFSET)
            is_set = logits > threshold
            is_good = (quality >= self._quality) & (stability >= self._stability) & is_set.flatten(1).any(dim=1)
            for index in is_good.nonzero().flatten().tolist():
                yield float(quality[index]), masks.encode(is_set[index].cpu().numpy())


def _iou(first: Rle, second: Rle) -> float:
    one, other = ({"size": list(rle.size), "counts": rle.counts.encode("ascii")} for rle in (first, second))
    return float(coco_mask.iou([one], [other], [False])[0, 0])
