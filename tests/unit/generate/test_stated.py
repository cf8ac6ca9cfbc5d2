"""Questions on stated relations, attributes and definitions: true, and of one thing alone."""

import random

import pytest

from miras.dialogue.records import Dialogue, Region, Relation
from miras.generate.mrseg import mrseg_dialogues
from miras.generate.view import view_of
from tests.unit.generate.conftest import Maker, with_phrases


def write(regions: list[Region], kind: str, *, seeds: int = 30, wording: str = "train") -> list[Dialogue]:
    return [
        dialogue
        for seed in range(seeds)
        for dialogue in mrseg_dialogues(
            view_of(with_phrases(regions)),
            "p",
            random.Random(seed),
            count=2,
            pairs=0,
            classes=(),
            parts={},
            wording="train" if wording == "train" else "held_out",
        )
        if f"-{kind}-" in dialogue.dialogue_id
    ]


def related(region: Region, *relations: tuple[str, str]) -> Region:
    stated = tuple(Relation(predicate=predicate, object_id=other) for predicate, other in relations)
    return region.model_copy(update={"relations": stated})


@pytest.fixture
def rider(box: Maker) -> list[Region]:
    """A man who wears a hat and rides a horse, a second hat on a table."""
    return [
        related(box("man", "man", (40, 20, 60, 50)), ("wearing", "hat"), ("riding", "horse"), ("of", "table")),
        box("hat", "hat", (42, 10, 58, 19)),
        box("horse", "horse", (20, 51, 80, 95)),
        related(box("hat2", "hat", (5, 20, 15, 28)), ("on", "table")),
        box("table", "table", (2, 30, 30, 48)),
    ]


def test_a_relation_gives_two_turns_of_which_the_second_speaks_of_the_first(rider: list[Region]) -> None:
    asked = set()
    for dialogue in write(rider, "interactional"):
        first, second = dialogue.turns
        assert second.refers_to == (0,)
        assert not first.refers_to
        asked.add((first.targets, second.targets))
        subject, (other,) = first.targets[0], second.targets
        predicate = {("man", "hat"): "wearing", ("man", "horse"): "riding", ("hat2", "table"): "on"}[subject, other]
        assert predicate in second.question
    assert asked == {(("man",), ("hat",)), (("man",), ("horse",)), (("hat2",), ("table",))}


def test_the_object_may_stay_unnamed_only_where_it_is_the_only_one(rider: list[Region]) -> None:
    bag = box_like(rider[1], "bag", "bag")
    twice = [related(rider[0], ("wearing", "hat"), ("wearing", "bag")), bag, *rider[1:]]
    questions = [d.turns[1].question for d in write(twice, "interactional") if d.turns[1].targets == ("hat",)]
    assert questions
    assert all("the hat" in question for question in questions)
    single = [d.turns[1].question for d in write(rider, "interactional") if d.turns[1].targets == ("horse",)]
    assert any("horse" not in question for question in single)
    assert any("horse" in question for question in single)


def box_like(region: Region, region_id: str, category: str) -> Region:
    return region.model_copy(update={"region_id": region_id, "category": category})


def test_two_objects_of_a_class_in_the_same_relation_are_not_asked_for(rider: list[Region]) -> None:
    both = [related(rider[0], ("wearing", "hat"), ("wearing", "hat2")), *rider[1:]]
    assert not any(d.turns[0].targets == ("man",) for d in write(both, "interactional"))


def test_at_most_four_relations_of_a_picture(box: Maker) -> None:
    things = [box(str(n), name, (10 * n, 5, 10 * n + 8, 20)) for n, name in enumerate(["cup", "fork", "bowl", "vase"])]
    table = box("t", "table", (0, 30, 99, 90))
    regions = [table, *(related(thing, ("on", "t"), ("above", "t")) for thing in things)]
    assert len(write(regions, "interactional", seeds=1)) == 4


def test_a_relation_to_a_region_that_is_not_there_is_left_out(box: Maker) -> None:
    assert write([related(box("a", "cup", (0, 0, 30, 30)), ("on", "gone"))], "interactional") == []


# --- attributes


def test_an_attribute_singles_out_a_thing_among_its_class(box: Maker) -> None:
    mugs = [
        box("a", "mug", (0, 0, 30, 30), material="wood", kind="instance", occluded="yes"),
        box("b", "mug", (60, 60, 90, 90), material="metal", pattern_marking="striped"),
    ]
    dialogues = write(mugs, "attribute")
    told = {d.turns[0].targets[0]: d.turns[0].question for d in dialogues}
    assert set(told) == {"a", "b"}
    assert "made of wood" in told["a"]
    assert all(len(d.turns) == 1 and not d.turns[0].refers_to for d in dialogues)
    assert not any("striped" in d.turns[0].question for d in dialogues), "the pattern of the other one is unknown"
    assert not any(word in d.turns[0].question for d in dialogues for word in ("instance", "occluded"))


@pytest.mark.parametrize("other", [{}, {"material": "metal, wood"}, {"material": "wood"}])
def test_a_rival_that_may_have_it_too_forbids_the_question(box: Maker, other: dict[str, str]) -> None:
    mugs = [
        box("a", "mug", (0, 0, 30, 30), material="wood"),
        box("b", "mug", (60, 60, 90, 90), **other),
    ]
    assert not any(d.turns[0].targets == ("a",) for d in write(mugs, "attribute"))


def test_a_definition_describes_the_only_thing_of_its_class(box: Maker) -> None:
    definition = "a utensil with tines, used for eating"
    fork = box("a", "fork", (0, 0, 30, 30), definition=definition)
    dialogues = write([fork], "attribute", seeds=3)
    assert dialogues
    assert all(f'"{definition}"' in d.turns[0].question for d in dialogues)
    assert write([fork, box("b", "fork", (60, 60, 90, 90), definition=definition)], "attribute") == []
    assert write([box("c", "fork", (0, 0, 30, 30), definition="a fork that one eats with")], "attribute") == []
