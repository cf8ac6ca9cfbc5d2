"""Dialogues that keep their caches answer like dialogues that are read anew at every turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from miras.dialogue.rendering import plain_text
from miras.errors import DataError
from miras.model.decoding import Prefix
from miras.model.reading import Reading
from miras.model.records import Response
from miras.model.responder import Responder
from miras.model.talk import Talk, TalkMemory
from miras.model.talker import Talker
from miras.model.tokens import RowBuilder
from miras.model.weights import Backbones
from tests.unit.model.tiny_network import network_config

QUESTIONS = ["what is on the table?", "segment it.", "and the other one?", "segment both of them, please."]


def picture(shade: int = 90) -> Image.Image:
    pixels = np.full((48, 64, 3), shade, np.uint8)
    pixels[10:30, 20:40] = (200, 30, 30)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def talker(backbones: Backbones) -> Talker:
    """Random weights, but for a head that points at things: [OBJ], a word, [SEG], in turns with other words."""
    torch.manual_seed(3)
    tokenizer = backbones.tokenizer()
    network = backbones.network(network_config(mask_memory="both", max_tokens=2048), tokenizer).eval()
    for parameter in network.language.parameters():
        parameter.data *= 3  # so that what was read decides what is said
    builder = RowBuilder.of(network.config, tokenizer, num_image_tokens=backbones.num_image_tokens)
    head = network.text_output.forward

    def pointing(states: torch.Tensor) -> torch.Tensor:
        logits = head(states)
        odd = (states.double().sum(-1) * 20).floor().long() % 4  # the state decides, rounding hardly ever does
        for row, which in enumerate(odd.reshape(-1).tolist()):
            chosen = {0: builder.obj_id, 1: builder.seg_id, 2: builder.end_id}.get(which)
            if chosen is not None:
                logits.view(-1, logits.shape[-1])[row, chosen] += 1e4
        return logits

    network.text_output.forward = pointing  # type: ignore[method-assign]
    return Talker(Responder(network, builder, device="cpu", encoders=backbones.encoders))


def fresh(talker: Talker, image: Image.Image, asked: list[tuple[str, list[np.ndarray]]]) -> list[Response]:
    """The same dialogue with every cache dropped before every question."""
    talk = Talk(image)
    for question, masks in asked:
        talk.drop()
        talker.answer([talk], [(question, masks)])
    return [said.response for said in talk.said]


def assert_same(found: list[Response], expected: list[Response]) -> None:
    assert [response.answer for response in found] == [response.answer for response in expected]
    for one, other in zip(found, expected, strict=True):
        assert [group.phrase for group in one.groups] == [group.phrase for group in other.groups]
        for mine, theirs in zip(one.groups, other.groups, strict=True):
            assert (mine.mask != theirs.mask).mean() < 0.001


def responses(talk: Talk) -> list[Response]:
    return [said.response for said in talk.said]


def asked_so_far(talk: Talk) -> list[tuple[str, list[np.ndarray]]]:
    return [(said.question, list(said.masks)) for said in talk.said]


def test_a_dialogue_answers_as_one_that_is_read_anew(talker: Talker) -> None:
    talk = Talk(picture())
    for question in QUESTIONS:
        masks = [group.mask for said in talk.said for group in said.response.groups][:2]
        talker.answer([talk], [(question, masks)])
    assert any(response.groups for response in responses(talk))
    assert_same(responses(talk), fresh(talker, picture(), asked_so_far(talk)))


def test_only_what_is_new_is_read(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, lengths = Talk(picture()), []
    read = Reading.read

    def counted(reading: Reading, embedded: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        lengths.append(embedded.shape[1])
        return read(reading, embedded, positions)

    monkeypatch.setattr(Reading, "read", counted)
    for question in QUESTIONS[:3]:
        talker.answer([talk], [(question, [])])
    first, *later = [length for length in lengths if length > 1]
    assert first > talker.responder.builder.num_image_tokens
    assert all(length < first for length in later)


def test_undo_and_branch_cut_the_cache(talker: Talker) -> None:
    talk = Talk(picture())
    for question in QUESTIONS[:2]:
        talker.answer([talk], [(question, [])])
    other = talk.branch()
    talker.answer([talk], [(QUESTIONS[2], [])])
    talker.answer([other], [(QUESTIONS[3], [])])
    for each in (talk, other):
        assert_same(responses(each), fresh(talker, picture(), asked_so_far(each)))
    assert talk.kept is other.kept
    talk.undo(2)
    talker.answer([talk], [(QUESTIONS[3], [])])
    assert [said.question for said in talk.said] == [QUESTIONS[0], QUESTIONS[3]]
    assert_same(responses(talk), fresh(talker, picture(), asked_so_far(talk)))
    assert len(other.said) == 3


def test_dialogues_of_different_length_are_answered_together(talker: Talker) -> None:
    talks = [Talk(picture(shade)) for shade in (20, 90, 200)]
    talker.answer([talks[1]], [(QUESTIONS[0], [])])
    talker.answer(talks[1:], [(QUESTIONS[1], []), (QUESTIONS[2], [])])
    talker.answer(talks, [(QUESTIONS[3], []), (QUESTIONS[2], []), (QUESTIONS[0], [])])
    for talk in talks:
        assert_same(responses(talk), fresh(talker, talk.picture, asked_so_far(talk)))


def test_sam_is_asked_only_for_a_mask_and_once(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders, calls = talker.responder.encoders, []
    mask_side = encoders.mask_side
    monkeypatch.setattr(encoders, "mask_side", lambda pictures: calls.append(len(pictures)) or mask_side(pictures))
    talk = Talk(picture())
    for number in range(8):
        talker.answer([talk], [(f"{QUESTIONS[number % 4]} {number}", [])])
        assert bool(calls) == any(response.groups for response in responses(talk))
    assert calls in ([], [1])


def test_memory_is_bounded_and_dropped_dialogues_go_on_unnoticed(talker: Talker) -> None:
    talks = [Talk(picture(shade)) for shade in (20, 90, 200)]
    talker.answer([talks[0]], [(QUESTIONS[0], [])])
    memory = TalkMemory(max_bytes=int(1.5 * talks[0].num_bytes))
    memory.used([talks[0]])
    for talk in talks[1:]:
        talker.answer([talk], [(QUESTIONS[0], [])])
        memory.used([talk])
        assert memory.num_bytes <= max(memory.max_bytes, talk.num_bytes)  # the one in use stays in any case
    assert memory.dropped == 2
    assert talks[0].num_bytes == 0
    talker.answer([talks[0]], [(QUESTIONS[1], [])])
    assert_same(responses(talks[0]), fresh(talker, talks[0].picture, asked_so_far(talks[0])))


def test_a_reader_that_goes_away_leaves_the_dialogue_as_it_was(talker: Talker) -> None:
    talk = Talk(picture())
    talker.answer([talk], [(QUESTIONS[0], [])])
    before = (talk.said, talk.prefix)
    steps = talker.stream([talk], [(QUESTIONS[1], [])])
    next(steps)
    steps.close()
    assert (talk.said, talk.prefix) == before


def test_a_dialogue_that_is_given_up_stays_and_the_others_are_answered(talker: Talker) -> None:
    talks = [Talk(picture(shade)) for shade in (20, 90, 200)]
    for talk in talks:
        talker.answer([talk], [(QUESTIONS[0], [])])
    before = (talks[1].said, talks[1].prefix)
    steps = talker.stream(talks, [(QUESTIONS[1], [])] * 3)
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send({1})
        while True:
            next(steps)
    one, given_up, other = end.value.value
    assert given_up is None
    assert (talks[1].said, talks[1].prefix) == before
    assert [responses(talks[0])[-1], responses(talks[2])[-1]] == [one, other]
    for talk in talks:
        assert_same(responses(talk), fresh(talker, talk.picture, asked_so_far(talk)))


def test_what_is_streamed_grows_into_the_answer(talker: Talker) -> None:
    talk, seen = Talk(picture()), []
    steps = talker.stream([talk], [(QUESTIONS[1], [])])
    for (text,) in steps:
        seen.append(text)
    assert seen
    assert plain_text(talk.said[0].response.answer) == seen[-1]


def test_a_dialogue_that_grows_too_long_is_refused_and_stays(backbones: Backbones, tmp_path: Path) -> None:
    tokenizer = backbones.tokenizer()
    network = backbones.network(network_config(max_tokens=60), tokenizer)
    builder = RowBuilder.of(network.config, tokenizer, num_image_tokens=backbones.num_image_tokens)
    short = Talker(Responder(network, builder, device="cpu", encoders=backbones.encoders))
    talk = Talk(picture())
    with pytest.raises(DataError, match=r"network\.max_tokens is 60"):
        short.answer([talk], [("word " * 100, [])])
    assert talk.said == ()


def test_a_prefix_never_holds_a_whole_row() -> None:
    prefix = Prefix(tokens=(1, 2, 3), layers=())
    assert prefix.common([1, 2, 3]) == 2
    assert prefix.common([1, 2, 3, 4]) == 3
    assert prefix.common([1, (2, "mask"), 3, 4]) == 1
