"""The Python way to talk: ask, refer, undo, branch, save, load, many at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miras.errors import DataError
from miras.model.weights import Backbones
from miras.open_dialogue import SAVED_SUFFIX, Answer, Target
from miras.pretrained import Miras
from tests.unit.model.tiny_network import tiny_mini, write_backbones
from tests.unit.test_export import QUESTIONS, export, picture, settings, train


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    return write_backbones(tmp_path_factory.mktemp("backbones"), tiny_mini())


@pytest.fixture(scope="module")
def model(backbones: Backbones, tmp_path_factory: pytest.TempPathFactory) -> Miras:
    """Not trained, but it marks something in nearly every answer."""
    folder = tmp_path_factory.mktemp("model")
    train(backbones, folder / "stage2", max_tokens=4096, **settings("miras-memory"))
    written = export(weights=folder / "stage2", backbones=backbones.folder, out=folder / "exported")
    return Miras.from_pretrained(written.folder)


def same(found: list[Answer], expected: list[Answer]) -> bool:
    return [(a.question, a.text, [t.phrase for t in a.targets]) for a in found] == [
        (a.question, a.text, [t.phrase for t in a.targets]) for a in expected
    ] and all(
        np.array_equal(one.mask, other.mask)
        for a, b in zip(found, expected, strict=True)
        for one, other in zip(a.targets, b.targets, strict=True)
    )


def test_an_answer_has_text_masks_boxes_scores_and_time(model: Miras) -> None:
    talk = model.dialogue(picture())
    texts: list[str] = []
    answer = talk.ask(QUESTIONS[0], on_text=texts.append)
    assert (texts or [""])[-1] == answer.text
    assert "[" not in answer.text
    assert answer.targets
    assert answer.mask is not None
    assert answer.mask.shape == (30, 50)
    assert answer.seconds > 0
    for target in answer.targets:
        rows, columns = np.nonzero(target.mask)
        if len(rows):
            assert target.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert 0.5 < target.score <= 1
    assert talk.answers == [answer]


def test_ask_and_a_dialogue_say_the_same(model: Miras) -> None:
    responses = model.ask(picture(), QUESTIONS, refers_to=[(), (0,)])
    talk = model.dialogue(picture())
    talk.ask(QUESTIONS[0])
    answer = talk.refer(-1).ask(QUESTIONS[1])
    assert [group.phrase for group in responses[1].groups] == [target.phrase for target in answer.targets]
    without = model.dialogue(picture())
    without.ask(QUESTIONS[0])
    assert same(without.answers, talk.answers[:1])


def test_a_reference_counts_once(model: Miras) -> None:
    talk = model.dialogue(picture())
    talk.ask(QUESTIONS[0])
    talk.refer(0).ask(QUESTIONS[1])
    talk.ask(QUESTIONS[1])
    assert [len(said.masks) > 0 for said in talk.state.said] == [False, True, False]


def test_undo_branch_save_and_load_go_on_alike(model: Miras, tmp_path: Path) -> None:
    talk = model.dialogue(picture())
    talk.ask(QUESTIONS[0])
    branch = talk.branch()
    saved = talk.save(tmp_path / "talk")
    assert saved.name == f"talk{SAVED_SUFFIX}"
    talk.ask("and something else entirely?")
    talk.undo()
    loaded = model.load_dialogue(saved)
    assert loaded.picture.tobytes() == talk.picture.tobytes()
    assert same(loaded.answers, talk.answers)
    for each in (talk, branch, loaded):
        each.refer(0).ask(QUESTIONS[1])
    assert same(talk.answers, branch.answers)
    assert same(talk.answers, loaded.answers)


def test_a_corrected_answer_is_what_the_next_turn_builds_on(model: Miras, tmp_path: Path) -> None:
    mask = np.zeros((30, 50), dtype=bool)
    mask[3:9, 4:20] = True
    right = Target("the mug", mask, 1.0)
    talk = model.dialogue(picture())
    talk.ask(QUESTIONS[0])
    talk.ask(QUESTIONS[1])
    talk.correct(0, "It is {target}, I see.", [right])
    assert talk.answers[0].text == "It is the mug, I see."
    loaded = model.load_dialogue(talk.save(tmp_path / "talk"))  # reads all anew
    for each in (talk, loaded):
        each.refer(0).ask("and its handle?")
    assert same(talk.answers, loaded.answers)
    assert np.array_equal(talk.state.said[2].masks[0], mask)
    before = talk.state.said
    for text, targets, message in (
        ("no slot", [right], "0 slots"),
        ("{target}", [Target("the [SEG]", mask, 1.0)], "words only"),
        ("{target}", [Target("mug", mask[:5], 1.0)], "not of"),
        ("{target}", [Target("mug", mask & False, 1.0)], "empty"),
    ):
        with pytest.raises(DataError, match=message):
            talk.correct(0, text, targets)
    with pytest.raises(DataError, match="turn 7 of a dialogue of 3"):
        talk.correct(7, "text", [])
    assert talk.state.said == before


def test_many_dialogues_at_once_equal_one_by_one(model: Miras) -> None:
    pictures = [picture(50, 30), picture(20, 40), picture(33, 33)]
    questions = [QUESTIONS, QUESTIONS[:1], [*QUESTIONS, "and now?"]]
    together = model.ask_many(pictures, questions, batch_size=2)
    for image, texts, found in zip(pictures, questions, together, strict=True):
        talk = model.dialogue(image)
        for text in texts:
            talk.ask(text)
        assert [a.text for a in found] == [a.text for a in talk.answers]
        assert [len(a.targets) for a in found] == [len(a.targets) for a in talk.answers]
    with pytest.raises(DataError, match="a list of texts for each of 1 pictures"):
        model.ask_many(pictures[:1], QUESTIONS)  # type: ignore[arg-type]


def test_typed_markers_stay_text(model: Miras) -> None:
    talk = model.dialogue(picture())
    talk.ask("is [SEG] or <image> or <mask> in it?")
    tokens = [token for token in talk.state.prefix.tokens if isinstance(token, int)]  # type: ignore[union-attr]
    builder = model._talker.responder.builder
    assert tokens.count(builder.image_id) == builder.num_image_tokens
    assert builder.mask_id not in tokens


def test_what_cannot_be_taken_is_named_and_changes_nothing(model: Miras, tmp_path: Path) -> None:
    talk = model.dialogue(picture())
    for question, message in (
        ("", "empty"),
        ("  \n ", "empty"),
        ("word " * 10_000, "49,999 characters; at most 4,000"),
        (7, "expected text, found int"),
    ):
        with pytest.raises(DataError, match=message):
            talk.ask(question)  # type: ignore[arg-type]
    for call, message in (
        (lambda: talk.refer(0), "turn 0 of a dialogue of 0 turns"),
        (lambda: talk.undo(), "1 of 0 turns"),
        (lambda: talk.point(np.zeros((30, 50), bool)), "with some pixel set"),
        (lambda: talk.point(np.ones((5, 5), bool)), r"expected a mask of \(30, 50\)"),
        (lambda: model.load_dialogue(tmp_path / "none"), "cannot be read"),
    ):
        with pytest.raises(DataError, match=message):
            call()
    assert talk.answers == []
    saved = talk.save(tmp_path / "talk")
    content = json.loads(saved.read_text())
    for damage in ({"picture": "AAAA"}, {"turns": [{}]}, {"format": "other"}):
        saved.write_text(json.dumps(content | damage))
        with pytest.raises(DataError, match=r"no saved dialogue, or damaged|not a picture"):
            model.load_dialogue(saved)


def test_two_hundred_turns_end_with_a_message_not_a_crash(model: Miras) -> None:
    talk = model.dialogue(picture())
    with pytest.raises(DataError, match=r"network\.max_tokens is 4096"):
        for number in range(200):
            talk.ask(f"and number {number}? " + "what else is there " * 12)
    assert 5 < len(talk.answers) < 200
    talk.undo(3)
    talk.ask("and now?")


def test_without_memory_of_masks_referring_is_refused(backbones: Backbones, tmp_path: Path) -> None:
    train(backbones, tmp_path / "stage2", **settings("lisa"))
    export(weights=tmp_path / "stage2", backbones=backbones.folder, out=tmp_path / "exported")
    talk = Miras.from_pretrained(tmp_path / "exported").dialogue(picture())
    talk.ask(QUESTIONS[0])
    with pytest.raises(DataError, match="mask_memory off"):
        talk.refer(0)
    with pytest.raises(DataError, match="mask_memory off"):
        talk.point(np.ones((30, 50), bool))
    assert isinstance(talk.picture, Image.Image)
