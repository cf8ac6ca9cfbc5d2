"""Phrases identify exactly one region, or there is none."""

import numpy as np
import pytest

from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.generate.names import spoken
from miras.generate.phrases import descriptions, identify
from miras.generate.view import view_of
from miras.sources.scenes import read


def test_a_class_that_occurs_once_needs_no_more_words(box) -> None:
    regions = [box("a", "mug", (0, 0, 20, 20)), box("b", "clock", (60, 0, 80, 20))]
    assert identify(regions) == {"a": "mug", "b": "clock"}


def test_two_red_mugs_are_told_apart(box) -> None:
    regions = [
        box("a", "mug", (0, 40, 20, 60), colour="red"),
        box("b", "mug", (70, 40, 90, 60), colour="red"),
    ]
    assert identify(regions) == {"a": "left mug", "b": "right mug"}


def test_two_red_mugs_beside_a_blue_one_keep_their_colour_or_a_place_of_their_own(box) -> None:
    regions = [
        box("a", "mug", (10, 40, 20, 60), colour="red"),
        box("b", "mug", (40, 40, 50, 60), colour="red"),
        box("c", "mug", (80, 40, 90, 60), colour="blue"),
    ]
    phrases = identify(regions)
    assert phrases["a"] == "leftmost mug"
    assert phrases["b"] == "right red mug"
    assert phrases["c"] == "blue mug"


def test_a_part_is_named_with_its_whole(box) -> None:
    regions = [
        box("a", "mug", (0, 40, 20, 60), colour="red"),
        box("b", "mug", (70, 40, 90, 60), colour="red"),
        box("a.h", "handle", (15, 45, 20, 55), parent="a"),
        box("b.h", "handle", (85, 45, 90, 55), parent="b"),
    ]
    phrases = identify(regions)
    assert phrases["a.h"] == "handle of the left mug"
    assert phrases["b.h"] == "handle of the right mug"


def test_parts_of_one_name_on_one_whole_are_told_apart(box) -> None:
    regions = [
        box("car", "car", (10, 20, 90, 60)),
        box("w1", "wheel", (15, 50, 30, 60), parent="car"),
        box("w2", "wheel", (70, 50, 85, 60), parent="car"),
    ]
    phrases = identify(regions)
    assert phrases["w1"] == "left wheel of the car"
    assert phrases["w2"] == "right wheel of the car"


def test_lettering_identifies(box) -> None:
    regions = [
        box("a", "sign", (40, 40, 60, 60), text="GO"),
        box("b", "sign", (41, 41, 61, 61), text="UP"),
    ]
    assert identify(regions) == {"a": 'sign saying "GO"', "b": 'sign saying "UP"'}


def test_what_no_words_can_single_out_is_left_out(box) -> None:
    regions = [
        box("a", "mug", (40, 40, 60, 60), colour="red"),
        box("b", "mug", (41, 40, 61, 60), colour="red"),
        box("a.h", "handle", (55, 45, 60, 55), parent="a"),
        box("c", "clock", (0, 0, 10, 10)),
    ]
    assert identify(regions) == {"c": "clock"}


def test_positions_name_the_picture_where_classes_have_sides_of_their_own(box) -> None:
    regions = [
        box("l", "front_left_light", (60, 40, 80, 50)),
        box("w1", "wheel", (10, 60, 30, 80)),
        box("w2", "wheel", (70, 60, 90, 80)),
    ]
    phrases = identify(regions)
    assert phrases["l"] == "front left light"
    assert phrases["w1"] == "left wheel in the picture"


def test_nested_masks_without_stated_parents_are_parts(box) -> None:
    regions = [
        box("p1", "person", (0, 0, 40, 100)),
        box("p2", "person", (60, 0, 100, 100)),
        box("t1", "tie", (15, 30, 20, 50)),
        box("t2", "tie", (75, 30, 80, 50)),
        box("h", "hat", (62, 0, 80, 10)),
    ]
    phrases = identify(regions)
    assert phrases["t1"] == "left tie"
    assert phrases["h"] == "hat"


