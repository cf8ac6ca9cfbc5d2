"""PRIST dialogues: questions alone lead to the target, the request says nothing, the tree keeps its bounds."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from miras.dialogue import masks
from miras.dialogue.records import TARGET_SLOT, Dialogue, Region
from miras.dialogue.rendering import MARKERS
from miras.generate import wording
from miras.generate.annotated import Generated
from miras.generate.dialogues import prist_dialogues
from miras.generate.knowledge import PART_USES, USES
from miras.generate.language import plural
from miras.generate.speech import MAX_QUESTION_WORDS, MIN_QUESTION_WORDS
from miras.generate.view import view_of
from miras.sources.scenes import COLOURS, PARTS
from tests.unit.generate.conftest import CONFIG, with_phrases

Pictures = dict[str, list[Region]]
Written = dict[str, Generated]


def prist(written: Generated) -> list[Dialogue]:
    return [dialogue for dialogue in written.dialogues if dialogue.kind == "prist"]


def slow_follow(regions: list[Region], clues: list[dict[str, str]]) -> list[Region]:
    """The clues followed on decoded masks, written apart from the code under test."""
    pixels = {region.region_id: np.argwhere(masks.decode(region.mask)) for region in regions if region.mask}
    classes = {use.name: use.classes for use in USES}

    def middle(region: Region, axis: int) -> float:
        values = pixels[region.region_id][:, axis]
        return float(values.min() + values.max()) / 2

    orders = {
        "left": lambda region: middle(region, 1),
        "right": lambda region: -middle(region, 1),
        "top": lambda region: middle(region, 0),
        "bottom": lambda region: -middle(region, 0),
        "large": lambda region: -len(pixels[region.region_id]),
        "small": lambda region: len(pixels[region.region_id]),
    }
    axes = {"left": (1, 1), "right": (1, -1), "above": (0, 1), "below": (0, -1)}
    left = [region for region in regions if region.parent_id is None]
    for clue in clues:
        kind, value = clue["kind"], clue["value"]
        if kind == "category":
            left = [region for region in left if region.category == value]
        elif kind == "use":
            left = [region for region in left if region.category in classes[value]]
        elif kind in ("colour", "text"):
            left = [region for region in left if region.attributes.get(kind) == value]
        elif kind == "extreme":
            left = [min(left, key=orders[value])]
        elif kind == "relation":
            axis, sign = axes[value]
            anchor = next(region for region in regions if region.region_id == clue["anchor"])
            left = [r for r in left if sign * (middle(anchor, axis) - middle(r, axis)) > 1]
        else:
            wholes = {region.region_id for region in left}
            left = [r for r in regions if r.parent_id in wholes and r.category == value]
    return left


def words_of(clue: dict[str, str], whole: str) -> list[str]:
    """What a question may say for a clue, any of them."""
    value = clue["value"]
    match clue["kind"]:
        case "category":
            return [value, plural(value)]
        case "use":
            return list(next(use.clauses for use in USES if use.name == value))
        case "extreme":
            return [*wording.EXTREME_OF_TWO[value], *wording.EXTREME_OF_MANY[value]]
        case "relation":
            return list(wording.RELATIONS_IN_WORDS[value])
        case "part":
            return [value, *PART_USES.get((whole, value), ())]
        case _:
            return [value]


def test_the_questions_alone_select_exactly_the_target(
    generated: Written, scene_regions_with_phrases: Pictures
) -> None:
    kinds: Counter[str] = Counter()
    for image_id, written in generated.items():
        regions = scene_regions_with_phrases[image_id]
        by_id = {region.region_id: region for region in regions}
        dialogues = {dialogue.dialogue_id: dialogue for dialogue in prist(written)}
        for path in written.tree.paths:
            clues = [written.tree.nodes[node].clue for node in path.nodes[1:]]
            assert [region.region_id for region in slow_follow(regions, clues)] == [path.target]
            parent_id = by_id[path.target].parent_id
            whole = by_id[parent_id].category if parent_id else ""
            questions = iter(turn.question for turn in dialogues[path.dialogue_id].turns[:-1])
            for clue in clues:  # each clue is asserted by a question, in this order
                assert any(words in question for question in questions for words in words_of(clue, whole))
                kinds[clue["kind"]] += 1
    assert {"category", "use", "colour", "extreme", "part"} <= set(kinds)


def test_a_dialogue_ends_with_one_request_for_its_target(
    generated: Written, scene_regions_with_phrases: Pictures
) -> None:
    for image_id, written in generated.items():
        phrases = {r.region_id: r.phrase for r in scene_regions_with_phrases[image_id]}
        for dialogue in prist(written):
            *talk, last = dialogue.turns
            assert len(last.targets) == 1
            assert phrases[last.targets[0]] == dialogue.focus
            assert last.question in wording.REQUESTS
            assert last.answer.count(TARGET_SLOT) == 1
            assert dialogue.focus in talk[-1].answer, "the last answer before the request names the target"
            assert not any(turn.targets or TARGET_SLOT in turn.answer for turn in talk)


def test_the_request_says_nothing_about_its_target() -> None:
    telling = {*COLOURS, *PARTS, *(part for parts in PARTS.values() for part in parts)}
    for request in wording.REQUESTS:
        assert not telling & set(re.findall(r"[a-z]+", request.lower()))
    assert len(wording.REQUESTS) >= 12
    assert len(wording.REQUEST_ANSWERS) >= 12


def test_turns_and_question_lengths_stay_in_bounds(generated: Written) -> None:
    for written in generated.values():
        for dialogue in prist(written):
            assert CONFIG.min_turns <= len(dialogue.turns) <= CONFIG.max_turns
            for turn in dialogue.turns:
                assert MIN_QUESTION_WORDS <= len(turn.question.split()) <= MAX_QUESTION_WORDS, turn.question
                assert turn.answer.strip()
            assert all(turn.question.endswith("?") for turn in dialogue.turns[:-1])


def test_no_marker_and_no_open_slot_is_left_in_any_text(generated: Written) -> None:
    for written in generated.values():
        for dialogue in written.dialogues:
            for turn in dialogue.turns:
                assert "{" not in turn.question
                assert "{" not in turn.answer.replace(TARGET_SLOT, "")
                assert not any(marker in turn.question + turn.answer for marker in MARKERS)


def test_no_node_has_more_than_three_children_and_paths_run_from_the_scene_to_the_target(
    generated: Written,
) -> None:
    shared = 0
    for written in generated.values():
        nodes = written.tree.nodes
        children = Counter(node.parent for node in nodes if node.parent is not None)
        assert not children or max(children.values()) <= 3
        for path in written.tree.paths:
            assert nodes[path.nodes[0]].level == "scene"
            assert nodes[path.nodes[-1]].candidates == (path.target,)
            for upper, lower in zip(path.nodes, path.nodes[1:], strict=False):
                assert nodes[lower].parent == upper
                assert path.path in nodes[lower].paths
        shared += sum(node.overlap for node in nodes[1:])
        assert len({path.target for path in written.tree.paths}) == len(written.tree.paths)
    assert shared > 0, "some paths must share a node below the scene"


def test_many_dialogues_do_not_widen_the_tree(scene_regions_with_phrases: Pictures) -> None:
    config = CONFIG.model_copy(update={"dialogues_per_picture": 12})
    fullest = 0
    for image_id, regions in scene_regions_with_phrases.items():
        _, tree = prist_dialogues(view_of(regions), image_id, config, random.Random(2))
        children = Counter(node.parent for node in tree.nodes if node.parent is not None)
        fullest = max(fullest, *children.values())
    assert fullest == 3


def test_nearly_every_picture_gets_its_dialogues_and_many_lead_to_parts(generated: Written) -> None:
    dialogues = [dialogue for written in generated.values() for dialogue in prist(written)]
    assert len(dialogues) > 0.95 * CONFIG.dialogues_per_picture * len(generated)
    assert sum(" of the " in d.focus or " on the " in d.focus for d in dialogues) > 0.4 * len(dialogues)


def test_wording_varies(generated: Written) -> None:
    questions = [t.question for w in generated.values() for d in prist(w) for t in d.turns[:-1]]
    assert len(set(questions)) > 0.7 * len(questions)


@pytest.mark.parametrize(("least", "most"), [(2, 2), (3, 3), (5, 5), (5, 12)])
def test_any_bounds_on_turns_are_kept(scene_regions_with_phrases: Pictures, least: int, most: int) -> None:
    config = CONFIG.model_copy(update={"min_turns": least, "max_turns": most})
    made = 0
    for image_id, regions in list(scene_regions_with_phrases.items())[:20]:
        dialogues, _ = prist_dialogues(view_of(regions), image_id, config, random.Random(1))
        made += len(dialogues)
        assert all(least <= len(dialogue.turns) <= most for dialogue in dialogues)
    assert made


def test_flat_regions_with_class_names_only_get_dialogues_too(box) -> None:
    regions = [
        box("1", "front_left_light", (60, 40, 80, 50)),
        box("2", "front_right_light", (10, 40, 30, 50)),
        box("3", "hood", (10, 10, 80, 35)),
        box("4", "wheel", (10, 60, 30, 80)),
        box("5", "wheel", (70, 60, 90, 80)),
    ]
    config = CONFIG.model_copy(update={"dialogues_per_picture": 5, "min_turns": 5, "max_turns": 5})
    dialogues, _ = prist_dialogues(view_of(with_phrases(regions)), "p", config, random.Random(0))
    assert len(dialogues) >= 4
    assert not any("_" in turn.question + turn.answer for d in dialogues for turn in d.turns)
    assert {len(dialogue.turns) for dialogue in dialogues} == {5}


def test_regions_without_a_phrase_are_no_targets(box) -> None:
    regions = [box("a", "mug", (0, 0, 40, 40)), box("b", "mug", (1, 0, 41, 40))]
    dialogues, tree = prist_dialogues(view_of(regions), "p", CONFIG, random.Random(0))
    assert dialogues == []
    assert tree.paths == ()


def test_a_bare_class_name_shared_by_several_regions_is_no_target(box) -> None:
    """Readers call a region that words cannot single out by its class."""
    regions = [
        box("a", "mug", (0, 0, 40, 40)).model_copy(update={"phrase": "left mug"}),
        box("b", "mug", (50, 0, 90, 40)).model_copy(update={"phrase": "mug"}),
        box("c", "clock", (50, 60, 90, 90)).model_copy(update={"phrase": "clock"}),
    ]
    view = view_of(regions)
    assert [thing.phrase for thing in view.things] == ["left mug", "", "clock"]
    dialogues, _ = prist_dialogues(view, "p", CONFIG, random.Random(0))
    assert {dialogue.focus for dialogue in dialogues} <= {"left mug", "clock"}


def test_targets_below_the_smallest_mask_of_prist_are_not_chosen(box) -> None:
    regions = [box("a", "mug", (0, 0, 1, 1)).model_copy(update={"phrase": "mug"})]
    dialogues, _ = prist_dialogues(view_of(regions), "p", CONFIG, random.Random(0))
    assert dialogues == []
