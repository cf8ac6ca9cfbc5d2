"""Masks that need no model, on the same samples: what a score means only shows beside them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from miras.dialogue.masks import area_px, encode
from miras.dialogue.records import Dialogue, Picture, Region, Rle, Turn
from miras.evaluate.held_out import HeldOutSet
from miras.evaluate.records import Benchmark, PredictedMask, Prediction

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


def predict_baselines(held_out: HeldOutSet, *, seed: int) -> list[Prediction]:
    """Every baseline's mask for the last turn of every dialogue of both benchmarks."""
    regions: dict[str, list[Region]] = defaultdict(list)
    for region in sorted(held_out.regions.values(), key=lambda region: region.region_id):
        regions[region.image_id].append(region)
    return [
        _prediction(name, benchmark, dialogue, held_out, regions=regions, seed=seed)
        for benchmark, dialogues in held_out.benchmarks.items()
        for name in BASELINES
        for dialogue in dialogues
    ]


def _prediction(
    name: str,
    benchmark: Benchmark,
    dialogue: Dialogue,
    held_out: HeldOutSet,
    *,
    regions: Mapping[str, Sequence[Region]],
    seed: int,
) -> Prediction:
    turn = dialogue.turns[-1]
    draw = random.Random(f"{seed} {dialogue.dialogue_id}")  # independent of which others were chosen
    mask = BASELINES[name](held_out.pictures[dialogue.image_id], regions.get(dialogue.image_id, ()), turn, draw)
    return Prediction(
        benchmark=benchmark,
        model=name,
        history="any",
        dialogue_id=dialogue.dialogue_id,
        image_id=dialogue.image_id,
        kind=dialogue.kind,
        turn=len(dialogue.turns) - 1,
        is_last=True,
        question=turn.question,
        reference=held_out.reference(turn),
        answer="",
        groups=() if mask is None else (PredictedMask(phrase="", mask=mask),),
        targets=held_out.target_phrases(turn),
        target=held_out.target_mask(turn),
        seconds=0.0,
    )
