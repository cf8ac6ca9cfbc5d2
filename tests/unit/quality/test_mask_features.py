"""Masks are measured from their runs, against pycocotools on decoded masks."""

from __future__ import annotations

import numpy as np
import pytest

from miras.dialogue import masks
from miras.dialogue.records import Rle
from miras.quality.mask_features import fault, runs_px


def random_mask(seed: int) -> np.ndarray:
    """Noise, blocks or nothing, of any shape."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 200, 2)
    mask = generator.random((height, width)) < generator.choice([0, 0.01, 0.5, 1])
    if seed % 3 == 0:
        mask[height // 4 : height // 2, width // 3 :] = True
    return mask


@pytest.mark.parametrize("seed", range(40))
def test_runs_agree_with_the_decoded_mask(seed: int) -> None:
    mask = random_mask(seed)
    coded = masks.encode(mask)
    runs = runs_px(coded)
    assert runs is not None
    assert fault(coded) is None
    assert runs[1::2].sum() == mask.sum()
    flat = mask.flatten(order="F")
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), flat)


@pytest.mark.parametrize("counts", ["", "ab", "0é", "a b", "\x00", "oooooooooooooo0"])
def test_unreadable_runs_are_a_fault(counts: str) -> None:
    assert fault(Rle(size=(4, 4), counts=counts)) == "the run lengths cannot be read"


def test_runs_that_do_not_fill_the_mask_are_a_fault() -> None:
    coded = masks.encode(np.ones((5, 5), bool))
    assert fault(Rle(size=(5, 6), counts=coded.counts)) == "the runs cover 25 pixels, the mask has 5 x 6 = 30"


def test_a_negative_run_is_a_fault() -> None:
    assert fault(Rle(size=(1, 1), counts="O2")) == "a run has a negative length"
