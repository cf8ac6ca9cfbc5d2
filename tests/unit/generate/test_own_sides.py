"""A vehicle's and an animal's own left and right are never mixed with those of the picture."""

import random
import re

import pytest

from miras.dialogue.records import Region, Turn
from miras.generate.annotated import write_about
from miras.generate.config import Wording
from miras.generate.mrseg import mrseg_dialogues
from miras.generate.phrases import descriptions, identify
from miras.generate.relations import clearly
from miras.generate.speech import relation_words
from miras.generate.view import View, view_of
from miras.generate.wording_mrseg import WORDS
from tests.unit.generate.conftest import CONFIG, SIDE_PX, Maker, with_phrases

LINK = "(?: that is| you see| which is| to be found| seen)?"
CAR = {
    "front left light": (60, 50, 75, 60),
    "front right light": (10, 50, 25, 60),
    "left mirror": (80, 30, 88, 38),
    "right mirror": (2, 30, 9, 38),
    "hood": (20, 35, 70, 48),
    "windscreen": (25, 10, 65, 30),
}
WHEELS = ((12, 70, 24, 90), (66, 70, 78, 90), (88, 60, 98, 80))


def car(box: Maker) -> list[Region]:
    parts = [box(name, name.replace(" ", "_"), corners) for name, corners in CAR.items()]
    return [*parts, *(box(f"wheel {n}", "wheel", corners) for n, corners in enumerate(WHEELS))]


def dogs(box: Maker) -> list[Region]:
    regions = []
    for name, x in (("a", 5), ("b", 55)):
        regions.append(box(name, "dog", (x, 20, x + 40, 80)))
        regions.append(box(f"{name}.l", "left ear", (x + 25, 22, x + 32, 32), parent=name))
        regions.append(box(f"{name}.r", "right ear", (x + 8, 22, x + 15, 32), parent=name))
        regions.append(box(f"{name}.p1", "paw", (x + 4, 70, x + 10, 79), parent=name))
        regions.append(box(f"{name}.p2", "paw", (x + 28, 70, x + 34, 79), parent=name))
    return regions


def mirrored(regions: list[Region], box: Maker) -> list[Region]:
    """The same things in a mirror; what they are called stays."""
    flipped = []
    for region, thing in zip(regions, view_of(regions).things, strict=True):
        x0, y0, x1, y1 = (int(value) for value in thing.box)
        corners = (SIDE_PX - x1, y0, SIDE_PX - x0, y1)
        flipped.append(box(region.region_id, region.category, corners, parent=region.parent_id))
    return flipped


def swapped(text: str) -> str:
    """The text with the picture's left and right exchanged; names of parts stay."""
    names = sorted({*CAR, "left ear", "right ear"}, key=len, reverse=True)
    pattern = "|".join([*map(re.escape, names), "leftmost", "rightmost", "left", "right"])
    other = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
    return re.sub(rf"\b(?:{pattern})\b", lambda match: other.get(match[0], match[0]), text)


@pytest.mark.parametrize("make", [car, dogs])
def test_in_a_mirror_places_change_sides_and_own_names_stay(box: Maker, make) -> None:
    regions = make(box)
    views = view_of(regions), view_of(mirrored(regions, box))
    found = []
    for view in views:
        wholes = {thing.region_id: "dog" for thing in view.objects}  # without place, so that both are built alike
        found.append({thing.region_id: set(descriptions(view, thing, wholes)) for thing in view.things})
    assert any("left" in phrase for phrases in found[0].values() for phrase in phrases)
    for region_id, phrases in found[0].items():
        assert {swapped(phrase) for phrase in phrases} == found[1][region_id]


def test_a_place_of_a_car_part_is_said_to_be_the_pictures(box: Maker) -> None:
    for phrase in identify(car(box)).values():
        told = re.sub("|".join(CAR), "", phrase)
        assert not re.search(r"\b(left|right)", told) or "in the picture" in told, phrase


def test_parts_of_a_dog_keep_their_own_side_and_the_pictures_is_said(box: Maker) -> None:
    phrases = identify(dogs(box))
    assert phrases["a"] == "left dog"
    assert phrases["a.l"] == "left ear of the left dog in the picture"
    assert phrases["a.p1"] == "left paw of the left dog in the picture"


@pytest.mark.parametrize("wording", ["train", "held_out"])
def test_relations_between_car_parts_are_true_and_the_pictures_in_both_views(box: Maker, wording: Wording) -> None:
    for regions in (car(box), mirrored(car(box), box)):
        view = view_of(with_phrases(regions))
        turns = _turns(view, wording)
        sides_of_something = r"\b(?:to the )?(?:left|right)(?:-hand side)? of\b"
        assert not any(re.search(sides_of_something, turn.question) for turn in turns)
        checked = 0
        things = {thing.phrase: thing for thing in view.things if thing.phrase}
        for turn in turns:
            for relation, forms in WORDS[wording].relations_in_picture.items():
                for form in forms:
                    match = re.search(rf"the ([\w ]+?){LINK} {re.escape(form)} the ([\w ]+?)[.,?;]", turn.question)
                    if match and match[1] in things and match[2] in things:
                        is_so = clearly(view, things[match[1]], relation, things[match[2]])
                        assert is_so is bool(turn.targets), turn
                        checked += 1
        assert checked > 5


def _turns(view: View, wording: Wording) -> list[Turn]:
    return [
        turn
        for seed in range(40)
        for dialogue in mrseg_dialogues(
            view, "p", random.Random(seed), count=3, pairs=1, classes=(), parts={}, wording=wording
        )
        for turn in dialogue.turns
    ]


def test_prist_and_one_turn_dialogues_say_whose_side_they_mean(box: Maker) -> None:
    for seed in range(30):
        config = CONFIG.model_copy(update={"seed": seed})
        for regions in (car(box), dogs(box)):
            for dialogue in write_about("p", with_phrases(regions), (), config).dialogues:
                for text in (text for turn in dialogue.turns for text in (turn.question, turn.answer)):
                    told = re.sub("|".join(CAR), "", text)
                    if regions[0].region_id != "a":
                        is_said = "in the picture" in text.lower()
                        assert is_said or not re.search(r"\b(?:left|right) of the (?!picture)", told), text
                    assert "left side" not in text
                    assert "right side" not in text


def test_things_without_sides_of_their_own_are_left_and_right_of_each_other(box: Maker) -> None:
    view = view_of([box("a", "mug", (0, 0, 20, 20)), box("b", "clock", (60, 0, 80, 20))])
    assert "to the left of" in relation_words(view, "left", *view.things)
