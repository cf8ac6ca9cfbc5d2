"""Masks that need no model, on the same questions: what a score means only shows beside them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from miras.dialogue.masks import area_px, encode
from miras.dialogue.records import Dialogue, Picture, Region, Rle, Turn
from miras.evaluate.benchmarks import TOLD_KINDS, BenchmarkSet
from miras.evaluate.records import PredictedMask, Prediction

# Regions of the picture, the turn, and a generator of its own -> the mask, or None.
Baseline = Callable[[Picture, Sequence[Region], Turn, random.Random], Rle | None]


def whole_image(picture: Picture, regions: Sequence[Region], turn: Turn, draw: random.Random) -> Rle | None:
    """Every pixel."""
    return encode(np.ones((picture.height, picture.width), dtype=bool))


def random_object(picture: Picture, regions: Sequence[Region], turn: Turn, draw: random.Random) -> Rle | None:
    """The mask of a random region of the picture that is not a target; None when there is no other."""
    others = [region.mask for region in regions if region.mask and region.region_id not in turn.targets]
    return draw.choice(others) if others else None


def largest_object(picture: Picture, regions: Sequence[Region], turn: Turn, draw: random.Random) -> Rle | None:
    """The mask of the largest region of the picture, which may be the target."""
    masks = [region.mask for region in regions if region.mask]
    return max(masks, key=area_px) if masks else None


BASELINES: dict[str, Baseline] = {
    "whole-image": whole_image,
    "random-object": random_object,
    "largest-object": largest_object,
}


def predict_baselines(data: BenchmarkSet, names: Sequence[str], *, seed: int) -> list[Prediction]:
    """Every baseline's mask for every turn of the named benchmarks that asks for one."""
    regions: dict[str, list[Region]] = defaultdict(list)
    for region in sorted(data.regions.values(), key=lambda region: region.region_id):
        regions[region.image_id].append(region)
    return [
        _prediction(name, benchmark, dialogue, number, data, regions=regions, seed=seed)
        for benchmark in names
        for name in BASELINES
        for dialogue in data.benchmarks[benchmark]
        for number in range(len(dialogue.turns))
        if dialogue.kind not in TOLD_KINDS or number == len(dialogue.turns) - 1
    ]


def _prediction(
    name: str,
    benchmark: str,
    dialogue: Dialogue,
    number: int,
    data: BenchmarkSet,
    *,
    regions: Mapping[str, Sequence[Region]],
    seed: int,
) -> Prediction:
    draw = random.Random(f"{seed} {dialogue.dialogue_id} {number}")  # independent of which others were chosen
    picture = data.pictures[dialogue.image_id]
    mask = BASELINES[name](picture, regions.get(dialogue.image_id, ()), dialogue.turns[number], draw)
    return Prediction(
        benchmark=benchmark,
        model=name,
        history="any",
        dialogue_id=dialogue.dialogue_id,
        turn=number,
        masks=() if mask is None else (PredictedMask(mask=mask),),
    )
