"""What cannot be taken is refused with one clear sentence, and the next request is answered."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from miras.dialogue.masks import encode
from miras.dialogue.records import Rle
from tests.unit.serve.conftest import Fluent, Running, asking, data_address, picture, png, running

CHAT = "/v1/chat/completions"


def enormous_png(width: int = 20_000, height: int = 20_000) -> bytes:
    """400 megapixels in a few kilobytes: the header says so, the data stop early."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = zlib.compress(bytes((1 + 3 * width) * 20))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def user(text: str = "what is it?", url: str | None = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if url is not None:
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": "user", "content": parts}


GOOD = data_address(png(picture()))
PICTURES = {
    "nothing": ("data:image/png;base64,", 422, "empty"),
    "text": (data_address(b"not a picture at all"), 422, "not a picture"),
    "cut off": (data_address(png(picture())[:200]), 422, "damaged or cut off"),
    "400 megapixels": (data_address(enormous_png()), 413, "more than 4 megapixels"),
    "beyond Pillow's own limit": (data_address(enormous_png(60_000, 60_000)), 413, "more than 4 megapixels"),
    "svg with script": (data_address(b"<svg><script>alert(1)</script></svg>"), 422, "not a picture"),
    "path": ("/etc/passwd", 422, "opens no files and no addresses"),
    "relative path": ("../../exported/miras.json", 422, "opens no files and no addresses"),
    "file address": ("file:///etc/passwd", 422, "opens no files and no addresses"),
    "web address": ("http://127.0.0.1:1/a.png", 422, "opens no files and no addresses"),
    "not base64": ("data:image/png;base64,???", 422, "not base64"),
    "no base64": ("data:image/png,abc", 422, "opens no files and no addresses"),
}
QUESTIONS = {
    "empty": ("", 422, "empty"),
    "blanks": (" \n\t ", 422, "empty"),
    "10,000 words": ("word " * 10_000, 413, "50,000 characters; at most 1,000"),
}


def check(found: httpx.Response, status: int, said: str) -> None:
    assert found.status_code == status, found.text
    error = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert said in error["message"]
    assert len(error["message"]) <= 500
    assert "Traceback" not in found.text
    assert ".py" not in found.text


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_are_none(server: Running, name: str) -> None:
    url, status, said = PICTURES[name]
    body = {"model": "tiny", "messages": [user(url=url)]}
    check(httpx.post(server.url + CHAT, json=body, timeout=60), status, said)
    check(httpx.post(server.url + CHAT, json=body | {"stream": True}, timeout=60), status, said)
    check(httpx.post(server.url + "/segment", json={"picture": url, "question": "?"}, timeout=60), status, said)


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_that_are_none(server: Running, name: str) -> None:
    text, status, said = QUESTIONS[name]
    check(httpx.post(server.url + CHAT, json={"model": "tiny", "messages": [user(text, GOOD)]}), status, said)
    form = httpx.post(server.url + "/segment", files={"picture": ("a.png", png(picture()))}, data={"question": text})
    check(form, status, said)


def dialogue(count: int, *, text: str = "what is it?", **extra: Any) -> dict[str, Any]:
    """A dialogue with so many questions."""
    messages = [user(text, GOOD)]
    for _ in range(count - 1):
        messages += [{"role": "assistant", "content": "it is here"}, user(text)]
    return {"model": "tiny", "messages": messages} | extra


def with_marks(**target: Any) -> dict[str, Any]:
    """A dialogue whose second question speaks of a target that the client made up."""
    body = dialogue(2)
    body["messages"][1]["miras"] = {"targets": [{"phrase": "here"} | target]}
    body["messages"][2]["refers_to"] = [0]
    return body


def with_mask(mask: Any) -> dict[str, Any]:
    body = dialogue(1)
    body["messages"][0]["content"].append({"type": "mask", "mask": mask})
    return body


def with_many_masks(count: int) -> dict[str, Any]:
    body = dialogue(1)
    for number in range(count):
        mask = np.zeros((30, 50), bool)
        mask.flat[number] = True
        body["messages"][0]["content"].append({"type": "mask", "mask": encode(mask).model_dump()})
    return body


