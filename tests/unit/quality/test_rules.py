"""Every rule is tripped by a record that breaks it, by no other record, and alone.

All cases are judged together, each in its own picture: one run of Great Expectations for the whole file.
"""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add

import pytest

from miras.dialogue.records import Rle, Turn
from miras.quality.judge import Verdict, judge
from miras.quality.word_list import read_word_list
from tests.unit.quality.good_records import CHECK, NO_WORDS, SIDE_PX, DataSet, good, prist_turns, square

TALK, LAST = prist_turns("x/handle")[:2], prist_turns("x/handle")[2]
WORDS = read_word_list(str(NO_WORDS), emails=True, phones=True)
Broken = dict[str, set[str]]  # record id -> rules it breaks

CASES: dict[str, tuple[DataSet, Broken]] = {}


def case(name: str, data: DataSet, broken: Broken) -> None:
    """Adds a picture `name` in which exactly these records break exactly these rules."""
    CASES[name] = (data, broken)


def turns_case(name: str, *turns: Turn, breaks: set[str], kind: str = "prist") -> None:
    """A case in which the PRIST dialogue (or the caption, made one of another kind) has these turns."""
    index, record = (0, "prist") if kind == "prist" else (2, "caption")
    at_home = tuple(
        turn.model_copy(update={"targets": tuple(key.replace("x/", f"{name}/") for key in turn.targets)})
        for turn in turns
    )
    broken = {f"{name}-{record}": breaks} if breaks else {}
    case(name, good(name).with_dialogue(index, kind=kind, turns=at_home), broken)


def region_case(name: str, index: int, breaks: set[str], broken: tuple[str, ...] = (), **values: object) -> None:
    """A case in which a region is changed; `broken` dialogues and parts fall with it."""
    data = good(name).with_region(index, **values)
    region_id = data.regions[index].region_id
    followers = {
        f"{name}{follower}": {"parent_passed" if follower[0] == "/" else "targets_passed"} for follower in broken
    }
    case(name, data, {region_id: breaks, **followers} if breaks else {})


case("all_good", good("all_good"), {})

# Shape
turns_case("no_turns", breaks={"turns_alternate", "prist_turn_count", "prist_target_last"})
turns_case("blank_question", Turn(question=" ", answer="Yes."), *TALK, LAST, breaks={"turns_alternate"})
turns_case("blank_answer", Turn(question="Is it?", answer=""), *TALK, LAST, breaks={"turns_alternate"})
turns_case("two_turns", TALK[0], LAST, breaks={"prist_turn_count"})
turns_case("eight_turns", *TALK * 3, TALK[0], LAST, breaks={"prist_turn_count"})
turns_case("seven_turns_are_allowed", *TALK * 3, LAST, breaks=set())
ABOUT_IT = LAST.model_copy(update={"refers_to": (0,)})
turns_case("twenty_rounds", LAST, *[ABOUT_IT] * 19, kind="mrseg", breaks={"mrseg_turn_count"})
turns_case("no_reference", LAST, kind="mrseg", breaks={"mrseg_refers_to_masks"})
turns_case("rounds_that_name_all_are_allowed", LAST, LAST, kind="mrseg", breaks=set())
turns_case("questions_in_words_may_follow", TALK[0], TALK[1], kind="vqa", breaks=set())
turns_case("long_caption", TALK[0], TALK[1], kind="caption", breaks={"query_turn_count"})
case("twice", good("twice") + DataSet((), (), (good("twice").dialogues[2],)), {
    "twice-caption": {"dialogue_id_unique", "not_repeated"},
})  # fmt: skip
case("elsewhere", good("elsewhere").with_dialogue(2, image_id="nowhere"), {
    "elsewhere-caption": {"dialogue_picture_exists"},
})  # fmt: skip

# Text
turns_case("wordy", Turn(question="Why?", answer="very " * 30 + "long"), *TALK, LAST, breaks={"text_length"})
turns_case("trailing_blank", Turn(question="Why? ", answer="So."), *TALK, LAST, breaks={"text_tidy"})
turns_case("control", Turn(question="Wh\x07y?", answer="So."), *TALK, LAST, breaks={"text_tidy"})
turns_case("mojibake", Turn(question="Caf\ufffd?", answer="So."), *TALK, LAST, breaks={"text_tidy"})
turns_case("two_lines_are_allowed", Turn(question="Why?", answer="So.\nYes."), *TALK, LAST, breaks=set())
louder = TALK[0].model_copy(update={"question": TALK[0].question.upper()})
once = good("again").dialogues[0]
again = once.model_copy(update={"dialogue_id": "again-prist2", "turns": (louder, *once.turns[1:])})
case("again", good("again") + DataSet((), (), (again,)), {"again-prist2": {"not_repeated"}})

