"""MRSeg dialogues: references are true and single out one thing, hard pairs cannot be told from their text."""

import random
import re
from collections.abc import Iterator

import pytest

from miras.dialogue.records import TARGET_SLOT, Dialogue, Region, Turn
from miras.generate.annotated import part_names
from miras.generate.config import Wording
from miras.generate.mrseg import MAX_TURNS, MIN_TURNS, mrseg_dialogues
from miras.generate.relations import SPATIAL_RELATIONS, SpatialRelation, clearly
from miras.generate.view import View, view_of
from miras.generate.wording_mrseg import WORDS, Words
from miras.sources.scenes import CATEGORIES, COLOURS
from tests.unit.generate.conftest import with_phrases

Pictures = dict[str, list[Region]]
WORDINGS: tuple[Wording, ...] = ("train", "held_out")


def write(
    regions: list[Region],
    *,
    count: int = 0,
    pairs: int = 0,
    seed: int = 0,
    wording: Wording = "train",
    parts: dict[str, frozenset[str]] | None = None,
) -> list[Dialogue]:
    return mrseg_dialogues(
        view_of(regions),
        "p",
        random.Random(seed),
        count=count,
        pairs=pairs,
        classes=CATEGORIES,
        parts=part_names(regions) if parts is None else parts,
        wording=wording,
    )


@pytest.fixture(scope="module")
def parts(scene_regions_with_phrases: Pictures) -> dict[str, frozenset[str]]:
    return part_names(region for regions in scene_regions_with_phrases.values() for region in regions)


@pytest.fixture(scope="module")
def written(
    scene_regions_with_phrases: Pictures, parts: dict[str, frozenset[str]]
) -> list[tuple[View, dict[str, Region], Dialogue]]:
    """Dialogues about 60 scenes, with the view and the regions of each."""
    return [
        (view_of(regions), {region.region_id: region for region in regions}, dialogue)
        for regions in scene_regions_with_phrases.values()
        for dialogue in write(regions, count=6, pairs=2, parts=parts)
    ]


def of_type(written: list[tuple[View, dict[str, Region], Dialogue]], name: str) -> list[Dialogue]:
    return [dialogue for _, _, dialogue in written if f"-{name}-" in dialogue.dialogue_id]


def referring_turns(
    written: list[tuple[View, dict[str, Region], Dialogue]],
) -> Iterator[tuple[View, dict[str, Region], Turn, str]]:
    """View, regions, turn and the id of the region that its question speaks of."""
    for view, regions, dialogue in written:
        for turn in dialogue.turns:
            for earlier in turn.refers_to:
                yield view, regions, turn, dialogue.turns[earlier].targets[0]


def asked_relation(question: str, words: Words) -> tuple[str, SpatialRelation] | None:
    """What comes before the first relation in a question, and the relation."""
    forms = {form: relation for relation, forms in words.relations.items() for form in forms}
    by_length = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    match = re.search(rf"the ([\w ]+?) (?:that is |you see )?({by_length}) ", question)
    return (match[1], forms[match[2]]) if match else None


# --- shape


def test_a_dialogue_has_two_to_six_turns_and_a_question_about_an_earlier_mask(written) -> None:
    lengths = set()
    for dialogue in of_type(written, "mrseg"):
        lengths.add(len(dialogue.turns))
        assert any(turn.refers_to for turn in dialogue.turns)
        assert not any(turn.points_at for turn in dialogue.turns)
    assert lengths == set(range(MIN_TURNS, MAX_TURNS + 1))


def test_answers_name_their_targets_and_all_targets_can_be_named(written) -> None:
    for _, regions, dialogue in written:
        assert dialogue.kind == ("referring" if "-attribute-" in dialogue.dialogue_id else "mrseg")
        for turn in dialogue.turns:
            assert turn.answer.count(TARGET_SLOT) == len(turn.targets) == len(set(turn.targets))
            assert all(regions[target].phrase for target in turn.targets)
        assert dialogue.focus in {regions[target].phrase for turn in dialogue.turns for target in turn.targets}


def test_references_go_back_to_turns_with_one_target_and_not_only_to_the_last(written) -> None:
    distances = set()
    for dialogue in of_type(written, "mrseg"):
        for index, turn in enumerate(dialogue.turns):
            for earlier in turn.refers_to:
                assert earlier < index
                assert len(dialogue.turns[earlier].targets) == 1
                distances.add(index - earlier)
    assert {1, 2, 3} <= distances


def test_no_question_is_asked_twice_in_a_dialogue(written) -> None:
    for _, _, dialogue in written:
        assert len({turn.question for turn in dialogue.turns}) == len(dialogue.turns)


def test_ids_are_unique_and_tell_the_type(written) -> None:
    ids = [dialogue.dialogue_id for _, _, dialogue in written]
    assert all(re.fullmatch(r"p-(mrseg|hard-other|hard-same|attribute)-\d+", name) for name in ids)
    for regions in ({id(r): r for _, r, _ in written}).values():
        own = [dialogue.dialogue_id for _, r, dialogue in written if r is regions]
        assert len(set(own)) == len(own)