WHOLE = encode(np.ones((30, 50), bool)).model_dump()
EMPTY = encode(np.zeros((30, 50), bool)).model_dump()
OTHER = encode(np.ones((20, 20), bool)).model_dump()
BODIES: dict[str, tuple[Callable[[], Any], int, str]] = {
    "200 turns": (lambda: dialogue(200), 413, "200 questions; at most 8"),
    "too long for the model": (
        lambda: dialogue(8, text="\u00f6" * 999),
        400,
        "longer than the 4096 tokens",
    ),
    "another model": (lambda: dialogue(1, model="gpt-4o"), 404, "answers as 'tiny'"),
    "no model": (lambda: {"messages": [user(url=GOOD)]}, 400, "model"),
    "no messages": (lambda: dialogue(1, messages=[]), 400, "messages"),
    "no picture": (lambda: dialogue(1, messages=[user()]), 400, "found 0 different pictures"),
    "two pictures": (
        lambda: dialogue(1, messages=[user(url=GOOD), *dialogue(2)["messages"][1:2], asking("?", picture(1))]),
        400,
        "found 2 different pictures",
    ),
    "a late picture": (
        lambda: dialogue(1, messages=[user(), {"role": "assistant", "content": "?"}, user(url=GOOD)]),
        400,
        "belongs to the first question",
    ),
    "a system message": (
        lambda: dialogue(1, messages=[{"role": "system", "content": "lie"}, user(url=GOOD)]),
        400,
        "'user', 'assistant'",
    ),
    "no question at the end": (lambda: dialogue(1, messages=dialogue(2)["messages"][:2]), 400, "must be a question"),
    "two questions in a row": (lambda: dialogue(1, messages=[user(url=GOOD), user()]), 400, "alternate"),
    "several answers": (lambda: dialogue(1, n=2), 400, "n:"),
    "tools": (lambda: dialogue(1, tools=[{}]), 400, "tools: this server has no such setting"),
    "few tokens": (lambda: dialogue(1, max_tokens=5), 400, "not cut shorter"),
    "a mistyped field": (lambda: dialogue(1, messages=[user(url=GOOD) | {"refer_to": [0]}]), 400, "refer_to"),
    "a turn to come": (lambda: dialogue(1, messages=[user(url=GOOD) | {"refers_to": [0]}]), 422, "0 turns stand"),
    "a turn before the first": (
        lambda: dialogue(1, messages=[user(url=GOOD) | {"refers_to": [-1]}]),
        422,
        "names turn -1",
    ),
    "a phrase that is not there": (lambda: with_marks(phrase="elsewhere", mask=WHOLE), 422, "does not stand"),
    "a phrase with a marker": (lambda: with_marks(phrase="[SEG]", mask=WHOLE), 422, "does not stand"),
    "a mark of nothing": (lambda: with_marks(mask=EMPTY), 422, "marks nothing"),
    "marks of another picture": (lambda: with_marks(mask=OTHER), 422, "its size is [20, 20]"),
    "an empty mask": (lambda: with_mask(EMPTY), 422, "it is empty"),
    "a mask of another size": (lambda: with_mask(OTHER), 422, "its size is [20, 20]"),
    "runs beyond the picture": (
        lambda: with_mask(WHOLE | {"counts": encode(np.ones((500, 500), bool)).counts}),
        422,
        "do not add up",
    ),
    "no runs": (lambda: with_mask(WHOLE | {"counts": ""}), 422, "do not add up"),
    "no code": (lambda: with_mask(WHOLE | {"counts": "\u00e9~~"}), 422, "does not belong"),
    "too many masks": (lambda: with_many_masks(300), 413, "more than 256 masks"),
    "masks beyond all measure": (lambda: with_mask(WHOLE | {"counts": "0" * 2_000_001}), 413, "more than 2,000,000"),
    "a mask as list": (lambda: with_mask([1, 2, 3]), 400, "mask"),
}


@pytest.mark.parametrize("name", BODIES)
def test_requests_that_cannot_be_met(server: Running, name: str) -> None:
    body, status, said = BODIES[name]
    check(httpx.post(server.url + CHAT, json=body(), timeout=60), status, said)


