"""Masks become outlines and masks again: exactly, or within a pixel where outlines are made easy to edit."""

from __future__ import annotations

import numpy as np
import pytest

from miras.annotate import outlines
from miras.dialogue import masks
from miras.sources.annotations import outline_mask


def masks_of_all_kinds() -> list[np.ndarray]:
    dice = np.random.default_rng(5)
    noise = [dice.random(dice.integers(1, 25, 2)) < dice.random() for _ in range(150)]
    y, x = np.mgrid[:90, :120]
    ring = (np.hypot(x - 60, y - 45) < 40) & (np.hypot(x - 50, y - 40) > 15)
    island = ring | (np.hypot(x - 50, y - 40) < 6)  # a part inside a hole
    two_holes = (np.abs(x - 60) < 50) & (np.abs(y - 45) < 30) & (np.hypot(x - 30, y - 45) > 9) & (x // 10 != 8)
    corners = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]], dtype=bool)
    one_pixel = [np.zeros((7, 9), dtype=bool) for _ in range(3)]
    one_pixel[0][0, 0] = one_pixel[1][6, 8] = one_pixel[2][3, 4] = True
    all_set, last_row = np.ones((5, 6), dtype=bool), np.arange(30).reshape(5, 6) > 23
    return [*noise, ring, island, two_holes, corners, *one_pixel, all_set, ~all_set, last_row]


def test_outlines_give_exactly_the_mask_back() -> None:
    for mask in masks_of_all_kinds():
        drawn = outlines.from_polygons(outlines.polygons(masks.encode(mask)), size=mask.shape)
        assert np.array_equal(masks.decode(drawn), mask)


def test_the_outlines_that_people_edit_are_within_a_pixel() -> None:
    for mask in masks_of_all_kinds():
        shapes = outlines.shapes(masks.encode(mask), label="mug")
        flat = [[value for point in shape["points"] for value in point] for shape in shapes]
        size = {"height": mask.shape[0], "width": mask.shape[1]}
        drawn = masks.decode(outline_mask(flat, **size)) if flat else np.zeros_like(mask)
        assert outlines.differs_by_a_pixel_at_most(mask, drawn)
        assert bool(mask.any()) == bool(drawn.any())


def test_a_hole_is_kept_and_two_parts_are_one_object() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[5:45, 5:45] = mask[20:30, 60:70] = True
    mask[15:30, 15:30] = False
    shapes = outlines.shapes(masks.encode(mask), label="mug")
    assert [shape["group_id"] for shape in shapes] == [1, 1]
    exact = [[(int(x), int(y)) for x, y in shape["points"]] for shape in shapes]
    assert np.array_equal(masks.decode(outlines.from_polygons(exact, size=mask.shape)), mask)


def test_a_round_thing_has_few_corners() -> None:
    y, x = np.mgrid[:400, :400]
    disc = masks.encode(np.hypot(x - 200, y - 200) < 150)
    (exact,), (easy,) = outlines.polygons(disc), outlines.smooth_polygons(disc)
    assert len(easy) < len(exact) / 5


@pytest.mark.parametrize(("shift", "is_near"), [(0, True), (1, True), (2, False)])
def test_the_border_may_be_a_pixel_off_but_not_two(shift: int, is_near: bool) -> None:
    first, second = np.zeros((20, 20), dtype=bool), np.zeros((20, 20), dtype=bool)
    first[5:10, 5:10] = second[5:10, 5 + shift : 10 + shift] = True
    assert outlines.differs_by_a_pixel_at_most(first, second) is is_near
