"""Masks: exact round trips, areas, size classes."""

from __future__ import annotations

import numpy as np
import pytest

from miras.dialogue import masks


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width / 3) ** 2 < (min(height, width) / 4) ** 2


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (48, 64)])
def test_encoding_is_exact(shape: tuple[int, int]) -> None:
    for mask in (disc(*shape), np.zeros(shape, bool), np.ones(shape, bool)):
        assert np.array_equal(masks.decode(masks.encode(mask)), mask)
        assert masks.area_px(masks.encode(mask)) == mask.sum()


def test_box_is_tight_with_exclusive_ends() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:5, 3:9] = True
    assert masks.box_xyxy_px(masks.encode(mask)) == (3, 2, 9, 5)
    assert masks.box_xyxy_px(masks.encode(np.zeros((4, 4), bool))) == (0, 0, 0, 0)


def test_polygons_are_joined_and_cut_at_the_border() -> None:
    rle = masks.from_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [8, 8, 20, 8, 20, 20, 8, 20]], height=10, width=10)
    assert masks.area_px(rle) == 16 + 4


def test_area_is_scaled_to_the_canvas_of_the_paper() -> None:
    mask = np.zeros((128, 64), bool)
    mask[:2, :2] = True
    assert masks.canvas_area_px(masks.encode(mask)) == 4 * 8**2


@pytest.mark.parametrize(
    ("area", "name"), [(304, "fine"), (2621, "fine"), (2622, "medium"), (23592, "medium"), (23593, "coarse")]
)
def test_size_classes_have_the_papers_thresholds(area: int, name: str) -> None:
    assert masks.size_class(area) == name
