"""Masks as polygons and back, for tools that know polygons only.

Outlines run along the edges of pixels, so a mask and its outlines cover exactly the same pixels. A polygon cannot
have a hole: each hole is joined to the outline around it by a cut of no width (a keyhole), which every program
that fills by the even-odd rule shows as a hole and lets a person edit corner by corner. Labelme's own bitmap
shape would be exact too, but Labelme can only move or delete it. Parts apart from each other are polygons apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from miras.dialogue import masks
from miras.dialogue.records import Rle

Point = tuple[int, int]

# measured: the outline of a disc of 800 px across then has 231 corners (978 with 0.75, 2561 exactly), IoU 0.998
TOLERANCE_PX = 1.1


def polygons(rle: Rle) -> list[list[Point]]:
    """The outlines of a mask: one polygon (x, y) per 4-connected part, corners on the edges of pixels.

    Coordinates reach from 0 to the width and height of the picture. Filled by the even-odd rule the polygons give
    the mask back exactly. An empty mask has none.
    """
    return [_corners(path) for path, _ in _paths(rle)]


def smooth_polygons(rle: Rle) -> list[list[Point]]:
    """As `polygons`, with fewer corners: no pixel changes that is more than one away from the mask's border.

    The exact outlines where simpler ones would lose more, as with the smallest masks.
    """
    simple = [_simplified(path, fixed) for path, fixed in _paths(rle)]
    if all(len(polygon) >= 3 for polygon in simple):
        drawn = from_polygons(simple, size=rle.size)
        if differs_by_a_pixel_at_most(masks.decode(rle), masks.decode(drawn)):
            return simple
    return polygons(rle)


def from_polygons(outlines: Sequence[Sequence[Point]], *, size: tuple[int, int]) -> Rle:
    """The mask that polygons (x, y) enclose together; none enclose nothing.

    Args:
        size: (height, width) in pixels.
    """
    if not outlines:
        return masks.encode(np.zeros(size, dtype=bool))
    flat = [[float(value) for point in outline for value in point] for outline in outlines]
    return masks.from_polygons(flat, height=size[0], width=size[1])


def shapes(rle: Rle, *, label: str, group_id: int = 1) -> list[dict[str, Any]]:
    """The mask as Labelme's polygon shapes, easy to edit.

    Args:
        group_id: of several parts, which makes them one object; a single part has none. Other objects of the same file
            need other numbers.
    """
    outlines = smooth_polygons(rle)
    return [
        {
            "label": label,
            "points": [[float(x), float(y)] for x, y in outline],
            "group_id": group_id if len(outlines) > 1 else None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for outline in outlines
    ]


def differs_by_a_pixel_at_most(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether every pixel of each boolean mask (h, w) is in the other or touches it, corners included."""
    return not (first & ~_grown(second)).any() and not (second & ~_grown(first)).any()


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and all pixels that touch it."""
    height, width = mask.shape
    framed = np.pad(mask, 1)
    grown = np.zeros_like(mask)
    for down in range(3):
        for right in range(3):
            grown |= framed[down : down + height, right : right + width]
    return grown


def _paths(rle: Rle) -> list[tuple[list[Point], set[Point]]]:
    """For each part its closed path, lattice point by lattice point, and the ends of its cuts."""
    mask = np.pad(masks.decode(rle), 1)  # so that every outline has an outside
    rings = _rings(mask)
    ring_at = {edge: number for number, ring in enumerate(rings) for edge in _left_and_right_edges(ring)}
    outer_of: dict[int, int] = {}
    cuts: dict[int, list[tuple[Point, Point, int]]] = {}
    for number, ring in enumerate(rings):
        if _is_hole(ring):
            x, y = min(_left_and_right_edges(ring))
            row = mask[y, :x]
            start = x - int(np.argmin(row[::-1]))  # where the run of set pixels left of the hole begins
            outer_of[number] = ring_at[start, y]
            cuts.setdefault(ring_at[start, y], []).append(((start, y), (x, y), number))
    found = []
    for number, ring in enumerate(rings):
        if number not in outer_of:
            path, ends = _with_holes(ring, number, rings, cuts)
            found.append(([(x - 1, y - 1) for x, y in path], {(x - 1, y - 1) for x, y in ends}))
    return found


def _with_holes(
    ring: list[Point], number: int, rings: list[list[Point]], cuts: dict[int, list[tuple[Point, Point, int]]]
) -> tuple[list[Point], set[Point]]:
    """The ring with all holes that hang on it, and on each other, cut in; and the ends of the cuts."""
    path, ends = list(ring), set[Point]()
    waiting = list(cuts.get(number, ()))
    while waiting:
        start, end, hole = waiting.pop()
        turned = rings[hole][(first := rings[hole].index(end)) :] + rings[hole][:first]
        place = path.index(start)
        path[place + 1 : place + 1] = [*turned, end, start]
        ends |= {start, end}
        waiting += cuts.get(hole, ())
    return path, ends


def _rings(mask: np.ndarray) -> list[list[Point]]:
    """Closed paths around the set pixels, which lie to the right hand: clockwise around parts, the other way
    around holes. Where two pixels touch at a corner only, the path stays with its own pixel."""
    following: dict[Point, list[Point]] = {}
    for (down, right), (from_x, from_y), (to_x, to_y) in (
        ((-1, 0), (0, 0), (1, 0)),
        ((0, 1), (1, 0), (1, 1)),
        ((1, 0), (1, 1), (0, 1)),
        ((0, -1), (0, 1), (0, 0)),
    ):
        is_edge = mask & ~np.roll(mask, (-down, -right), axis=(0, 1))
        for y, x in np.argwhere(is_edge).tolist():
            following.setdefault((x + from_x, y + from_y), []).append((x + to_x, y + to_y))
    rings = []
    for start in sorted(following):
        while following.get(start):
            rings.append(_ring(start, following))
    return rings


def _ring(start: Point, following: dict[Point, list[Point]]) -> list[Point]:
    """Follows edges from `start` until it is back, using them up."""
    path = [start]
    here, step = start, (0, 0)
    while True:
        choices = following[here]
        right_turn = (here[0] - step[1], here[1] + step[0])
        chosen = right_turn if len(choices) > 1 and right_turn in choices else choices[0]
        choices.remove(chosen)
        step = (chosen[0] - here[0], chosen[1] - here[1])
        here = chosen
        if here == start:
            return path
        path.append(here)


def _left_and_right_edges(ring: list[Point]) -> list[Point]:
    """The upper end of each vertical edge of a ring."""
    pairs = zip(ring, ring[1:] + ring[:1], strict=True)
    return [(x0, min(y0, y1)) for (x0, y0), (x1, y1) in pairs if x0 == x1]


def _is_hole(ring: list[Point]) -> bool:
    pairs = zip(ring, ring[1:] + ring[:1], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) < 0


def _corners(path: list[Point]) -> list[Point]:
    """The points where a closed path turns, or turns back."""
    before, after = path[-1:] + path[:-1], path[1:] + path[:1]
    return [
        here
        for (x0, y0), here, (x1, y1) in zip(before, path, after, strict=True)
        if (here[0] - x0, here[1] - y0) != (x1 - here[0], y1 - here[1])
    ]


def _simplified(path: list[Point], fixed: set[Point]) -> list[Point]:
    """Douglas and Peucker's line simplification of a closed path; the points of `fixed` stay."""
    points = np.array(_corners(path), dtype=float)
    farthest = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    stays = {0, farthest, *(i for i, (x, y) in enumerate(points) if (int(x), int(y)) in fixed)}
    closed = np.concatenate([points, points[:1]])
    ends = [*sorted(stays), len(points)]
    kept = set(stays)
    waiting = list(pairwise(ends))
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        offsets = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(np.argmax(offsets))
        if offsets[worst] > TOLERANCE_PX:
            middle = first + 1 + worst
            kept.add(middle)
            waiting += [(first, middle), (middle, last)]
    return [(int(points[i][0]), int(points[i][1])) for i in sorted(kept)]


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of each point (n, 2) from the straight line between two points; from the point, where they meet."""
    direction = end - start
    length = float(np.hypot(*direction))
    offsets = points - start
    if length == 0:
        return np.hypot(offsets[:, 0], offsets[:, 1])
    return np.abs(offsets[:, 0] * direction[1] - offsets[:, 1] * direction[0]) / length