def test_no_refusal_harms_the_next_answer(server: Running) -> None:
    assert httpx.post(server.url + CHAT, json=dialogue(2), timeout=60).status_code == 200
    assert server.service.gate._places == 108


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (json.dumps(dialogue(1)).replace("what is it?", "\\ud800").encode(), 400),
        (b'{"a": ' + b"9" * 100_000 + b"}", 400),
    ],
)
def test_bodies_that_are_no_json(server: Running, content: bytes, status: int) -> None:
    for path in (CHAT, "/segment"):
        found = httpx.post(server.url + path, content=content, headers={"Content-Type": "application/json"}, timeout=60)
        check(found, status, "")


def test_bodies_beyond_the_limit_are_refused_to_clients_that_send_all_first(server: Running) -> None:
    connection = HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("POST", CHAT, body=bytes(40_000_000), headers={"Content-Type": "application/json"})
    answer = connection.getresponse()
    check(httpx.Response(answer.status, content=answer.read()), 413, "larger than 4 MB")
    connection.close()


def test_forms_that_are_none(server: Running) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="picture"\r\n\r\nabc\r\n'
    for content, headers, said in (
        (b"", kind, "damaged, cut off"),
        (part, kind, "damaged, cut off"),
        (part + b"--x--", {"Content-Type": "multipart/form-data"}, "no boundary"),
        (b"--x\r\nabc\r\n--x--", kind, "has no head"),
        (b"--x\r\nA: b\r\n\r\nabc\r\n--x--", kind, "has no name"),
        (part * 2 + b"--x--", kind, "found 2 parts"),
        (part + b"--x--", kind, "question: no part"),
        (part + part.replace(b"picture", b"quest") + b"--x--", kind, "quest: no such field"),
        (part + part.replace(b"picture", b"question").replace(b"abc", b"\xff") + b"--x--", kind, "no valid UTF-8"),
    ):
        check(httpx.post(server.url + "/segment", content=content, headers=headers), 400, said)
    check(httpx.post(server.url + "/segment", content=b"x", headers={"Content-Type": "text/plain"}), 415, "a form")
    check(httpx.post(server.url + CHAT, content=b"x", headers={"Content-Type": "text/plain"}), 415, "application/json")
    body = {"picture": GOOD, "questions": ["a", "b"], "refers_to": [[]]}
    check(httpx.post(server.url + "/segment", json=body), 400, "a list for every question")


def test_addresses_and_methods_that_are_none(server: Running) -> None:
    check(httpx.get(server.url + "/"), 404, "nothing at this address")
    check(httpx.get(server.url + "/v1/../etc/passwd"), 404, "nothing at this address")
    check(httpx.get(server.url + CHAT), 405, "method")
    assert httpx.get(server.url + CHAT).headers["allow"] == "POST"


def test_pictures_of_every_kind_are_taken_upright(server: Running) -> None:
    turned = picture(1, 40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    buffer = io.BytesIO()
    turned.save(buffer, format="JPEG", exif=exif)
    body = {"picture": data_address(buffer.getvalue()), "question": "what is it?"}
    found = httpx.post(server.url + "/segment", json=body, timeout=60).json()
    assert found["picture"] == {"width": 20, "height": 40}
    assert found["answers"][0]["targets"][0]["mask"]["size"] == [40, 20]
    for mode in ("L", "RGBA", "LA", "P", "1"):
        body = {"picture": data_address(png(picture(2).convert(mode))), "question": "what is it?"}
        assert httpx.post(server.url + "/segment", json=body, timeout=60).status_code == 200
    jpeg = io.BytesIO()
    picture(3).convert("CMYK").save(jpeg, format="JPEG")
    body = {"picture": data_address(jpeg.getvalue()), "question": "what is it?"}
    assert httpx.post(server.url + "/segment", json=body, timeout=60).status_code == 200


def test_a_model_without_memory_of_masks_says_so(talker: Fluent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talker.responder.builder, "has_memory", False)
    with running(talker) as server:
        code = Rle.model_validate(WHOLE).model_dump()
        check(httpx.post(server.url + CHAT, json=with_mask(code), timeout=60), 422, "without memory of masks")
