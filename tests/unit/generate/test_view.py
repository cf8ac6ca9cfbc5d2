"""What is seen of a picture: clear cases are called, close ones are not."""

import pytest

from miras.dialogue.records import Region
from miras.generate.clues import Clue, follow, lead_to
from miras.generate.view import Thing, View, extreme_of, place, place_in_whole, stands, view_of

MIRROR = {"left": "right", "right": "left", "above": "above", "below": "below"}


def things(*regions: Region) -> tuple[View, tuple[Thing, ...]]:
    view = view_of(regions)
    return view, view.things


def test_opposite_relations_exclude_each_other(scene_regions_with_phrases) -> None:
    for regions in scene_regions_with_phrases.values():
        view = view_of(regions)
        for first in view.objects:
            for second in view.objects:
                assert not (stands(view, first, "left", second) and stands(view, first, "right", second))
                assert stands(view, first, "left", second) == stands(view, second, "right", first)
                assert stands(view, first, "above", second) == stands(view, second, "below", first)


def test_relations_turn_round_in_a_mirror(box) -> None:
    view, (a, b) = things(box("a", "mug", (5, 10, 25, 30)), box("b", "clock", (60, 60, 90, 90)))
    mirrored, (c, d) = things(box("a", "mug", (75, 10, 95, 30)), box("b", "clock", (10, 60, 40, 90)))
    for relation, seen in MIRROR.items():
        assert stands(view, a, relation, b) == stands(mirrored, c, seen, d)
    assert stands(view, a, "left", b) is True
    assert stands(view, a, "above", b) is True


def test_a_small_lead_is_not_called(box) -> None:
    view, (a, b) = things(box("a", "mug", (40, 10, 60, 30)), box("b", "clock", (44, 60, 64, 90)))
    assert stands(view, a, "left", b) is None
    assert extreme_of(view, [a, b], "left") is None


def test_a_tall_thing_is_not_lower_than_one_with_the_same_foot(box) -> None:
    view, (tree, cup) = things(box("a", "tree", (10, 10, 30, 90)), box("b", "cup", (60, 70, 80, 89)))
    assert extreme_of(view, [tree, cup], "bottom") is None


def test_nearly_equal_sizes_are_not_compared(box) -> None:
    view, (a, b, c) = things(
        box("a", "mug", (0, 0, 20, 20)), box("b", "mug", (40, 0, 60, 22)), box("c", "mug", (70, 50, 100, 90))
    )
    assert extreme_of(view, [a, b], "large") is None
    assert extreme_of(view, [a, b, c], "large") is c


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ((0, 0, 20, 20), "in the upper left of the picture"),
        ((40, 80, 60, 100), "at the bottom of the picture"),
        ((80, 40, 100, 60), "on the right of the picture"),
    ],
)
def test_places_are_thirds_of_the_picture(box, corners: tuple[int, int, int, int], words: str) -> None:
    view, (thing,) = things(box("a", "mug", corners))
    assert place(view, thing) == words


def test_a_part_has_a_side_of_its_whole(box) -> None:
    _, (_, handle) = things(box("a", "mug", (0, 0, 40, 40)), box("h", "handle", (30, 15, 40, 25), parent="a"))
    assert place_in_whole(handle) == "on the right side"


def test_clues_are_followed_in_order_to_one_target(box) -> None:
    view = view_of(
        [
            box("a", "mug", (0, 40, 20, 60), colour="red"),
            box("b", "mug", (70, 40, 90, 60), colour="red"),
            box("c", "mug", (40, 40, 50, 50), colour="blue"),
            box("b.h", "handle", (85, 45, 90, 55), parent="b"),
        ]
    )
    clues = [Clue("category", "mug"), Clue("colour", "red"), Clue("extreme", "right"), Clue("part", "handle")]
    assert lead_to(view, clues, "b.h")
    assert not lead_to(view, clues[:3], "b.h")
    assert not lead_to(view, clues[:2], "b")
    assert follow(view, [Clue("use", "drink"), Clue("extreme", "top")]) is None


def test_a_use_is_not_asked_beside_an_unknown_class(box) -> None:
    view = view_of([box("a", "mug", (0, 0, 20, 20)), box("b", "thermos", (50, 50, 70, 70))])
    assert follow(view, [Clue("use", "drink")]) is None
