"""Speed of an evaluation: `python -m benchmarks.evaluate [--quick]`.

Mask metrics at 1024 x 1024 px, from stored run-length codes to numbers, processor time of one thread:

- counts and boxes of a pair (what every score but the boundary IoU needs), beside torchmetrics on dense tensors
  (`binary_stat_scores` with `ignore_index`, one pass, validation off: its fastest way to the same counts), the codes
  decoded with pycocotools; once more without the decoding, as if the masks came dense;
- all that a row of the tables needs, the boundary IoU among it, beside the same dense counts and the published way to
  the bands (erosion of the dense masks by a square; here scipy's minimum filter, whose time does not grow with the
  square; torchmetrics has none); once more beside the dense counts alone.

Both sides must find the same numbers before they are timed. Prediction: dialogues of four turns about stored pictures
with the tiny network (random weights, fixed answers with a mask), 32 dialogues together as `evaluate` asks them, beside
every question by itself; wall time.

The masks are smooth random shapes as a decoder draws
them, a tenth to a half of the picture, in one to some dozen pieces.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import minimum_filter, zoom
from torchmetrics.functional.classification import binary_stat_scores

from benchmarks.report import Row, compare, device_name, measure, publish
from benchmarks.talk import QUESTION, fix_answers, make_builder
from benchmarks.train_setup import SCALES, make_data, make_model, read_settings, write_store
from miras.dialogue.masks import decode, encode
from miras.dialogue.records import Rle
from miras.evaluate import mask_metrics
from miras.evaluate.mask_metrics import IGNORED, boundary_width_px
from miras.evaluate.mask_runs import intersect, read_runs
from miras.model.records import Request
from miras.model.responder import Responder, StoredPicture

SIDE_PX = 1024
SIZE = (SIDE_PX, SIDE_PX)
LEAST_RATIO = 10
PAIRS, REPETITIONS = 60, 7
BATCH, TURNS = 32, 4
LEAST_BATCH_RATIO = 4  # promised on a CPU; 8 on a GPU


@dataclass(frozen=True)
class Pair:
    """A predicted mask and its target."""

    predicted: Rle
    target: Rle


def rows(*, is_quick: bool) -> list[Row]:
    """All measures."""
    repetitions = 3 if is_quick else REPETITIONS
    return [*mask_rows(12 if is_quick else PAIRS, repetitions=repetitions), prediction_row(repetitions)]


# --- prediction


def prediction_row(repetitions: int) -> Row:
    """Answers a second: a batch beside one by one."""
    scale = SCALES["tiny"]
    settings = read_settings(scale)
    data = make_data(settings, pictures=BATCH, picture_px=scale.picture_px)
    model = make_model(settings, data.tokenizer, device=torch.device("cpu"), is_bf16=False, is_plain=False)
    model.network.eval()
    builder = make_builder(settings, data, model)
    fix_answers(model.network, builder)
    with tempfile.TemporaryDirectory() as folder:
        responder = Responder(
            model.network,
            builder,
            device="cpu",
            store=write_store(Path(folder), model, data.pictures),
            pictures={name: StoredPicture(Path(name), p.height, p.width) for name, p in data.pictures.items()},
        )
        names = list(data.pictures)
        sides: dict[str, Callable[[], object]] = {
            "together": lambda: ask_turns(responder, names),
            "one by one": partial(ask_one_by_one, responder, names),
        }
        costs = measure(sides, device=torch.device("cpu"), repetitions=repetitions)
    speed = {name: TURNS * BATCH / cost.wall_s for name, cost in costs.items()}
    return compare(
        f"answers with a mask in {TURNS} turns, {BATCH} dialogues together beside one question at a time",
        ours=speed["together"],
        other=speed["one by one"],
        unit="answers/s",
        more_is_better=True,
        least_ratio=LEAST_BATCH_RATIO,
    )


def ask_turns(responder: Responder, names: Sequence[str], *, keeps: bool = True) -> None:
    """A dialogue about each picture; `keeps`: what a turn leaves is given to the next one."""
    told: tuple[tuple[str, str], ...] = ()
    kept: list[object] = [None] * len(names)
    for _ in range(TURNS):
        asked = [Request(name, told, QUESTION, kept=left) for name, left in zip(names, kept, strict=True)]
        responses = responder.respond(asked)
        kept = [response.kept if keeps else None for response in responses]
        told += ((QUESTION, responses[0].answer),)


def ask_one_by_one(responder: Responder, names: Sequence[str]) -> None:
    """The same dialogues, every question by itself and read anew."""
    for name in names:
        ask_turns(responder, [name], keeps=False)


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
    found = rows(is_quick=chosen.quick)
    publish("evaluate", device_name(torch.device("cpu")), found, is_quick=chosen.quick)


if __name__ == "__main__":
    main()
