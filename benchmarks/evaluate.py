"""Speed of an evaluation: `python -m benchmarks.evaluate [--quick]`.

Mask metrics at 1024 x 1024 px, from stored run-length codes to numbers, processor time of one thread:

- counts and boxes of a pair (what every score but the boundary IoU needs), beside torchmetrics on dense tensors
  (`binary_stat_scores` with `ignore_index`, one pass, validation off: its fastest way to the same counts), the codes
  decoded with pycocotools; once more without the decoding, as if the masks came dense;
- all that a row of the tables needs, the boundary IoU among it, beside the same dense counts and the published way to
  the bands (erosion of the dense masks by a square; here scipy's minimum filter, whose time does not grow with the
  square; torchmetrics has none); once more beside the dense counts alone.

Both sides must find the same numbers before they are timed. The masks are smooth random shapes as a decoder draws
them, a tenth to a half of the picture, in one to some dozen pieces.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.ndimage import minimum_filter, zoom
from torchmetrics.functional.classification import binary_stat_scores

from benchmarks.report import Row, compare, device_name, measure, publish
from miras.dialogue.masks import decode, encode
from miras.dialogue.records import Rle
from miras.evaluate import mask_metrics
from miras.evaluate.mask_metrics import IGNORED, boundary_width_px
from miras.evaluate.mask_runs import intersect, read_runs

SIDE_PX = 1024
SIZE = (SIDE_PX, SIDE_PX)
LEAST_RATIO = 10
PAIRS, REPETITIONS = 60, 7


@dataclass(frozen=True)
class Pair:
    """A predicted mask and its target."""

    predicted: Rle
    target: Rle


def rows(*, is_quick: bool) -> list[Row]:
    """All measures."""
    return mask_rows(12 if is_quick else PAIRS, repetitions=3 if is_quick else REPETITIONS)


# --- masks


def mask_rows(count: int, *, repetitions: int) -> list[Row]:
    """Pairs of masks a second."""
    torch.set_num_threads(1)
    pairs = draw_pairs(count, seed=0)
    dense = [(torch.from_numpy(decode(pair.predicted)), torch.from_numpy(decode(pair.target))) for pair in pairs]
    sides: dict[str, Callable[[], Sequence[object]]] = {
        "counts": partial(each, run_counts, pairs),
        "all": partial(each, all_metrics, pairs),
        "dense counts": partial(each, decoded_counts, pairs),
        "dense counts, not decoding": partial(each, dense_counts, dense),
        "dense counts and bands": partial(each, dense_counts_and_iou, pairs),
    }
    found = {name: side() for name, side in sides.items()}
    assert found["counts"] == found["dense counts"] == found["dense counts, not decoding"]
    assert found["all"] == found["dense counts and bands"]
    costs = measure(sides, device=torch.device("cpu"), repetitions=repetitions)
    speed = {name: count / cost.cpu_s for name, cost in costs.items()}
    title = f"mask pairs of {SIDE_PX} x {SIDE_PX} px from run-length codes"
    least = {"least_ratio": LEAST_RATIO}
    return [
        row(f"{title}: counts", speed, "counts", "dense counts", **least),
        row(f"{title}: counts, dense side not decoding", speed, "counts", "dense counts, not decoding"),
        row(f"{title}: counts, boxes and boundary IoU", speed, "all", "dense counts and bands", **least),
        row(f"{title}: counts, boxes and boundary IoU, dense side counts alone", speed, "all", "dense counts"),
    ]


def row(measured: str, speed: dict[str, float], ours: str, other: str, *, least_ratio: float | None = None) -> Row:
    """Two of the speeds."""
    return compare(
        measured, ours=speed[ours], other=speed[other], unit="pairs/s", more_is_better=True, least_ratio=least_ratio
    )


def draw_pairs(count: int, *, seed: int) -> list[Pair]:
    """Smooth random shapes; the predicted one is the target's after some noise."""
    dice = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        cells = (4, 8, 16)[number % 3]
        coarse = dice.random((cells, cells))
        share = dice.uniform(0.1, 0.5)
        drawn = [shape(coarse + dice.normal(0, spread, coarse.shape), share=share) for spread in (0.1, 0.0)]
        pairs.append(Pair(encode(drawn[0]), encode(drawn[1])))
    return pairs


def shape(coarse: np.ndarray, *, share: float) -> np.ndarray:
    """A mask that covers this share of the picture."""
    fine = zoom(coarse, SIDE_PX / len(coarse), order=3)
    return np.asarray(fine > np.quantile(fine, 1 - share))


def each(score: Callable[..., object], items: Sequence[object]) -> list[object]:
    """The scores of all items."""
    return [score(item) for item in items]


def all_metrics(pair: Pair) -> tuple[int, int, int, float]:
    """Ours, complete: intersection, predicted and target pixels, boundary IoU; the boxes' Complete IoU besides."""
    found = mask_metrics.compare(
        predicted=pair.predicted, target=pair.target, ignored=None, size=SIZE, image_id="benchmark"
    )
    return found.intersection_px, found.predicted_px, found.target_px, found.boundary_iou


def run_counts(pair: Pair) -> tuple[int, int, int]:
    """Ours: intersection, predicted and target pixels; boxes besides."""
    predicted, target = (read_runs(rle, size=SIZE, where="benchmark") for rle in (pair.predicted, pair.target))
    assert predicted.box_xyxy_px
    assert target.box_xyxy_px
    return intersect(predicted, target).area_px, predicted.area_px, target.area_px


def decoded_counts(pair: Pair) -> tuple[int, int, int]:
    """torchmetrics on decoded masks."""
    return dense_counts((torch.from_numpy(decode(pair.predicted)), torch.from_numpy(decode(pair.target))))


def dense_counts(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[int, int, int]:
    """torchmetrics."""
    predicted, target = pair
    hits, false_hits, _, misses, _ = binary_stat_scores(
        predicted.long(), target.long(), ignore_index=IGNORED, validate_args=False
    ).tolist()
    return hits, hits + false_hits, hits + misses


def dense_counts_and_iou(pair: Pair) -> tuple[int, int, int, float]:
    """torchmetrics, and the boundary IoU, on masks decoded once."""
    masks = [decode(rle) for rle in (pair.predicted, pair.target)]
    counts = dense_counts((torch.from_numpy(masks[0]), torch.from_numpy(masks[1])))
    side = 2 * boundary_width_px(SIZE) + 1
    bands = [mask & ~minimum_filter(mask, side, mode="constant", cval=False) for mask in masks]
    return *counts, int((bands[0] & bands[1]).sum()) / int((bands[0] | bands[1]).sum())


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate", description="Speed of an evaluation.")
    parser.add_argument("--quick", action="store_true", help="a minute's version")
    chosen = parser.parse_args()
    path = publish("evaluate", device_name(torch.device("cpu")), rows(is_quick=chosen.quick))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
