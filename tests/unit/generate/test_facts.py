"""What may be asked about a picture: only what can be named and seen, and nothing that rests on an unknown colour."""

import pytest

from miras.dialogue.records import Region
from miras.generate.facts import (
    Facts,
    absent_classes,
    absent_in_colour,
    is_one_of_a_count,
    is_single_part,
    known_colours,
)
from miras.generate.view import view_of
from tests.unit.generate.conftest import with_phrases


@pytest.fixture
def regions(box) -> list[Region]:
    """A red car with a wheel, a blue car and a red clock."""
    return [
        box("a", "car", (5, 50, 35, 80), colour="red"),
        box("a.1", "wheel", (10, 70, 20, 80), parent="a", colour="coal"),
        box("b", "car", (60, 50, 90, 80), colour="blue"),
        box("c", "clock", (40, 5, 60, 25), colour="red"),
    ]


def test_a_class_is_absent_only_where_no_part_has_its_name_either(regions) -> None:
    assert absent_classes(view_of(regions), ["wheel", "clock", "boat"]) == {"boat"}


def test_colours_are_those_of_objects_and_absent_where_no_object_of_the_class_has_them(regions) -> None:
    view = view_of(regions)
    assert known_colours(view) == {"red", "blue"}
    assert absent_in_colour(view) == ["blue clock"]


def test_one_unknown_colour_leaves_no_colour_to_ask_about(regions, box) -> None:
    view = view_of([*regions, box("d", "mug", (70, 5, 90, 25))])
    assert known_colours(view) == set()
    assert absent_in_colour(view) == []


def test_what_has_no_phrase_or_is_too_small_is_no_target(regions, box) -> None:
    tiny = box("d", "mug", (70, 5, 71, 7), colour="green")  # 2 of 100 x 100 pixels: 210 on the canvas
    small = box("e", "lamp", (80, 5, 81, 8), colour="green")  # 3: 315
    named = [*with_phrases([*regions, tiny, small]), box("f", "boat", (5, 5, 20, 20), colour="red")]
    assert set(Facts(view_of(named), (), {}).targets) == {"a", "a.1", "b", "c", "e"}


def test_what_may_be_in_a_group_or_be_a_kind_of_it_is_not_absent(box) -> None:
    view = view_of([box("a", "group of people", (0, 0, 30, 30), crowd="yes"), box("b", "teddy bear", (60, 0, 90, 30))])
    assert absent_classes(view, ["person", "bear", "group of cars", "car"]) == {"car"}


def test_all_cars_in_one_mask_are_neither_one_nor_absent(box) -> None:
    view = view_of([box("a", "Car", (0, 0, 30, 30), kind="semantic")])
    assert absent_classes(view, ["car", "tree"]) == {"tree"}
    assert not is_one_of_a_count(view.things[0])


def test_an_unknown_or_mixed_colour_is_not_absent(box) -> None:
    view = view_of(
        [
            box("a", "mug", (0, 0, 30, 30), colour="dark red"),
            box("b", "clock", (60, 0, 90, 30), colour="red"),
        ]
    )
    assert absent_in_colour(view) == []


def test_nobody_counts_the_front_left_lights_of_a_car(box) -> None:
    view = view_of([box("a", "front left light", (0, 0, 30, 30)), box("b", "hood", (60, 0, 90, 30))])
    assert is_single_part(view, "front left light")
    assert is_single_part(view, "hood")
    assert not is_single_part(view_of([box("b", "hood", (60, 0, 90, 30))]), "hood")
