"""What reads badly to people: pronouns, articles, sides of people, places that contradict, names that say too much."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import numpy as np
import pytest

from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.generate.annotated import write_about
from miras.generate.clues import Clue, narrow
from miras.generate.facts import absent_classes
from miras.generate.mrseg import mrseg_dialogues
from miras.generate.names import is_alive
from miras.generate.phrases import descriptions, identify, tells_relation
from miras.generate.pieces import num_pieces
from miras.generate.relations import clearly
from miras.generate.view import view_of
from tests.unit.generate.conftest import CONFIG, Maker, with_phrases


def decoded(region: Region) -> np.ndarray:
    assert region.mask is not None
    return masks.decode(region.mask)


def texts(regions: list[Region], *kinds: str) -> Iterator[tuple[str, str]]:
    """Questions and answers of many dialogues about a picture."""
    more = {"queries_per_picture": 30, "mrseg_per_picture": 6, "hard_pairs_per_picture": 2}
    for seed in range(8):
        config = CONFIG.model_copy(update={"seed": seed, **more})
        for dialogue in write_about("p", regions, (), config).dialogues:
            if not kinds or dialogue.kind in kinds:
                yield from ((turn.question, turn.answer) for turn in dialogue.turns)


def people(box: Maker) -> list[Region]:
    return with_phrases(
        [
            box("a", "person", (5, 10, 35, 90)),
            box("a.1", "left hand", (25, 50, 33, 60), parent="a"),
            box("a.2", "head", (12, 10, 28, 28), parent="a"),
            box("b", "person", (60, 10, 95, 90)),
        ]
    )


def test_people_are_not_called_it_or_thing_and_have_no_top(box: Maker) -> None:
    two = [region for region in people(box) if region.parent_id is None]
    asked = list(texts(two, "mrseg"))
    assert asked
    for question, _ in asked:
        assert not re.search(r"\b(it|its|thing|object)\b", question), question
    for _, answer in texts(people(box), "prist"):
        assert not re.search(r"(?:at the (?:top|bottom)|side|middle) of (?:it|the person)\b", answer), answer


def test_what_people_can_do_is_asked_with_who(box: Maker) -> None:
    asked = [question for question, _ in texts(people(box)[:3]) if re.search("read and write|in words", question)]
    assert asked
    assert all(re.search(r"\b[Ww]ho|[Hh]ow many people", question) for question in asked)


@pytest.mark.parametrize(("noun", "alive"), [("person", True), ("black cat", True), ("hot dog", False), ("mug", False)])
def test_people_and_animals_are_alive(noun: str, *, alive: bool) -> None:
    assert is_alive(noun) is alive


def test_the_verb_agrees_with_shoes(box: Maker) -> None:
    regions = with_phrases([box("a", "shoes", (5, 70, 35, 90)), box("b", "hat", (50, 5, 70, 20))])
    for question, answer in texts(regions, "vqa", "referring", "caption"):
        assert "shoes is" not in question + answer
        if "shoes" in question and "hat" not in question:
            assert not re.search(r"\b(It is|find it|Here is|there is none)\b", answer), (question, answer)


def test_the_ends_of_a_row_are_not_counted_from_it(box: Maker) -> None:
    row = [box(str(n), "mug", (x, 40, x + 10, 60)) for n, x in enumerate((5, 30, 55, 80))]
    view = view_of(row)
    found = [list(descriptions(view, thing, {})) for thing in view.things]
    assert ["second mug from the left" in words for words in found] == [False, True, False, False]
    assert not any("first mug" in phrase for words in found for phrase in words)


def test_a_row_that_is_in_order_by_one_edge_only_is_not_counted(box: Maker) -> None:
    """The wide mug begins first but ends last."""
    row = [box("a", "mug", (0, 5, 66, 30)), box("b", "mug", (40, 40, 50, 60)), box("c", "mug", (52, 70, 62, 90))]
    view = view_of(row)
    assert not any("from the" in words for thing in view.things for words in descriptions(view, thing, {}))


def test_what_somebody_holds_is_of_that_person_and_what_stands_on_a_table_on_it(box: Maker) -> None:
    for whole, expected in (("person", "cup of the left person"), ("dining table", "cup on the left dining table")):
        regions = [
            box("a", whole, (5, 10, 45, 90)),
            box("b", whole, (55, 10, 95, 90)),
            box("c", "cup", (20, 40, 26, 46)),
            box("d", "cup", (70, 40, 76, 46)),
        ]
        view = view_of(regions)
        assert expected in descriptions(view, view.things[2], identify(regions))


def test_a_class_is_counted_with_those_that_lie_within_other_things(box: Maker) -> None:
    """Two cups stand on the table, one beside it: nobody may speak of the one cup."""
    regions = [
        box("a", "dining table", (5, 10, 70, 90)),
        box("b", "cup", (20, 40, 26, 46)),
        box("c", "cup", (85, 40, 91, 46)),
    ]
    view = view_of(regions)
    assert [thing.category for thing in view.objects] == ["dining table", "cup"]
    assert narrow(view, view.objects, Clue("category", "cup")) is None
    assert [thing.category for thing in view.wholes] == ["dining table", "cup", "cup"]


def test_what_a_thing_is_for_fits_what_lies_within_another_thing_too(box: Maker) -> None:
    regions = [
        box("a", "car", (5, 10, 70, 90)),
        box("b", "bottle", (20, 40, 26, 46)),
        box("c", "cup", (85, 40, 91, 46)),
    ]
    view = view_of(regions)
    assert narrow(view, view.objects, Clue("use", "drink")) is None
    assert narrow(view, view.objects, Clue("use", "hot drink")) == [view.things[2]]


def test_a_synonym_of_what_is_there_is_not_absent(box: Maker) -> None:
    view = view_of([box("a", "motorbike", (5, 5, 30, 30), synonyms="minibike, moped")])
    assert absent_classes(view, ["moped", "boat"]) == {"boat"}


def test_nothing_is_measured_from_a_thing_that_is_named_by_another_one() -> None:
    assert tells_relation("sidewalk to the left of the helmet")
    assert tells_relation("hood further left in the picture than the trunk")
    assert not tells_relation("left sidewalk")
    assert not tells_relation("handle of the left mug")


def test_boxes_that_overlap_say_nothing_of_masks_that_do_not_meet(box: Maker) -> None:
    wings = decoded(box("a", "airplane", (0, 0, 100, 100)))
    wings[:40] = wings[60:] = False
    wings[0, 0] = wings[99, 99] = True
    airplane = box("a", "airplane", (0, 0, 9, 9)).model_copy(update={"mask": masks.encode(wings)})
    view = view_of([airplane, box("b", "bus", (5, 15, 15, 25)), box("c", "person", (40, 45, 50, 70))])
    plane, bus, person = view.things
    assert clearly(view, bus, "overlap", plane) is None
    assert clearly(view, person, "overlap", plane) is True


def test_one_mask_of_several_wheels_is_among_the_wheels(box: Maker) -> None:
    pair = decoded(box("a", "wheel", (5, 80, 15, 90)))
    pair[80:90, 30:40] = True
    both = box("a", "wheel", (0, 0, 9, 9)).model_copy(update={"mask": masks.encode(pair)})
    view = view_of([both, box("b", "wheel", (60, 80, 70, 90))])
    assert [thing.category for thing in view.things] == ["wheels", "wheel"]
    assert len(view.called("wheel")) == len(view.called("wheels")) == 2
    assert narrow(view, view.objects, Clue("category", "wheel")) is None


@pytest.mark.parametrize(("gap_px", "pieces"), [(0, 1), (12, 2)])
def test_cars_that_stand_apart_are_pieces(box: Maker, gap_px: int, pieces: int) -> None:
    mask = decoded(box("a", "car", (10, 10, 40, 40)))
    mask[10:40, 40 + gap_px : 60 + gap_px] = True
    assert num_pieces(masks.encode(mask)) == pieces


def test_a_small_far_car_beside_a_near_one_is_a_piece_and_a_speck_is_none(box: Maker) -> None:
    mask = decoded(box("a", "car", (10, 10, 60, 60)))
    mask[80:81, 80:82] = True
    assert num_pieces(masks.encode(mask)) == 1
    mask[75:83, 75:83] = True
    assert num_pieces(masks.encode(mask)) == 2


def test_parts_of_other_classes_are_missed_without_their_sides(box: Maker) -> None:
    parts = {"person": frozenset({"head", "left hand"}), "cat": frozenset({"head", "left front leg", "tail"})}
    found = mrseg_dialogues(
        view_of(people(box)), "p", random.Random(3), count=40, pairs=0, classes=(), parts=parts, wording="train"
    )
    asked = [turn.question for dialogue in found for turn in dialogue.turns if not turn.targets]
    assert any("tail" in question for question in asked)
    assert not any("front leg" in question for question in asked)
