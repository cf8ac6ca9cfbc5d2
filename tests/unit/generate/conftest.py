"""Small pictures made of rectangles, and what the teacher writes about rendered scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.generate.annotated import Generated, write_about
from miras.generate.config import GenerateConfig
from miras.generate.phrases import identify
from miras.sources.scenes import CATEGORIES, read

CONFIG = GenerateConfig(
    teacher="annotated",
    model=None,
    polish=False,
    dialogues_per_picture=3,
    queries_per_picture=8,
    mrseg_per_picture=0,
    hard_pairs_per_picture=0,
    wording="train",
    min_turns=3,
    max_turns=7,
    seed=0,
)
SIDE_PX = 100

Maker = Callable[..., Region]


@pytest.fixture(scope="session")
def box() -> Maker:
    """Makes a region with a rectangular mask in a picture of 100 x 100 pixels."""

    def make(
        region_id: str,
        category: str,
        corners: tuple[int, int, int, int],
        *,
        parent: str | None = None,
        **attributes: str,
    ) -> Region:
        x0, y0, x1, y1 = corners
        mask = np.zeros((SIDE_PX, SIDE_PX), bool)
        mask[y0:y1, x0:x1] = True
        return Region(
            region_id=region_id,
            image_id="p",
            phrase="",
            mask=masks.encode(mask),
            category=category,
            attributes=attributes,
            parent_id=parent,
        )

    return make


def with_phrases(regions: list[Region]) -> list[Region]:
    phrases = identify(regions)
    return [region.model_copy(update={"phrase": phrases.get(region.region_id, "")}) for region in regions]


@pytest.fixture(scope="session")
def scene_regions_with_phrases() -> dict[str, list[Region]]:
    """Regions of 60 rendered scenes."""
    return {picture.image_id: with_phrases(list(picture.regions)) for picture in read(count=60, size_px=128, seed=4)}


@pytest.fixture(scope="session")
def generated(scene_regions_with_phrases: dict[str, list[Region]]) -> dict[str, Generated]:
    """What the teacher writes about them."""
    return {
        image_id: write_about(image_id, regions, CATEGORIES, CONFIG)
        for image_id, regions in scene_regions_with_phrases.items()
    }
