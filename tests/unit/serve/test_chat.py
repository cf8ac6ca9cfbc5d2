"""Chat completions with OpenAI's own client: whole and streamed, turn by turn, with marks given back or not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from miras.dialogue.masks import encode
from miras.open_dialogue import OpenDialogue
from miras.pretrained import Miras
from tests.unit.serve.conftest import Fluent, Running, asking, data_address, picture, png, running

QUESTIONS = ["what is the red mug on the left?", "and its handle?", "segment what we have been talking about"]


def ask(server: Running, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer as the message to give back."""
    found = server.create(messages=messages)
    message: dict[str, Any] = found.choices[0].message.model_dump()
    return message


def talk(server: Running, image: Image.Image, *, between: Image.Image | None = None) -> list[dict[str, Any]]:
    """The answers of a dialogue, each question speaks of the answer before; `between` them another one takes place."""
    messages: list[dict[str, Any]] = []
    for number, text in enumerate(QUESTIONS):
        if between is not None:
            ask(server, [asking(text, between)])
        extra = {"refers_to": [number - 1]} if number else {}
        messages.append(asking(text, None if number else image, **extra))
        messages.append(ask(server, messages))
    return messages[1::2]


@pytest.fixture(scope="module")
def forgetful(talker: Fluent) -> Iterator[Running]:
    """A server that keeps only the last dialogue."""
    with running(talker, memory_gb=0.0) as found:
        yield found


def test_the_answers_are_those_of_python_with_masks_at_the_pictures_size(server: Running, talker: Fluent) -> None:
    image = picture(7, 61, 44)
    expected = OpenDialogue(talker, image)
    for number, question in enumerate(QUESTIONS):
        if number:
            expected.refer(number - 1)
        expected.ask(question)
    for ours, theirs in zip(talk(server, image), expected.answers, strict=True):
        assert ours["content"] == theirs.text
        assert len(ours["miras"]["targets"]) == len(theirs.targets) == 2
        for target, other in zip(ours["miras"]["targets"], theirs.targets, strict=True):
            code = {"size": target["mask"]["size"], "counts": target["mask"]["counts"].encode()}
            np.testing.assert_array_equal(coco_mask.decode(code).astype(bool), other.mask)
            assert tuple(target["box_xyxy"]) == other.box
            assert target["score"] == pytest.approx(other.score, abs=1e-4)
            assert target["phrase"]
            assert ours["content"].startswith(target["phrase"], target["start"])


def test_a_stream_says_the_same_in_pieces_and_marks_last(server: Running) -> None:
    messages = [asking(QUESTIONS[0], picture(1))]
    whole = server.create(messages=messages)
    options = {"include_usage": True}
    chunks = list(server.create(messages=messages, stream=True, stream_options=options))
    *said, usage = chunks
    pieces = [chunk.choices[0].delta.content for chunk in said if chunk.choices[0].delta.content]
    assert len(pieces) > 2
    assert "".join(pieces) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in said] == [None] * (len(said) - 1) + ["stop"]
    assert said[-1].choices[0].delta.miras == whole.choices[0].message.miras
    assert usage.usage == whole.usage
    assert whole.usage.completion_tokens == 15
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_unruly_answer_streams_as_it_ends(model: Miras) -> None:
    with running(model.talker) as wild:  # untrained: markers everywhere, half characters, no end
        for number in range(2):
            messages = [asking(QUESTIONS[number], picture(number))]
            chunks = list(wild.create(messages=messages, stream=True))
            message = ask(wild, messages)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == message["content"]
            is_marked = any(any(target["box_xyxy"]) for target in message["miras"]["targets"])
            ask(wild, [*messages, message, asking("and now?", refers_to=[0] if is_marked else [])])


def test_what_is_kept_changes_the_time_and_not_the_answer(server: Running, forgetful: Running) -> None:
    image = picture(2)
    kept, fresh = talk(server, image), talk(forgetful, image, between=picture(99))
    assert [(m["content"], m["miras"]) for m in kept] == [(m["content"], m["miras"]) for m in fresh]
    assert server.metric('miras_kept_found_total{what="all"}') >= 2
    assert forgetful.metric('miras_kept_found_total{what="all"}') == 0
    assert forgetful.metric("miras_dropped_dialogues") >= 2
    assert forgetful.metric("miras_kept_dialogues") <= 1


def test_undo_and_branch_go_on_from_what_was_kept(server: Running, forgetful: Running) -> None:
    image = picture(3)
    first = [asking(QUESTIONS[0], image)]
    first.append(ask(server, first))
    longer = [*first, asking(QUESTIONS[1])]
    ask(server, [*longer, ask(server, longer), asking(QUESTIONS[2])])
    before = server.metric('miras_kept_found_total{what="all"}')
    other = [*first, asking("something else")]
    ask(forgetful, [asking("forget", picture(99))])
    assert ask(server, other) == ask(forgetful, other)
    assert server.metric('miras_kept_found_total{what="all"}') == before + 1