def test_regions_without_a_mask_get_no_phrase() -> None:
    assert identify([Region(region_id="a", image_id="p", phrase="", mask=None, category="mug")]) == {}


def test_no_phrase_is_used_twice_in_a_picture() -> None:
    missing = total = 0
    for picture in read(count=150, size_px=128, seed=9):
        phrases = identify(picture.regions)
        assert len({phrase.lower() for phrase in phrases.values()}) == len(phrases)
        total += len(picture.regions)
        missing += len(picture.regions) - len(phrases)
    assert missing < 0.02 * total


def test_an_unknown_colour_may_be_the_same(box) -> None:
    red = box("a", "mug", (5, 40, 20, 60), colour="red")
    unknown = box("b", "mug", (70, 40, 90, 60))
    assert identify([red, unknown]) == {"a": "left mug", "b": "right mug"}
    view = view_of([red, unknown])
    assert "red mug" not in list(descriptions(view, view.things[0], {}))


@pytest.mark.parametrize(("colour", "tells"), [("blue", True), ("dark red", False), ("red and white", False)])
def test_a_shade_or_a_part_of_a_colour_may_be_called_so(box, colour: str, tells: bool) -> None:
    view = view_of([box("a", "mug", (5, 40, 20, 60), colour="red"), box("b", "mug", (70, 40, 90, 60), colour=colour)])
    assert ("red mug" in list(descriptions(view, view.things[0], {}))) == tells


def test_a_person_beside_a_group_of_people_is_not_the_person(box) -> None:
    person = box("a", "person", (10, 40, 20, 60))
    crowd = box("b", "group of people", (60, 40, 90, 60), crowd="yes")
    assert identify([person, crowd]) == {"a": "left person", "b": "group of people"}
    alone = with_region_phrase(person, "person")
    assert [thing.phrase for thing in view_of([alone, crowd]).things] == ["", ""]


def test_a_teddy_bear_may_be_called_bear_but_a_hot_dog_is_no_dog(box) -> None:
    bears = identify([box("a", "bear", (0, 0, 20, 20)), box("b", "teddy bear", (60, 0, 80, 20))])
    assert bears == {"a": "left bear", "b": "teddy bear"}
    dogs = identify([box("a", "dog", (0, 0, 20, 20)), box("b", "hot dog", (60, 0, 80, 20))])
    assert dogs == {"a": "dog", "b": "hot dog"}


def with_region_phrase(region: Region, phrase: str) -> Region:
    return region.model_copy(update={"phrase": phrase})


def two_pieces(box, category: str, **attributes: str) -> Region:
    mask = np.zeros((100, 100), bool)
    mask[60:80, 5:25] = mask[60:80, 70:95] = True
    whole = box("a", category, (0, 0, 9, 9), **attributes)
    return whole.model_copy(update={"mask": masks.encode(mask)})


@pytest.mark.parametrize(
    ("category", "attributes", "phrase"),
    [
        ("Car", {"kind": "semantic"}, "cars"),  # all cars of the picture in one mask
        ("Sky", {"kind": "semantic"}, "sky"),
        ("blazer", {"kind": "semantic"}, "blazer"),  # one is worn, a bag hides its middle
        ("wheel", {}, "wheels"),  # one outline for both
        ("person", {}, "person"),  # behind a pole
    ],
)
def test_a_mask_in_pieces_is_several_things_where_that_makes_sense(
    box, category: str, attributes: dict[str, str], phrase: str
) -> None:
    assert identify([two_pieces(box, category, **attributes)]) == {"a": phrase}


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("SignSymbol", "sign"),
        ("front_glass", "windscreen"),
        ("TV monitor", "TV monitor"),
        ("T-shirt", "t-shirt"),
        ("jean", "jeans"),
        ("sky-other-merged", "sky"),
        ("wall-brick", "brick wall"),
        ("MUG", "mug"),
    ],
)
def test_class_names_become_words_that_people_use(category: str, words: str) -> None:
    assert spoken(category) == words
