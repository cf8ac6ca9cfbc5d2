"""How two boxes stand to each other: SegLLM's nine spatial relations, as deterministic rules.

The paper names them without thresholds; ours are assumed. "same" is no spatial relation: it is
said of one region, not of two boxes. `clearly` tells which cases people would not argue about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from scipy import ndimage

from miras.dialogue.masks import decode
from miras.generate.view import CLEAR_SHIFT, Relation, Thing, View, gap, stands

SpatialRelation = Literal[
    "left", "right", "above", "below", "above left", "above right", "below left", "below right", "overlap"
]
SPATIAL_RELATIONS: tuple[SpatialRelation, ...] = get_args(SpatialRelation)
Box = tuple[float, float, float, float]

OVERLAP_IOU = 0.5
CONTAINED_SHARE = 0.8  # of the smaller box
TOUCH_SHARE = 0.01  # of the picture's longer side: masks that are further apart do not overlap to the eye (assumed)
SHIFT_SHARE = 0.5  # of the mean side, by which a centre is off to one side

_BY_SIDES: dict[tuple[int, int], SpatialRelation] = {
    (-1, -1): "above left",
    (-1, 0): "above",
    (-1, 1): "above right",
    (0, -1): "left",
    (0, 0): "overlap",
    (0, 1): "right",
    (1, -1): "below left",
    (1, 0): "below",
    (1, 1): "below right",
}  # (down, across): -1 before the reference, 1 behind it
OPPOSITE: dict[SpatialRelation, SpatialRelation] = {
    relation: _BY_SIDES[-down, -across] for (down, across), relation in _BY_SIDES.items()
}
MIRRORED: dict[SpatialRelation, SpatialRelation] = {
    relation: _BY_SIDES[down, -across] for (down, across), relation in _BY_SIDES.items()
}
_SIDES: dict[SpatialRelation, tuple[Relation, ...]] = {
    "left": ("left",),
    "right": ("right",),
    "above": ("above",),
    "below": ("below",),
    "above left": ("above", "left"),
    "above right": ("above", "right"),
    "below left": ("below", "left"),
    "below right": ("below", "right"),
}


def relation_between(*, target: Thing, reference: Thing) -> SpatialRelation | Literal["same"]:
    """Where the target is, seen from the reference; "same" for one region."""
    if target.region_id == reference.region_id:
        return "same"
    return spatial_relation(target=target.box, reference=reference.box)


def spatial_relation(*, target: Box, reference: Box) -> SpatialRelation:
    """Where the target's box is, seen from the reference's.

    Boxes are x0, y0, x1, y1 in pixels, ends exclusive, not empty. They overlap with an IoU above 0.5, where 80 %
    of the smaller lies in the other, and where the centre is off to no side. It is off to a side when it is
    further away than half the mean of both sides; boxes that do not meet along an axis always are. Exchanging
    the boxes gives `OPPOSITE`, mirroring the picture `MIRRORED`.

    Source: P2 A.5; thresholds are assumed.
    """
    if _share_most(target, reference):
        return "overlap"
    across = _side(target[0], target[2], reference[0], reference[2])
    down = _side(target[1], target[3], reference[1], reference[3])
    return _BY_SIDES[down, across]


def _share_most(first: Box, second: Box) -> bool:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return False
    common = width * height
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return common > OVERLAP_IOU * (sum(areas) - common) or common > CONTAINED_SHARE * min(areas)


def _side(low: float, high: float, other_low: float, other_high: float) -> int:
    """-1 before the other interval, 1 behind it, 0 level with it."""
    shift = (low + high - other_low - other_high) / 2
    least = SHIFT_SHARE * (high - low + other_high - other_low) / 2
    return (shift > least) - (shift < -least)


def clearly(view: View, thing: Thing, relation: SpatialRelation, anchor: Thing) -> bool | None:
    """Whether a thing stands in a relation to another, as `view.stands`: None where people would disagree.

    A diagonal holds when both of its sides do. A thing that is above left of another is left of it, too. Things overlap
    clearly when their masks meet, too.
    """
    if relation == "overlap":
        if spatial_relation(target=thing.box, reference=anchor.box) == "overlap":
            return _touch(thing, anchor) or None
        return False if gap(thing, anchor) >= CLEAR_SHIFT * max(view.width, view.height) else None
    verdicts = [stands(view, thing, side, anchor) for side in _SIDES[relation]]
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _touch(first: Thing, second: Thing) -> bool:
    """Whether two masks meet, or nearly do: a person in front of an airplane, but no bus beyond its wing."""
    assert first.mask is not None
    assert second.mask is not None
    pixels = decode(first.mask), decode(second.mask)
    reach_px = max(1, round(TOUCH_SHARE * max(pixels[0].shape)))
    return bool((ndimage.binary_dilation(pixels[0], iterations=reach_px) & pixels[1]).any())


def none_stands(view: View, things: Iterable[Thing], relation: SpatialRelation, anchor: Thing) -> bool:
    """Whether clearly no thing stands in the relation to the anchor."""
    return all(clearly(view, thing, relation, anchor) is False for thing in things)