mail = Turn(question="Whose mug is it?", answer="Of the mug's owner, a.b@example.org.")
turns_case("address", *TALK, mail, LAST, breaks={"text_without_unwanted_words"})
region_case("address_as_phrase", 2, {"phrase_without_unwanted_words"}, phrase="sign with a.b@example.org")

# Progress
nothing = Turn(question="Is it late?", answer="Yes.")
turns_case("focus_unnamed", nothing, nothing, LAST, breaks={"prist_focus_named"})
turns_case("wanders_off", TALK[0], nothing, Turn(question="Do handles rust?", answer="No."), LAST,
           breaks={"prist_turns_build_on_earlier"})  # fmt: skip

# Markers
turns_case("typed_obj", Turn(question="Why?", answer="An [OBJ] it is."), *TALK, LAST, breaks={"no_typed_markers"})
turns_case("typed_seg", Turn(question="[seg]?", answer="So."), *TALK, LAST, breaks={"no_typed_markers"})
turns_case("typed_image", Turn(question="<image> Why?", answer="So."), *TALK, LAST, breaks={"no_typed_markers"})
turns_case("end_token", Turn(question="Why?", answer="So.</s>"), *TALK, LAST, breaks={"no_typed_markers"})
turns_case("odd_braces", Turn(question="Why?", answer="So {mug}."), *TALK, LAST, breaks={"no_typed_markers"})
turns_case("brackets_are_allowed", Turn(question="[sic] a<b?", answer="So [1]."), *TALK, LAST, breaks=set())
turns_case("marker_in_a_name", LAST.model_copy(update={"names": ("mug[SEG]",)}), kind="referring",
           breaks={"no_typed_markers"})  # fmt: skip
turns_case("slot_in_a_name", LAST.model_copy(update={"names": ("{target}",)}), kind="referring",
           breaks={"no_typed_markers"})  # fmt: skip
turns_case("slot_asked", Turn(question="{target}?", answer="So."), *TALK, LAST, breaks={"slots_only_in_answers"})
turns_case(
    "typed_group",
    *TALK,
    LAST.model_copy(update={"answer": "[OBJ]{target}[SEG]"}),
    breaks={"no_typed_markers", "prist_last_answer_renders"},
)
turns_case("slot_missing", *TALK, LAST.model_copy(update={"answer": "Sure."}), breaks={"one_slot_per_target"})
turns_case("slot_too_many", Turn(question="Q?", answer="{target}"), *TALK, LAST, breaks={"one_slot_per_target"})

# Targets
turns_case("no_region", *TALK, LAST.model_copy(update={"targets": ("ghost",)}), breaks={"targets_exist"})
case(
    "stranger",
    good("stranger").with_dialogue(
        1, turns=(Turn(question="Where is it?", answer="{target}", targets=("all_good/mug",)),)
    ),
    {"stranger-query": {"targets_in_picture"}},
)
turns_case(
    "looks_ahead",
    TALK[0].model_copy(update={"refers_to": (2,)}), TALK[1], LAST,
    breaks={"references_go_back"},
)  # fmt: skip
turns_case(
    "refers_to_text",
    TALK[0], TALK[1], LAST.model_copy(update={"refers_to": (0,)}),
    breaks={"references_go_back"},
)  # fmt: skip
turns_case(
    "early_target",
    Turn(question="Where?", answer="{target}", targets=("x/mug",)), *TALK, LAST,
    breaks={"prist_target_last"},
)  # fmt: skip
turns_case("no_target", *TALK, TALK[0], breaks={"prist_target_last"})
case("unfocused", good("unfocused").with_dialogue(0, focus=""), {"unfocused-prist": {"prist_focus_present"}})
case("wrong_focus", good("wrong_focus").with_dialogue(0, focus="mug"), {"wrong_focus-prist": {"prist_focus_is_target"}})

