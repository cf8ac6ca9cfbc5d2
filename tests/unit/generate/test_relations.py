"""The nine relations: each is reached, exchanging and mirroring turn them round, close cases are not called."""

import itertools
import random

import pytest

from miras.generate.relations import (
    MIRRORED,
    OPPOSITE,
    SPATIAL_RELATIONS,
    Box,
    clearly,
    relation_between,
    spatial_relation,
)
from miras.generate.view import view_of

REFERENCE: Box = (40, 40, 60, 60)
PLACED: dict[str, Box] = {
    "left": (0, 45, 20, 65),
    "right": (70, 40, 90, 60),
    "above": (38, 5, 58, 25),
    "below": (40, 75, 60, 95),
    "above left": (0, 0, 20, 20),
    "above right": (80, 0, 99, 20),
    "below left": (0, 80, 20, 99),
    "below right": (80, 80, 99, 99),
    "overlap": (42, 38, 62, 58),
}


def random_boxes(count: int) -> list[Box]:
    dice = random.Random(0)
    boxes = []
    for _ in range(count):
        x, y = dice.randrange(90), dice.randrange(90)
        boxes.append((x, y, x + dice.randint(1, 40), y + dice.randint(1, 40)))
    return boxes


@pytest.mark.parametrize("relation", SPATIAL_RELATIONS)
def test_each_of_the_nine_relations_is_reached(relation: str) -> None:
    assert spatial_relation(target=PLACED[relation], reference=REFERENCE) == relation


def test_there_are_nine() -> None:
    assert len(SPATIAL_RELATIONS) == 9
    assert set(OPPOSITE) == set(MIRRORED) == set(SPATIAL_RELATIONS)


def test_exchanging_the_boxes_gives_the_opposite() -> None:
    for first, second in itertools.combinations(random_boxes(80), 2):
        one_way = spatial_relation(target=first, reference=second)
        assert OPPOSITE[one_way] == spatial_relation(target=second, reference=first)


def test_a_mirror_exchanges_left_and_right_only() -> None:
    def flipped(box: Box) -> Box:
        return 130 - box[2], box[1], 130 - box[0], box[3]

    for first, second in itertools.permutations(random_boxes(60), 2):
        seen = spatial_relation(target=first, reference=second)
        assert MIRRORED[seen] == spatial_relation(target=flipped(first), reference=flipped(second))
        assert seen.replace("left", "right") == MIRRORED[seen].replace("left", "right")


def test_boxes_apart_along_an_axis_are_off_to_that_side() -> None:
    assert spatial_relation(target=(0, 40, 40, 60), reference=REFERENCE) == "left"
    assert spatial_relation(target=(0, 0, 40, 39), reference=REFERENCE) == "above left"


def test_a_small_box_inside_a_large_one_overlaps() -> None:
    assert spatial_relation(target=(0, 0, 100, 100), reference=(1, 1, 5, 5)) == "overlap"
    assert spatial_relation(target=(1, 1, 5, 5), reference=(0, 0, 100, 100)) == "overlap"


def test_one_region_is_the_same_and_no_spatial_relation(box) -> None:
    view = view_of([box("a", "mug", (0, 0, 20, 20)), box("b", "mug", (60, 5, 90, 30))])
    first, second = view.things
    assert relation_between(target=first, reference=first) == "same"
    assert relation_between(target=first, reference=second) == "left"


def test_a_diagonal_is_clear_when_both_sides_are(box) -> None:
    view = view_of(
        [
            box("anchor", "clock", (40, 40, 60, 60)),
            box("diagonal", "mug", (0, 0, 20, 20)),
            box("close", "mug", (0, 37, 20, 57)),
            box("other side", "mug", (70, 0, 90, 20)),
        ]
    )
    anchor, diagonal, close, other_side = view.things
    assert clearly(view, diagonal, "above left", anchor) is True
    assert clearly(view, diagonal, "left", anchor) is True
    assert clearly(view, close, "above left", anchor) is None
    assert clearly(view, other_side, "above left", anchor) is False


def test_touching_things_neither_overlap_nor_do_not(box) -> None:
    view = view_of(
        [
            box("anchor", "clock", (40, 40, 60, 60)),
            box("on it", "mug", (45, 45, 65, 65)),
            box("near", "mug", (61, 40, 81, 60)),
            box("far", "mug", (80, 0, 99, 20)),
        ]
    )
    anchor, on_it, near, far = view.things
    assert clearly(view, on_it, "overlap", anchor) is True
    assert clearly(view, near, "overlap", anchor) is None
    assert clearly(view, far, "overlap", anchor) is False