def test_the_same_dice_give_the_same_dialogues_and_others_other_ones(scene_regions_with_phrases) -> None:
    regions = next(iter(scene_regions_with_phrases.values()))
    assert write(regions, count=3, pairs=1) == write(regions, count=3, pairs=1)
    assert write(regions, count=3, pairs=1) != write(regions, count=3, pairs=1, seed=1)


def test_nothing_is_written_where_nothing_is_wanted_or_seen(scene_regions_with_phrases) -> None:
    assert write(next(iter(scene_regions_with_phrases.values()))) == []
    assert write([], count=3, pairs=3) == []


# --- references


def test_a_positional_question_fits_its_target_alone(written) -> None:
    asked = set()
    for view, regions, turn, reference in referring_turns(written):
        found = asked_relation(turn.question, WORDS["train"])
        if found is None or "other" in turn.question or reference in turn.targets:
            continue
        noun, relation = found
        things = {thing.region_id: thing for thing in view.things}
        if turn.targets and regions[turn.targets[0]].parent_id == reference:
            continue  # "the handle of the mug to the left of the clock"
        rivals = [
            thing
            for thing in view.things
            if (noun == "object" and thing.whole is None)
            or noun in (thing.category, f"{thing.colour} {thing.category}")
        ]
        verdicts = {
            thing.region_id: clearly(view, thing, relation, things[reference])
            for thing in rivals
            if thing.region_id != reference
        }
        assert rivals, turn
        assert None not in verdicts.values(), turn
        assert tuple(name for name, stands in verdicts.items() if stands) == turn.targets, turn
        asked.add((relation, bool(turn.targets)))
    assert {relation for relation, _ in asked} >= set(SPATIAL_RELATIONS) - {"overlap"}
    assert any(not is_there for _, is_there in asked)


def test_a_hierarchical_question_is_answered_with_all_parts_of_that_name(written) -> None:
    checked = 0
    for _, regions, turn, reference in referring_turns(written):
        if turn.targets and regions[turn.targets[0]].parent_id == reference:
            name = regions[turn.targets[0]].category
            assert name in turn.question
            assert set(turn.targets) == {
                key for key, region in regions.items() if region.parent_id == reference and region.category == name
            }
            checked += 1
    assert checked > 50


def test_several_parts_of_one_name_are_asked_for_in_the_plural(box) -> None:
    car = [
        box("car", "car", (10, 10, 90, 90)),
        box("w1", "window", (15, 20, 35, 40), parent="car"),
        box("w2", "window", (60, 20, 85, 40), parent="car"),
    ]
    turns = [turn for seed in range(40) for d in write(with_phrases(car), count=2, seed=seed) for turn in d.turns]
    several = [turn for turn in turns if len(turn.targets) == 2]
    assert several
    assert all("windows" in turn.question for turn in several)
    assert not any(re.search(r"\bis\b|\bit\b[^s]", re.sub(r"of it\b", "", t.question)) for t in several)


def test_a_missing_part_is_one_that_the_class_never_has(written, parts) -> None:
    checked = 0
    for _, regions, turn, reference in referring_turns(written):
        denied = re.search(r"(?:has|have) no ([\w ]+)|no ([\w ]+) on the|any ([\w ]+) on the", turn.answer)
        if not turn.targets and denied and not asked_relation(turn.question, WORDS["train"]):
            name = next(group for group in denied.groups() if group)
            assert name in turn.question
            assert name not in parts[regions[reference].category]
            checked += 1
    assert checked > 5


def test_without_knowledge_of_parts_none_is_said_to_be_missing(scene_regions_with_phrases) -> None:
    for regions in scene_regions_with_phrases.values():
        for dialogue in write(regions, count=3, parts={}):
            assert not any(re.search(r" ha(s|ve) no ", turn.answer) for turn in dialogue.turns if turn.refers_to)


def test_what_is_said_to_be_absent_is_absent(written) -> None:
    checked = 0
    for view, _, dialogue in written:
        names = {name for t in view.things for name in (t.category, f"{t.colour} {t.category}".strip())}
        for turn in dialogue.turns:
            if not turn.targets and not turn.refers_to:
                noun = re.search(r"(?:no|any|No|has no) ((?:\w+ )?\w+?)(?: in this| here| is visible|\.)", turn.answer)
                assert noun, turn
                assert noun[1] not in names
                checked += 1
    assert checked > 20


def test_half_of_the_references_name_what_they_mean(written) -> None:
    named = [
        regions[reference].phrase in turn.question
        for _, regions, turn, reference in referring_turns(written)
        if turn.targets and regions[turn.targets[0]].parent_id == reference
    ]
    assert 0.35 < sum(named) / len(named) < 0.65


def test_half_of_the_positional_references_name_what_they_mean(written) -> None:
    words = WORDS["train"]
    named = [
        f"the {regions[reference].phrase}" in turn.question
        for _, regions, turn, reference in referring_turns(written)
        if asked_relation(turn.question, words) and reference not in turn.targets and "other" not in turn.question
    ]
    assert len(named) > 200
    assert 0.4 < sum(named) / len(named) < 0.6


