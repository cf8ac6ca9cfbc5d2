"""One-turn dialogues: targets are all there is, what is asked for as absent is absent, kinds are mixed."""

import re
from collections import Counter

from miras.dialogue.records import TARGET_SLOT, Dialogue, Region
from miras.generate import wording_queries
from miras.generate.annotated import Generated
from tests.unit.generate.conftest import CONFIG

Pictures = dict[str, list[Region]]
Written = dict[str, Generated]


def queries(generated: Written, kind: str) -> list[Dialogue]:
    return [d for written in generated.values() for d in written.dialogues if d.kind == kind]


def names(region: Region) -> set[str]:
    return {region.category, f"{region.attributes.get('colour', '')} {region.category}".strip()}


def test_each_answer_has_one_slot_per_target(generated: Written) -> None:
    for written in generated.values():
        for dialogue in written.dialogues:
            for turn in dialogue.turns:
                assert turn.answer.count(TARGET_SLOT) == len(turn.targets)
                assert len(set(turn.targets)) == len(turn.targets)


def test_a_class_query_points_at_every_instance(generated: Written, scene_regions_with_phrases: Pictures) -> None:
    several = 0
    for dialogue in queries(generated, "semantic"):
        regions = scene_regions_with_phrases[dialogue.image_id]
        targets = set(dialogue.turns[0].targets)
        if not targets:
            continue
        several += len(targets) > 1
        by_id = {region.region_id: region for region in regions}
        whole_and_part = {
            f"{by_id[region.parent_id].category} {region.category}": set() for region in regions if region.parent_id
        }
        for region in regions:
            if region.parent_id:
                whole_and_part[f"{by_id[region.parent_id].category} {region.category}"].add(region.region_id)
        expected = {r.region_id for r in regions if dialogue.focus in names(r) and not r.parent_id}
        assert targets == (expected or whole_and_part[dialogue.focus])
    assert several > 0


def test_what_is_said_to_be_absent_is_absent(generated: Written, scene_regions_with_phrases: Pictures) -> None:
    absent = [d for d in queries(generated, "semantic") if not d.turns[0].targets]
    assert 0.1 < len(absent) / len(queries(generated, "semantic")) < 0.4
    for dialogue in absent:
        regions = scene_regions_with_phrases[dialogue.image_id]
        assert not any(dialogue.focus in names(region) for region in regions)
        assert dialogue.focus in dialogue.turns[0].answer


def test_absent_and_present_classes_are_asked_for_in_the_same_words(generated: Written) -> None:
    """Else the wording of the question would give the answer away."""
    frames: dict[bool, set[str]] = {True: set(), False: set()}
    for dialogue in queries(generated, "semantic"):
        frames[bool(dialogue.turns[0].targets)].add(dialogue.turns[0].question.split()[0])
    assert len(frames[True] & frames[False]) >= 5


def test_a_referring_query_names_its_region_in_the_slot(
    generated: Written, scene_regions_with_phrases: Pictures
) -> None:
    other_words = 0
    for dialogue in queries(generated, "referring"):
        phrases = {r.region_id: r.phrase for r in scene_regions_with_phrases[dialogue.image_id]}
        (target,) = dialogue.turns[0].targets
        assert phrases[target] == dialogue.focus
        other_words += dialogue.focus not in dialogue.turns[0].question
    assert other_words > 0


def test_yes_and_no_are_about_as_frequent(generated: Written) -> None:
    answers = Counter(
        match.group() for d in queries(generated, "vqa") if (match := re.match("Yes|No", d.turns[0].answer))
    )
    assert answers.total() > 30
    assert 0.3 < answers["Yes"] / answers.total() < 0.7


def test_counts_are_right(generated: Written, scene_regions_with_phrases: Pictures) -> None:
    number = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    checked = 0
    for dialogue in queries(generated, "vqa"):
        match = re.match(r"How many (\w+) ", dialogue.turns[0].question)
        if match:
            said = [number[w] for w in re.findall(r"[a-z]+", dialogue.turns[0].answer.lower()) if w in number]
            regions = scene_regions_with_phrases[dialogue.image_id]
            there = sum(r.category == match[1] or r.category + "s" == match[1] for r in regions)
            assert said == [there], dialogue
            checked += 1
    assert checked > 0


def test_kinds_are_mixed_and_questions_differ_within_a_picture(generated: Written) -> None:
    kinds: Counter[str] = Counter()
    for written in generated.values():
        own = [d for d in written.dialogues if d.kind != "prist"]
        assert len(own) == CONFIG.queries_per_picture
        assert len({d.turns[0].question for d in own}) == len(own)
        kinds.update(d.kind for d in own)
    total = kinds.total()
    for kind, share in {"semantic": 0.3, "referring": 0.3, "vqa": 0.3, "caption": 0.1}.items():
        assert abs(kinds[kind] / total - share) < 0.08


def test_dialogue_ids_are_unique(generated: Written) -> None:
    ids = [dialogue.dialogue_id for written in generated.values() for dialogue in written.dialogues]
    assert len(set(ids)) == len(ids)


def test_every_kind_of_question_has_several_wordings() -> None:
    for name in vars(wording_queries):
        if name.isupper() and "QUESTIONS" in name:
            assert len(getattr(wording_queries, name)) >= 8, name
