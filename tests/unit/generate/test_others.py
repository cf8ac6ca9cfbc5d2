"""Where objects of a class may be in the picture without being outlined, nothing is said that rests on knowing all."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from miras.dialogue.records import Region
from miras.generate.annotated import write_about
from miras.generate.facts import Facts, absent_in_colour
from miras.generate.phrases import identify
from miras.generate.speech import group, inventory
from miras.generate.view import view_of
from tests.unit.generate.conftest import CONFIG, Maker, with_phrases

SPEAKS_OF_ALL = re.compile(
    r"\ball (?!of this|these|right|those|leads)|\b(every|each|how many|number of|count|the other one|other mug|only|"
    r"one of the two|either|any one|there is one)\b",
    re.IGNORECASE,
)
SAYS_WHAT_FOR = re.compile(r"\b(thirst|drink|juice|road|red light|petrol|town|trip|travelling)")
MUCH = CONFIG.model_copy(update={"queries_per_picture": 40, "mrseg_per_picture": 6, "hard_pairs_per_picture": 3})


def kitchen(box: Maker, **others: str) -> list[Region]:
    """Two mugs, of which there may be more, and a clock."""
    return with_phrases(
        [
            box("a", "mug", (5, 55, 25, 80), colour="red", **others),
            box("b", "mug", (70, 50, 95, 80), colour="blue", **others),
            box("c", "clock", (40, 5, 60, 25), colour="red"),
        ]
    )


def texts(regions: list[Region], *, is_exhaustive: bool, classes: tuple[str, ...] = ()) -> Iterator[str]:
    for seed in range(6):
        config = MUCH.model_copy(update={"seed": seed})
        for dialogue in write_about("p", regions, classes, config, is_exhaustive=is_exhaustive).dialogues:
            for turn in dialogue.turns:
                yield turn.question
                yield turn.answer


def of_mugs(found: Iterator[str]) -> list[str]:
    return [text for text in found if "mug" in text and SPEAKS_OF_ALL.search(text)]


def test_such_questions_are_asked_where_all_are_outlined(box: Maker) -> None:
    assert of_mugs(texts(kitchen(box), is_exhaustive=True))


@pytest.mark.parametrize("others", ["maybe", "yes"])
def test_nothing_asks_for_all_or_for_the_other_one_where_there_may_be_more(box: Maker, others: str) -> None:
    found = list(texts(kitchen(box, others=others), is_exhaustive=False))
    assert of_mugs(iter(found)) == []
    assert not any("two mugs" in text for text in found)
    assert any("clock" in text for text in found)


def test_nothing_says_what_is_not_there_but_what_the_source_says(box: Maker) -> None:
    regions = kitchen(box, others="maybe")
    for text in texts(regions, is_exhaustive=False, classes=("boat",)):
        missing = re.search(r"\b(?:no|any) (\w+)", text)
        if missing:
            assert missing[1] in ("boat", "boats", "clock", "blue", "one", "other"), text  # no blue clock


def test_nothing_is_named_beside_others_of_its_class_that_are_surely_there(box: Maker) -> None:
    regions = [
        box("a", "banana", (5, 55, 25, 80), others="yes"),
        box("a.1", "peel", (5, 55, 9, 80), parent="a"),
        box("b", "clock", (40, 5, 60, 25)),
    ]
    assert identify(regions) == {"b": "clock"}
    named = [region.model_copy(update={"phrase": region.category}) for region in regions]  # as the stage stores them
    assert [thing.phrase for thing in view_of(named).things] == ["", "", "clock"]


def test_what_things_are_for_is_asked_only_where_nothing_else_might_do(box: Maker) -> None:
    regions = with_phrases([box("a", "bottle", (5, 5, 25, 40)), box("b", "car", (50, 50, 90, 80))])
    assert any(SAYS_WHAT_FOR.search(text) for text in texts(regions, is_exhaustive=True))
    assert not any(SAYS_WHAT_FOR.search(text) for text in texts(regions, is_exhaustive=False))


def test_pairs_and_colours_rest_on_all_being_outlined(box: Maker) -> None:
    complete, open_ended = view_of(kitchen(box)), view_of(kitchen(box, others="maybe"))
    assert len(Facts(complete, (), {}).pair_of(complete.things[0])) == 2
    assert Facts(open_ended, (), {}).pair_of(open_ended.things[0]) == []
    assert (absent_in_colour(complete), absent_in_colour(open_ended)) == (["blue clock"], ["blue clock"])
    with_clocks = view_of([*kitchen(box)[:2], box("c", "clock", (40, 5, 60, 25), colour="green", others="maybe")])
    assert absent_in_colour(with_clocks) == ["green mug"]


def test_lists_and_groups_give_no_number_where_there_may_be_more(box: Maker) -> None:
    things = view_of(kitchen(box, others="maybe")).things
    assert inventory(things[:2]) == "a red mug and a blue mug"
    same = [box(name, "mug", (x, 5, x + 20, 25), others="maybe") for name, x in (("a", 5), ("b", 60))]
    assert inventory(view_of(same).things) == "mugs"
    assert group(view_of(same).things) == "the mugs"


def test_things_are_counted_and_compared_over_classes_only_in_scenes_that_are_known_whole(box: Maker) -> None:
    photograph = with_phrases(
        [
            box("a", "cat", (5, 5, 80, 80)),
            box("b", "cup", (85, 85, 95, 95)),
            box("c", "fork", (2, 90, 12, 98)),
        ]
    )
    for text in texts(photograph, is_exhaustive=True):
        assert not re.search("How many things|count the things|largest thing|smallest thing|Nothing here is as", text)
        assert not re.search("closest to|nearest to the (?:cat|cup|fork)|nearest neighbour|next to the", text)