@pytest.mark.parametrize("wording", WORDINGS)
def test_a_verb_keeps_its_particle_behind_a_pronoun(scene_regions_with_phrases, wording: Wording) -> None:
    texts = [
        turn.question
        for regions in list(scene_regions_with_phrases.values())[:20]
        for dialogue in write(regions, count=8, wording=wording)
        for turn in dialogue.turns
    ]
    assert not any(
        re.search(r"\b(?:pick|point|cut) out (?:it|them)\b|\bcolour in (?:it|them)\b", t, re.I) for t in texts
    )


def test_nobody_looks_for_a_mug_left_of_the_leftmost_mug(box) -> None:
    row = with_phrases([box(str(n), "mug", (25 * n, 40, 25 * n + 15, 60)) for n in range(4)])
    turns = [turn for seed in range(60) for d in write(row, count=3, seed=seed) for turn in d.turns if not turn.targets]
    assert not any("mug left of the leftmost mug" in turn.question for turn in turns)
    assert not any(re.search(r"no mug .*the leftmost mug", turn.answer) for turn in turns)


def test_a_part_of_what_was_shown_is_not_asked_for_without_a_reference(written) -> None:
    for _, regions, dialogue in written:
        shown: set[str] = set()
        for turn in dialogue.turns:
            if len(turn.targets) == 1 and not turn.refers_to:
                assert regions[turn.targets[0]].parent_id not in shown
            shown |= set(turn.targets) if len(turn.targets) == 1 else set()


# --- hard pairs


def two_mugs(box) -> list[Region]:
    return with_phrases(
        [
            box("red", "mug", (5, 50, 25, 80), colour="red"),
            box("blue", "mug", (60, 50, 80, 80), colour="blue"),
            box("clock", "clock", (40, 5, 60, 25), colour="green"),
        ]
    )


def test_a_pair_is_asked_about_both_ways_in_the_same_words(box) -> None:
    for seed in range(30):
        dialogues = write(two_mugs(box), pairs=2, seed=seed)
        hard = [d for d in dialogues if "-hard-" in d.dialogue_id]
        assert [d.dialogue_id for d in hard] == [f"p-hard-{name}-{n}" for name in ("other", "same") for n in (0, 1)]
        assert all(len(d.turns) == 1 for d in hard)
        first, second, third, fourth = (d.turns[0] for d in hard)
        assert {(first.points_at, first.targets), (second.points_at, second.targets)} == {
            (("red",), ("blue",)),
            (("blue",), ("red",)),
        }
        assert {third.points_at, fourth.points_at} == {("red",), ("blue",)}
        assert (third.points_at, fourth.points_at) == (third.targets, fourth.targets)
        assert first.question == second.question
        assert third.question == fourth.question


def test_the_words_of_a_hard_question_name_the_class_alone(written) -> None:
    hard = [(regions, d.turns[0]) for _, regions, d in written if "-hard-" in d.dialogue_id]
    assert len(hard) > 50
    for regions, turn in hard:
        (pointed,) = turn.points_at
        assert regions[pointed].category in turn.question
        assert regions[pointed].category == regions[turn.targets[0]].category
        tellings = {*COLOURS, "left", "right", "upper", "lower", "larger", "smaller", "leftmost", "rightmost", "saying"}
        assert not tellings & set(turn.question.lower().split())


def test_pairs_in_two_turns_end_with_the_other_one(box) -> None:
    for seed in range(10):
        pairs = [d for d in write(two_mugs(box), pairs=1, seed=seed) if "-mrseg-" in d.dialogue_id]
        assert len(pairs) == 2
        named, free = pairs
        for dialogue in pairs:
            first, second = dialogue.turns
            assert {*first.targets, *second.targets} == {"red", "blue"}
            assert second.refers_to == (0,)
        assert f"{named.turns[0].targets[0]} mug" in named.turns[0].question
        assert not {"red", "blue"} & set(free.turns[0].question.split())


def test_the_other_one_is_asked_for_only_where_there_are_two(box) -> None:
    three = [*two_mugs(box), box("white", "mug", (84, 50, 99, 80), colour="white")]
    dialogues = [d for seed in range(30) for d in write(with_phrases(three), count=3, pairs=2, seed=seed)]
    assert any("-hard-same-" in d.dialogue_id for d in dialogues)
    assert not any("-hard-other-" in d.dialogue_id for d in dialogues)
    assert not any(re.search(r"the other|There is another", t.question) for d in dialogues for t in d.turns)


@pytest.mark.parametrize("third", ["sports mug", "group of mugs"])
def test_a_third_thing_of_nearly_the_same_name_spoils_the_pair(box, third: str) -> None:
    regions = with_phrases([*two_mugs(box), box("c", third, (84, 50, 99, 80))])
    assert not any("-hard-other-" in d.dialogue_id for d in write(regions, pairs=2))


@pytest.mark.parametrize("category", ["scissors", "grass"])
def test_what_is_not_counted_is_no_pair(box, category: str) -> None:
    regions = with_phrases([box("a", category, (5, 5, 30, 40)), box("b", category, (60, 50, 99, 90))])
    assert not any("-hard-" in d.dialogue_id for d in write(regions, pairs=2))