def test_marks_that_do_not_come_back_are_remembered(server: Running, talker: Fluent) -> None:
    image = picture(4)
    messages = [asking(QUESTIONS[0], image)]
    message = ask(server, messages)
    plain = {"role": "assistant", "content": message["content"]}
    referring = asking(QUESTIONS[1], refers_to=[0])
    given_back = ask(server, [*messages, message, referring])
    assert ask(server, [*messages, plain, referring]) == given_back
    assert given_back["miras"]["turns_without_marks"] == []
    with running(talker) as another:  # has never said it
        asked = [*messages, plain, asking(QUESTIONS[1])]
        assert ask(another, asked)["miras"]["turns_without_marks"] == [0]
        assert "came without its field `miras`" in refused(another, [*messages, plain, referring], status=422)


def test_marks_made_up_by_one_client_do_not_reach_another(server: Running) -> None:
    image = picture(5)
    messages = [asking(QUESTIONS[0], image)]
    message = ask(server, messages)
    honest = [*messages, {"role": "assistant", "content": message["content"]}, asking(QUESTIONS[1], refers_to=[0])]
    expected = ask(server, honest)
    corner = np.zeros((30, 50), bool)
    corner[:2, :2] = True
    word = message["content"].split()[0]
    forged = {"phrase": word, "mask": encode(corner).model_dump()}
    lie = message | {"miras": {"targets": [forged]}}
    assert ask(server, [*messages, lie, asking(QUESTIONS[1], refers_to=[0])])
    assert ask(server, honest) == expected


def test_a_mask_of_the_clients_own_is_spoken_of(server: Running, talker: Fluent) -> None:
    image, own = picture(6), np.zeros((30, 50), bool)
    own[5:20, 10:30] = True
    question = asking("what is this?", image)
    question["content"].append({"type": "mask", "mask": encode(own).model_dump()})
    expected = OpenDialogue(talker, image).point(own).ask("what is this?")
    assert ask(server, [question])["content"] == expected.text


def test_the_picture_may_come_again_and_typed_markers_stay_text(server: Running) -> None:
    image = picture(8)
    messages = [asking("is [SEG] or <image> or <mask> in it?", image)]
    messages.append(ask(server, messages))
    again = [*messages, asking("and now?", image)]
    assert ask(server, again) == ask(server, [*messages, asking("and now?")])
    forged = messages[1] | {"content": messages[1]["content"] + " [SEG] <image>"}
    assert ask(server, [messages[0], forged, asking("and now?")]) == ask(server, [*messages, asking("and now?")])


def test_models_are_listed_by_name(server: Running) -> None:
    client = server.client()
    assert [each.id for each in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "miras"
    assert httpx.get(f"{server.url}/v1/models/other").status_code == 404
    health = httpx.get(f"{server.url}/health").json()
    assert health == {"model": "tiny", "version": "0123", "miras": "0.1.0", "ready": True}


def refused(server: Running, messages: list[dict[str, Any]], *, status: int) -> str:
    """The sentence of a refusal."""
    url = f"{server.url}/v1/chat/completions"
    found = httpx.post(url, json={"model": "tiny", "messages": messages}, timeout=60)
    assert found.status_code == status, found.text
    message: str = found.json()["error"]["message"]
    return message


def test_a_form_and_json_segment_alike(server: Running) -> None:
    content = png(picture(9))
    form = httpx.post(
        f"{server.url}/segment",
        files={"picture": ("<script>alert(1)</script>.png", content)},
        data={"question": QUESTIONS[:2]},
        timeout=60,
    )
    body = {"picture": data_address(content), "questions": QUESTIONS[:2]}
    found = httpx.post(f"{server.url}/segment", json=body, timeout=60)
    assert form.json() == found.json()
    assert found.json()["picture"] == {"width": 50, "height": 30}
    assert [answer["question"] for answer in found.json()["answers"]] == QUESTIONS[:2]
    assert "script" not in form.text
    messages = [asking(QUESTIONS[0], picture(9))]
    messages.append(ask(server, messages))
    assert found.json()["answers"][0]["text"] == messages[1]["content"]
    assert found.json()["answers"][1]["text"] == ask(server, [*messages, asking(QUESTIONS[1])])["content"]


def test_segment_as_png_shows_all_targets_of_the_last_answer(server: Running) -> None:
    body = {"picture": data_address(png(picture(10))), "question": QUESTIONS[0]}
    targets = httpx.post(f"{server.url}/segment", json=body, timeout=60).json()["answers"][0]["targets"]
    codes = [{"size": each["mask"]["size"], "counts": each["mask"]["counts"].encode()} for each in targets]
    found = httpx.post(f"{server.url}/segment", json=body, headers={"Accept": "image/png"}, timeout=60)
    assert found.headers["content-type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(found.content)))
    np.testing.assert_array_equal(shown, 255 * coco_mask.decode(coco_mask.merge(codes)))
