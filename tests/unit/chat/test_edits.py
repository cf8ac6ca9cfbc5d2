"""What a person draws on a mask."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from miras.chat.edits import Edit, edited
from miras.errors import DataError

EMPTY = np.zeros((20, 30), dtype=bool)


def test_a_polygon_covers_the_pixels_inside_its_corners() -> None:
    found = edited(EMPTY, [Edit(tool="polygon", adds=True, points=((2, 3), (12, 3), (12, 9), (2, 9)))])
    expected = EMPTY.copy()
    expected[3:9, 2:12] = True
    assert np.array_equal(found, expected)


def test_a_stroke_is_as_wide_as_its_brush_and_leaves_the_mask_given_alone() -> None:
    found = edited(EMPTY, [Edit(tool="brush", adds=True, points=((5, 10), (20, 10)), radius=3)])
    rows = np.nonzero(found[:, 12])[0]
    assert 6 <= len(rows) <= 8
    assert abs((rows[0] + rows[-1] + 1) / 2 - 10) <= 1
    assert not found[:, 28].any()
    assert not EMPTY.any()


def test_what_is_erased_last_is_gone() -> None:
    everything = Edit(tool="polygon", adds=True, points=((0, 0), (30, 0), (30, 20), (0, 20)))
    dot = Edit(tool="brush", adds=False, points=((15, 10),), radius=4)
    found = edited(EMPTY, [everything, dot])
    assert found[0, 0]
    assert not found[10, 15]
    assert edited(EMPTY, [dot, everything])[10, 15]


def test_points_outside_the_picture_are_cut_off() -> None:
    far = Edit(tool="brush", adds=True, points=((-50, -50), (500, 500)), radius=2)
    assert edited(EMPTY, [far]).any()


def test_what_encloses_nothing_or_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="2 corners"):
        edited(EMPTY, [Edit(tool="polygon", adds=True, points=((1, 1), (2, 2)))])
    for wrong in ({"points": ((float("nan"), 1),)}, {"points": ()}, {"radius": 0}, {"points": ((1e9, 1),)}):
        with pytest.raises(ValidationError):
            Edit(**{"tool": "brush", "adds": True, "points": ((1, 1),)} | wrong)  # type: ignore[arg-type]
