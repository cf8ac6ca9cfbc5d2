"""Phrases identify exactly one region, or there is none."""

from miras.dialogue.records import Region
from miras.generate.phrases import identify
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
