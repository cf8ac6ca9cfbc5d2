"""The written recipe as a whole: files, counts, order, flat memory, and a model that answers nonsense."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment, PackageLoader, StrictUndefined

from miras.dialogue.records import TARGET_SLOT, Dialogue, Picture, Region
from miras.errors import MirasError
from miras.files import read_records
from miras.generate import wording
from miras.generate.elements import PictureElements
from miras.generate.tree import MAX_CHILDREN, ReasoningTree
from miras.generate.written import prompts
from miras.generate.written.records import PictureQuestions, RawAnswer, SilentPicture, UnansweredRequest
from miras.generate.written.writing import TABLES, Counts
from miras.llm.records import Outcome, Prompt
from tests.unit.generate.written.conftest import ScriptedModel, Texts, assert_adds_up, picture_of

Write = Callable[..., Counts]
STEPS = ("prist/elements", "prist/questions", "prist/tree", "prist/dialogue")


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_three_scenes_become_dialogues_with_everything_that_led_to_them(
    write: Write, texts: Texts, tmp_path: Path
) -> None:
    counts = write(ScriptedModel(texts))
    out = tmp_path / "out"
    dialogues = list(read_records(out / "dialogues.jsonl", Dialogue))
    assert counts == Counts(
        pictures=3,
        with_dialogues=3,
        silent={},
        unanswered={},
        dialogues=8,
        unanswered_requests={},
        new_regions=1,
        answers=17,
        answers_from_cache=0,
        repairs=0,
    )
    assert {path.stem for path in out.iterdir()} == set(TABLES)
    elements = list(read_records(out / "elements.jsonl", PictureElements))
    assert [len(record.elements) for record in elements] == [7, 7, 5]
    questions = list(read_records(out / "questions.jsonl", PictureQuestions))
    assert [sum(question.is_kept for question in record.questions) for record in questions] == [3, 3, 2]
    assert len(list(read_records(out / "trees.jsonl", ReasoningTree))) == 3
    answers = list(read_records(out / "answers.jsonl", RawAnswer))
    assert [answer.raw for answer in answers] == [texts[answer.prompt, answer.key] for answer in answers]
    assert len(dialogues) == 8


def test_every_dialogue_ends_with_a_request_that_our_answer_fulfils(write: Write, texts: Texts, tmp_path: Path) -> None:
    write(ScriptedModel(texts))
    elements = {
        element.region_id: element
        for record in read_records(tmp_path / "out" / "elements.jsonl", PictureElements)
        for element in record.elements
    }
    for dialogue in read_records(tmp_path / "out" / "dialogues.jsonl", Dialogue):
        *talk, last = dialogue.turns
        assert 3 <= len(dialogue.turns) <= 7
        assert dialogue.kind == "prist"
        assert last.answer in wording.REQUEST_ANSWERS
        assert dialogue.focus == elements[last.targets[0]].caption
        assert not any(turn.targets or TARGET_SLOT in turn.answer + turn.question for turn in talk)


def test_a_target_that_nobody_outlined_becomes_a_region_without_mask(
    write: Write, texts: Texts, tmp_path: Path
) -> None:
    write(ScriptedModel(texts))
    (region,) = read_records(tmp_path / "out" / "regions.jsonl", Region)
    assert region == Region(
        region_id="scene-21-000000-focus6",
        image_id="scene-21-000000",
        phrase="grey hill on the horizon",
        mask=None,
        category="hill",
    )
    dialogues = list(read_records(tmp_path / "out" / "dialogues.jsonl", Dialogue))
    assert [d.dialogue_id for d in dialogues if region.region_id in d.turns[-1].targets] == ["scene-21-000000-prist-2"]


def test_trees_mark_shared_nodes_and_keep_their_bounds(write: Write, texts: Texts, tmp_path: Path) -> None:
    write(ScriptedModel(texts))
    for tree in read_records(tmp_path / "out" / "trees.jsonl", ReasoningTree):
        children = Counter(node.parent for node in tree.nodes)
        assert max(children.values()) <= MAX_CHILDREN
        for node in tree.nodes:
            assert node.paths == tuple(path.path for path in tree.paths if node.node in path.nodes)
            assert node.overlap == (len(node.paths) > 1)
            assert node.candidates == tuple(tree.paths[path].target for path in node.paths)
        for path in tree.paths:
            assert path.nodes[0] == 0
            assert all(tree.nodes[child].parent == parent for parent, child in pairwise(path.nodes))
    levels = [[node.level for node in tree.nodes] for tree in read_records(tmp_path / "out/trees.jsonl", ReasoningTree)]
    assert levels[0] == ["scene", "group", "group", "object", "object", "object"]
    assert levels[2] == ["scene", "group", "object", "object", "part"]


@pytest.mark.parametrize(("window", "is_cached"), [(1, False), (4, True), (1000, False)])
def test_the_files_do_not_depend_on_the_cache_or_on_how_far_the_model_reads_ahead(
    write: Write, texts: Texts, tmp_path: Path, window: int, is_cached: bool
) -> None:
    del texts["prist/dialogue", "scene-21-000001-prist-1"]
    texts["prist/tree", "scene-21-000000"] = "{"
    write(ScriptedModel(texts), name="first")
    model = ScriptedModel(texts, window=window)
    model.is_cached = is_cached
    counts = write(model, name="second")
    assert files_in(tmp_path / "first") == files_in(tmp_path / "second")
    assert counts.answers_from_cache == (counts.answers if is_cached else 0)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("garbage", "cause"),
    [
        ("Sorry, here is a poem instead.", "malformed"),
        ('{"nodes": [{"no', "malformed"),
        ('{"answer": 1}', "off_schema"),
    ],
)
def test_garbage_ends_as_a_counted_request_with_its_text(
    write: Write, texts: Texts, tmp_path: Path, step: str, garbage: str, cause: str
) -> None:
    keys = [key for name, key in texts if name == step and key.startswith("scene-21-000001")]
    counts = write(ScriptedModel(texts | {(step, key): garbage for key in keys}))
    assert_adds_up(counts)
    name = step.removeprefix("prist/")
    assert counts.with_dialogues == 2
    assert counts.unanswered == {f"{name}: {cause}": 1}
    assert counts.unanswered_requests == {f"{name}: {cause}": len(keys)}
    unanswered = list(read_records(tmp_path / "out" / "unanswered.jsonl", UnansweredRequest))
    assert [request.key for request in unanswered] == keys
    assert {request.image_id for request in unanswered} == {"scene-21-000001"}
    assert {request.raw for request in unanswered} == {(garbage,)}
    assert all(cause in request.reason and step in request.where for request in unanswered)


def test_a_picture_with_one_dialogue_left_counts_as_one_with_dialogues(
    write: Write, texts: Texts, tmp_path: Path
) -> None:
    for path in (0, 2):
        texts["prist/dialogue", f"scene-21-000001-prist-{path}"] = "no"
    counts = write(ScriptedModel(texts))
    assert_adds_up(counts)
    assert (counts.with_dialogues, counts.dialogues) == (3, 6)
    assert counts.unanswered == {}
    assert counts.unanswered_requests == {"dialogue: malformed": 2}
    ids = [d.dialogue_id for d in read_records(tmp_path / "out" / "dialogues.jsonl", Dialogue)]
    assert [name for name in ids if "000001" in name] == ["scene-21-000001-prist-1"]


def test_pictures_with_nothing_to_say_are_silent_with_their_reason(write: Write, texts: Texts, tmp_path: Path) -> None:
    elements = json.loads(texts["prist/elements", "scene-21-000000"])
    texts["prist/elements", "scene-21-000000"] = json.dumps({"elements": elements["elements"][:1]})
    questions = json.loads(texts["prist/questions", "scene-21-000002"])
    for question in questions["questions"]:
        question["score"] = 1
    texts["prist/questions", "scene-21-000002"] = json.dumps(questions)
    counts = write(ScriptedModel(texts))
    assert_adds_up(counts)
    reasons = ["fewer than two elements are visible", "no question takes any reasoning"]
    assert counts.silent == dict.fromkeys(reasons, 1)
    silent = list(read_records(tmp_path / "out" / "silent.jsonl", SilentPicture))
    assert [(s.where, s.reason) for s in silent] == list(
        zip(["scene-21-000000", "scene-21-000002"], reasons, strict=True)
    )


def test_no_dialogues_wanted_asks_nothing(write: Write) -> None:
    model = ScriptedModel({})
    counts = write(model, dialogues_per_picture=0)
    assert model.prompts == []
    assert counts.silent == {"generate.dialogues_per_picture is 0": 3}
    assert_adds_up(counts)


def test_no_picture_gives_empty_files(write: Write, tmp_path: Path) -> None:
    assert write(ScriptedModel({}), pictures=[]).pictures == 0
    assert set(files_in(tmp_path / "out").values()) == {b""}


def test_text_that_is_no_unicode_can_be_stored(write: Write, texts: Texts, tmp_path: Path) -> None:
    texts["prist/elements", "scene-21-000000"] = 'a lone surrogate: "\ud800"'
    write(ScriptedModel(texts))
    (request,) = read_records(tmp_path / "out" / "unanswered.jsonl", UnansweredRequest)
    assert request.raw == ('a lone surrogate: "\\ud800"',)


class BreakingModel(ScriptedModel):
    """Stops with an error after some answers, as a spent budget does."""

    def ask(self, prompts: Iterator[Prompt]) -> Iterator[Outcome]:
        for number, answer in enumerate(super().ask(prompts)):
            if number == 6:
                raise MirasError("the budget is spent")
            yield answer


def test_an_error_of_the_model_stops_the_run_and_the_next_run_is_whole(
    write: Write, texts: Texts, tmp_path: Path
) -> None:
    texts["prist/elements", "scene-21-000001"] = "no elements"
    with pytest.raises(MirasError, match="budget"):
        write(BreakingModel(texts, window=2), name="broken")
    assert (tmp_path / "broken" / "elements.jsonl").read_bytes() == b"", "the first picture is still on its way"
    (refused,) = read_records(tmp_path / "broken" / "unanswered.jsonl", UnansweredRequest)
    assert (refused.image_id, refused.raw) == ("scene-21-000001", ("no elements",))
    write(ScriptedModel(texts), name="again")
    write(ScriptedModel(texts), name="whole")
    assert files_in(tmp_path / "again") == files_in(tmp_path / "whole")


# --- streaming

GENERIC = {
    "prist/elements": {
        "elements": [
            {
                "name": name,
                "phrase": f"{name} on the {side}",
                "description": f"The {name} is on the {side} and it is small.",
                "attributes": [],
                "position": f"on the {side}",
                "region": None,
            }
            for name, side in (("clock", "wall"), ("lamp", "floor"))
        ]
    },
    "prist/questions": {
        "questions": [
            {"element": "e1", "question": "What tells us how late it is?", "score": 3},
            {"element": "e2", "question": "What would help us to see in the dark?", "score": 2},
        ]
    },
    "prist/tree": {
        "nodes": [
            {"node": 1, "parent": 0, "question": "What is there in this room?", "answer": "There are two things."},
            {"node": 2, "parent": 1, "question": "Which one shows the time?", "answer": "It is the clock on the wall."},
            {"node": 3, "parent": 1, "question": "Which one gives light?", "answer": "It is the lamp on the floor."},
        ],
        "paths": [{"element": "e1", "last_node": 2}, {"element": "e2", "last_node": 3}],
    },
}


def generic(prompt: Prompt) -> str:
    """An answer that fits any picture without regions."""
    if prompt.name != "prist/dialogue":
        return json.dumps(GENERIC[prompt.name])
    thing = "clock on the wall" if prompt.key.endswith("-0") else "lamp on the floor"
    return json.dumps(
        {
            "turns": [
                {"step": 1, "question": "What is there in this room?", "answer": "There are two small things in it."},
                {"step": 2, "question": "Which of them do I need now?", "answer": f"You need the {thing}."},
            ],
            "request": "Please mark it in the picture.",
        }
    )


def test_few_pictures_are_held_however_many_there_are(write: Write, tmp_path: Path) -> None:
    model = ScriptedModel(generic, window=8)
    ahead = []
    dialogues = tmp_path / "out" / "dialogues.jsonl"

    def pictures() -> Iterator[tuple[Picture, tuple[Region, ...]]]:
        for number in range(400):
            answered = Counter(prompt.name for prompt in model.prompts)["prist/dialogue"] // 2
            ahead.append(number - answered)
            yield picture_of(f"p{number:04d}"), ()

    counts = write(model, pictures=pictures())
    assert counts.dialogues == 800
    assert max(ahead) <= 2 * 8
    assert [d.image_id for d in read_records(dialogues, Dialogue)] == [f"p{i:04d}" for i in range(400) for _ in "ab"]


def test_a_model_that_reads_everything_before_it_answers_comes_to_the_same_end(write: Write, tmp_path: Path) -> None:
    pictures = [(picture_of(f"p{number}"), ()) for number in range(50)]
    write(ScriptedModel(generic, window=3), name="stream", pictures=pictures)
    batch = ScriptedModel(generic, window=10**6)
    write(batch, name="batch", pictures=pictures)
    assert files_in(tmp_path / "stream") == files_in(tmp_path / "batch")
    assert list(dict.fromkeys(prompt.name for prompt in batch.prompts)) == list(STEPS), "one round of prompts per step"


# --- prompts


def asked(model: ScriptedModel) -> dict[tuple[str, str], tuple[str, str]]:
    return {(prompt.name, prompt.key): (prompt.system, prompt.text) for prompt in model.prompts}


def test_an_edit_of_the_last_prompt_leaves_the_earlier_ones_as_they_are(
    write: Write, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = ScriptedModel(texts), ScriptedModel(texts, window=2)
    write(before, name="before")
    loader = PackageLoader("miras.generate.written", "prompts")
    sources = {name: loader.get_source(Environment(), name)[0] for name in loader.list_templates()}
    sources["dialogue.md.j2"] = sources["dialogue.md.j2"].replace("Rules", "What to keep in mind")
    edited = prompts._environment().overlay(loader=DictLoader(sources), undefined=StrictUndefined)
    monkeypatch.setattr(prompts, "_environment", lambda: edited)
    write(after, name="after")
    first, second = asked(before), asked(after)
    assert first.keys() == second.keys()
    changed = {name for name, key in first if first[name, key] != second[name, key]}
    assert changed == {"prist/dialogue"}


def test_prompts_show_the_regions_and_the_way_so_far(write: Write, texts: Texts, scenes, pictures_folder: Path) -> None:
    model = ScriptedModel(texts)
    write(model)
    by_name: dict[str, list[Prompt]] = {}
    for prompt in model.prompts:
        by_name.setdefault(prompt.name, []).append(prompt)
        assert prompt.picture is not None
        assert prompt.picture.is_file()
        assert prompt.system.strip()
        assert "{{" not in prompt.text + prompt.system
        assert "{%" not in prompt.text + prompt.system
    text = by_name["prist/elements"][0].text
    assert '- r9: board of the sign saying "TEA" (board, part of r8); x 47 to 82, y 33 to 50' in text
    assert all(region.phrase in text for region in scenes[0][1] if region.phrase)
    assert "for each of e1, e2, e7" in by_name["prist/questions"][0].text
    assert "- e6: wheels of the car (wheels, part of e5)" in by_name["prist/questions"][0].text
    assert "overlook the whole plain" in by_name["prist/tree"][0].text
    dialogue = next(prompt for prompt in by_name["prist/dialogue"] if prompt.key == "scene-21-000002-prist-1")
    assert "The answer is e4: shade of the pink lamp." in dialogue.text
    assert "3. Which part of it covers the bulb?" in dialogue.text
    assert "3 to 6 turns" in dialogue.text