# Regions
region_case("marked_phrase", 2, {"phrase_without_markers"}, phrase="lamp[SEG]")
region_case("no_phrase", 1, {"phrase_present"}, ("-prist",), phrase=" ")
case("no_phrase_unasked", good("no_phrase_unasked").with_region(2, phrase=""), {})
region_case("same_phrase", 0, {"phrase_unique_in_picture"}, ("/handle", "-query", "-prist"), phrase="Lamp")
region_case("orphan", 1, {"parent_exists"}, ("-prist",), parent_id="ghost")
region_case("own_parent", 1, {"parent_exists", "parent_passed"}, ("-prist",), parent_id="own_parent/handle")
region_case("adopted", 1, {"parent_exists"}, ("-prist",), parent_id="all_good/mug")
region_case("lost_picture", 2, {"region_picture_exists"}, image_id="nowhere")
case("same_id", good("same_id") + DataSet((), (good("same_id").regions[2],), ()), {
    "same_id/lamp": {"region_id_unique"},
})  # fmt: skip
region_case("target_without_mask", 1, {"target_has_mask"}, ("-prist",), mask=None)

# Masks
region_case("too_high", 2, {"mask_height_fits"}, mask=square(20, height=65))
region_case("too_wide", 2, {"mask_width_fits"}, mask=square(20, width=65))
region_case("turned", 2, {"mask_height_fits", "mask_width_fits"}, mask=square(20, height=32, width=128))
region_case("empty", 2, {"mask_not_empty"}, mask=square(0))
too_narrow = square(5, width=SIDE_PX - 1)
region_case("runs_too_short", 2, {"mask_readable"}, mask=Rle(size=(SIDE_PX, SIDE_PX), counts=too_narrow.counts))
region_case("unreadable", 2, {"mask_readable"}, mask=Rle(size=(64, 64), counts="ab"))
region_case("ignored_unreadable", 2, {"mask_readable"}, ignored=Rle(size=(64, 64), counts="ab"))
region_case("ignored_of_another_size", 2, {"mask_readable"}, ignored=square(1, height=65))
region_case("ignored_is_allowed", 2, set(), ignored=square(1))
region_case("small_target", 1, {"target_large_enough"}, ("-prist",), mask=square(1))
region_case("small_whole", 0, {"target_large_enough"}, ("/handle", "-query", "-prist"), mask=square(1))


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    data = reduce(add, (data for data, _ in CASES.values()))
    pictures = {picture.image_id: picture for picture in data.pictures}
    return judge(data.dialogues, data.regions, pictures=pictures, check=CHECK, words=WORDS)


def broken_rules(verdict: Verdict, name: str) -> Broken:
    """Record id -> rules it breaks, of the records that belong to a case."""
    found: Broken = {}
    for table in (verdict.regions, verdict.dialogues):
        for row, reasons in table.reasons.items():
            if table.ids[row].startswith((f"{name}/", f"{name}-")):
                found.setdefault(table.ids[row], set()).update(reasons)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_case_breaks_exactly_its_rules(verdict: Verdict, name: str) -> None:
    assert broken_rules(verdict, name) == CASES[name][1]


def test_every_rule_has_a_case_that_breaks_it(verdict: Verdict) -> None:
    rules = {result.rule.name for validation in verdict.validations for result in validation.results}
    broken = {rule for _, records in CASES.values() for rules in records.values() for rule in rules}
    assert broken == rules


def test_reasons_name_what_was_found_and_what_was_expected(verdict: Verdict) -> None:
    told = {
        table.ids[row]: "; ".join(reasons.values())
        for table in (verdict.regions, verdict.dialogues)
        for row, reasons in table.reasons.items()
    }
    assert told["two_turns-prist"] == "has 2 turns, a PRIST dialogue has 3 to 7"
    assert told["too_high/lamp"] == "its mask is 65 px high, the picture 64 px"
    assert told["small_target/handle"].startswith("too small to be a target: 256 px on the 1024 canvas")
    assert "small_target/handle: too small to be a target: 256 px" in told["small_target-prist"]
    assert told["small_whole/handle"] == "it is part of small_whole/mug, which is in quarantine"


def test_great_expectations_and_the_tables_count_the_same(verdict: Verdict) -> None:
    for table, suites in ((verdict.regions, ("regions", "masks")), (verdict.dialogues, ("dialogues",))):
        told = Counter(rule for reasons in table.reasons.values() for rule in reasons)
        found = {
            result.rule.name: result.raw["result"]["unexpected_count"]
            for validation in verdict.validations
            if validation.suite.name in suites
            for result in validation.results
            if result.failed_rows
        }
        assert told == found
