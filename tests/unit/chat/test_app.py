"""The page's server: dialogues of each browser, answers as they are said, and everything that is refused."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from miras.chat.answerers import Answerer
from miras.chat.app import build_app
from miras.chat.config import ChatLimits
from miras.dialogue.masks import decode, encode
from miras.dialogue.records import Rle
from tests.unit.chat.conftest import HEIGHT, WIDTH

QUESTION = "what is the red mug on the left"


def begin(client: TestClient, picture: bytes, *, models: str = "0", name: str = "mug.png") -> dict[str, Any]:
    answer = client.post(f"/api/dialogues?models={models}", content=picture, headers={"x-file-name": name})
    assert answer.status_code == 200, answer.text
    room: dict[str, Any] = answer.json()
    return room


def ask(
    client: TestClient, room: dict[str, Any], question: str = QUESTION, about: list[dict[str, int]] | None = None
) -> list[dict[str, Any]]:
    body = {"question": question, "about": about or []}
    answer = client.post(f"/api/dialogues/{room['id']}/ask", json=body)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def message(answer: Any, status: int) -> str:
    assert answer.status_code == status
    text: str = answer.json()["message"]
    assert "Traceback" not in text
    return text


def first_marked(turn: dict[str, Any], model: str = "0") -> int:
    """Number of the first target that covers something."""
    return next(number for number, target in enumerate(turn["answers"][model]["targets"]) if target["box"])


def test_an_answer_comes_word_by_word_with_masks_and_is_there_after_a_reload(
    client: TestClient, picture: bytes
) -> None:
    room = begin(client, picture)
    events = ask(client, room)
    texts = [event["text"] for event in events if event["kind"] == "text"]
    assert len(texts) > 1
    assert [event["kind"] for event in events] == ["text"] * len(texts) + ["done"]
    turn = events[-1]["turn"]
    answer = turn["answers"]["0"]
    assert "".join(piece["text"] for piece in answer["pieces"]).split() == texts[-1].split()
    target = answer["targets"][first_marked(turn)]
    left, top, right, bottom = target["box"]
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT
    again = client.get(f"/api/dialogues/{room['id']}").json()
    assert again["turns"] == [turn]
    assert client.get("/api/dialogues").json() == [{"id": room["id"], "title": "mug.png", "turns": 1}]


def test_a_question_may_be_about_a_mask_and_says_so(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    turn = ask(client, room)[-1]["turn"]
    target = first_marked(turn)
    second = ask(client, room, "and its handle?", [{"model": 0, "turn": 0, "target": target}])[-1]["turn"]
    phrase = turn["answers"]["0"]["targets"][target]["phrase"]
    assert len(second["about"]) == 1
    assert (second["about"][0]["turn"], second["about"][0]["phrase"]) == (0, phrase)
    third = ask(client, room, "and now?")[-1]["turn"]
    assert third["about"] == []


def test_undo_and_branch_go_their_own_ways(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    first = ask(client, room)[-1]["turn"]
    branch = client.post(f"/api/dialogues/{room['id']}/branch").json()
    assert branch["turns"] == [first]
    ask(client, branch, "something else?")
    assert len(client.get(f"/api/dialogues/{room['id']}").json()["turns"]) == 1
    undone = client.post(f"/api/dialogues/{room['id']}/undo").json()
    assert undone["turns"] == []
    assert message(client.post(f"/api/dialogues/{room['id']}/undo"), 400) == "undo: 1 of 0 turns."
    again = ask(client, room)[-1]["turn"]
    for each in (again, first):
        each["answers"]["0"]["seconds"] = 0
    assert again == first


def test_two_models_answer_the_same_question_side_by_side(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture, models="0,1")
    events = ask(client, room)
    turn = events[-1]["turn"]
    assert {event["model"] for event in events if event["kind"] == "text"} == {0, 1}
    assert list(turn["answers"]) == ["0", "1"]
    about = [{"model": 1, "turn": 0, "target": first_marked(turn, "1")}]
    second = ask(client, room, "and its handle?", about)[-1]["turn"]
    assert [item["model"] for item in second["about"]] == [1]
    alone = client.post(f"/api/dialogues/{room['id']}/again?models=1").json()
    assert (alone["models"], alone["turns"], alone["title"]) == ([1], [], "mug.png")


def test_downloads_hold_the_same_masks(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    turn = ask(client, room)[-1]["turn"]
    targets = turn["answers"]["0"]["targets"]
    take = f"/api/dialogues/{room['id']}/download"
    found = json.loads(client.get(f"{take}/coco").content)
    masks = [
        decode(Rle(size=tuple(item["segmentation"]["size"]), counts=item["segmentation"]["counts"]))
        for item in found["annotations"]
    ]
    assert [int(mask.sum()) for mask in masks] == [target["area"] for target in targets]
    with zipfile.ZipFile(io.BytesIO(client.get(f"{take}/png").content)) as archive:
        for number, mask in enumerate(masks, 1):
            with Image.open(io.BytesIO(archive.read(f"turn1-mask{number}.png"))) as image:
                assert np.array_equal(np.asarray(image) > 0, mask)
    one = client.get(f"/api/dialogues/{room['id']}/masks/0/0/0.png")
    assert one.headers["content-disposition"] == 'attachment; filename="turn1-mask1.png"'
    with zipfile.ZipFile(io.BytesIO(client.get(f"{take}/labelme").content)) as archive:
        shapes = json.loads(archive.read("picture.json"))["shapes"]
        with Image.open(io.BytesIO(archive.read("picture.png"))) as image:
            assert image.size == (WIDTH, HEIGHT)
    assert bool(shapes) == any(mask.any() for mask in masks)
    saved = client.get(f"{take}/dialogue").content
    loaded = client.post("/api/saved?models=0", content=saved, headers={"x-file-name": "mine"}).json()
    assert [item["answers"]["0"]["targets"] for item in loaded["turns"]] == [targets]
    ask(client, loaded, "go on?")
    assert "no download" in message(client.get(f"{take}/exe"), 404)


def test_a_browser_never_sees_the_dialogues_of_another(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    ask(client, room)
    stranger = TestClient(client.app)
    assert stranger.get("/api/dialogues").json() == []
    for method, path in (
        ("GET", ""),
        ("GET", "/picture"),
        ("GET", "/download/coco"),
        ("GET", "/masks/0/0/0.png"),
        ("POST", "/undo"),
        ("POST", "/branch"),
        ("POST", "/ask"),
        ("DELETE", ""),
    ):
        answer = stranger.request(method, f"/api/dialogues/{room['id']}{path}")
        assert "no longer here" in message(answer, 404)
    stranger.cookies.set("miras_session", "guessed")
    assert stranger.get("/api/dialogues").json() == []
    assert stranger.cookies.get("miras_session", domain="testserver.local") not in (None, "guessed")


def test_a_page_of_another_site_cannot_ask(client: TestClient, picture: bytes) -> None:
    answer = client.post("/api/dialogues", content=picture, headers={"origin": "http://elsewhere.example"})
    assert message(answer, 403) == "Requests from other sites are not taken."
    assert client.post("/api/dialogues", content=picture, headers={"origin": "http://testserver"}).status_code == 200


def huge_png() -> bytes:
    """The header of a PNG of 400 megapixels, and no more than that."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        (b"", 400, "the file is empty"),
        (b"#!/bin/sh\nrm -rf /", 400, "not a picture"),
        (b"/etc/passwd", 400, "not a picture"),
        (b"file:///etc/passwd", 400, "not a picture"),
        (huge_png(), 400, "more than 100 megapixels"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, 400, "not a picture"),
        (b"\0" * 1_000_001, 413, "more than 1 MB"),
    ],
)
def test_what_is_no_picture_is_refused(client: TestClient, content: bytes, status: int, expected: str) -> None:
    answer = client.post("/api/dialogues", content=content, headers={"x-file-name": "x.png"})
    assert expected in message(answer, status)
    assert client.get("/api/dialogues").json() == []


@pytest.mark.parametrize(
    ("question", "expected"),
    [("", "empty"), (" \n ", "empty"), ("word " * 10_000, "49,999 characters; at most 4,000"), (7, "valid string")],
)
def test_what_is_no_question_is_refused_and_changes_nothing(
    client: TestClient, picture: bytes, question: object, expected: str
) -> None:
    room = begin(client, picture)
    answer = client.post(f"/api/dialogues/{room['id']}/ask", json={"question": question})
    assert expected in message(answer, 400)
    assert client.get(f"/api/dialogues/{room['id']}").json()["turns"] == []


def test_typed_markers_stay_text(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    typed = "is [SEG] or <image> or {target} or <script>alert(1)</script> in it?"
    assert ask(client, room, typed)[-1]["turn"]["question"] == typed


def test_a_file_name_is_shown_as_text_and_never_used(client: TestClient, picture: bytes) -> None:
    name = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.png"
    assert begin(client, picture, name=name)["title"] == "<img src=x onerror=alert(1)>.png"
    assert begin(client, picture, name="..%2F..%2Fetc%2Fpasswd")["title"] == "passwd"
    assert begin(client, picture, name="%00%0A%E2%80%AE")["title"] == "picture"


def test_a_long_dialogue_ends_with_a_message(answerers: list[Answerer], limits: ChatLimits, picture: bytes) -> None:
    app = build_app(answerers, limits.model_copy(update={"max_turns": 2}), corrections=Path("unused"))
    with TestClient(app) as client:
        room = begin(client, picture)
        for _ in range(2):
            ask(client, room)
        answer = client.post(f"/api/dialogues/{room['id']}/ask", json={"question": QUESTION})
        assert "This dialogue has 2 turns, the most that are kept" in message(answer, 400)


def test_a_dialogue_too_long_for_the_model_says_so_and_can_be_undone(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    for number in range(40):
        events = ask(client, room, f"and number {number}? " + "what else is there " * 150)
        if events[-1]["kind"] == "error":
            break
    assert "network.max_tokens is 4096" in events[-1]["message"]
    turns = client.get(f"/api/dialogues/{room['id']}").json()["turns"]
    assert len(turns) == number
    assert len(client.post(f"/api/dialogues/{room['id']}/undo").json()["turns"]) == number - 1


def test_the_oldest_dialogues_make_room(answerers: list[Answerer], limits: ChatLimits, picture: bytes) -> None:
    few = limits.model_copy(update={"max_dialogues": 2, "max_sessions": 2})
    with TestClient(build_app(answerers, few, corrections=Path("unused"))) as client:
        rooms = [begin(client, picture, name=f"{number}.png") for number in range(3)]
        assert [item["title"] for item in client.get("/api/dialogues").json()] == ["1.png", "2.png"]
        assert "no longer here" in message(client.get(f"/api/dialogues/{rooms[0]['id']}"), 404)
        for _ in range(5):
            TestClient(client.app).get("/api/about")  # browsers that only look
        assert len(client.get("/api/dialogues").json()) == 2


def test_a_damaged_saved_dialogue_is_refused(client: TestClient, picture: bytes) -> None:
    room = begin(client, picture)
    ask(client, room)
    saved = json.loads(client.get(f"/api/dialogues/{room['id']}/download/dialogue").content)

    def post(content: object) -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return client.post("/api/saved", content=body)

    assert "no saved dialogue" in message(post(b"\xff{"), 400)
    assert "no saved dialogue" in message(post([1]), 400)
    assert "no saved dialogue" in message(post(b"[" * 100_000), 400)
    group = saved["turns"][0]["groups"][0]
    for counts in ("", "~~~~~", "0" * 50, encode(np.ones((5, 5), dtype=bool)).counts):
        damaged = {**saved["turns"][0], "groups": [{**group, "mask": {"size": [HEIGHT, WIDTH], "counts": counts}}]}
        assert "a mask in it is damaged" in message(post({**saved, "turns": [damaged]}), 400)
    assert "at most 200" in message(post({**saved, "turns": [{}] * 201}), 400)


def test_a_correction_is_saved_where_the_page_says_and_the_next_question_can_be_about_it(
    client: TestClient, picture: bytes
) -> None:
    room = begin(client, picture)
    ask(client, room)
    corner = {"tool": "polygon", "adds": True, "points": [[0, 0], [10, 0], [10, 10], [0, 10]]}
    wanted = {
        "model": 0,
        "turn": 0,
        "text": "It is the corner.",
        "targets": [{"source": None, "phrase": "corner", "edits": [corner]}],
    }
    answer = client.post(f"/api/dialogues/{room['id']}/corrections", json=wanted)
    assert answer.status_code == 200, answer.text
    assert Path(answer.json()["path"]).is_file()
    shown = answer.json()["room"]["turns"][0]["answers"]["0"]
    assert shown["is_corrected"]
    assert [(target["phrase"], target["area"], target["box"]) for target in shown["targets"]] == [
        ("corner", 100, [0, 0, 10, 10])
    ]
    second = ask(client, room, "what is in it?", [{"model": 0, "turn": 0, "target": 0}])[-1]["turn"]
    assert second["about"] == [{"phrase": "corner", "model": 0, "turn": 0, "target": 0}]
    refused = client.post(f"/api/dialogues/{room['id']}/corrections", json=wanted | {"text": "It is there."})
    assert "does not name “corner”" in message(refused, 400)
    missing = wanted | {"targets": [{"source": 7, "phrase": "corner", "edits": []}]}
    assert "no mask 8" in message(client.post(f"/api/dialogues/{room['id']}/corrections", json=missing), 404)
    assert client.get(f"/api/dialogues/{room['id']}").json()["turns"][0]["answers"]["0"] == shown


@pytest.fixture
def address(answerers: list[Answerer], limits: ChatLimits, tmp_path: Path) -> Iterator[str]:
    """The page on a port of its own: connections that really break."""
    app = build_app(answerers, limits, corrections=tmp_path / "corrections")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_a_connection_that_breaks_in_an_answer_leaves_the_dialogue_as_it_was(address: str, picture: bytes) -> None:
    with httpx.Client(base_url=address, timeout=60) as client:
        room = client.post("/api/dialogues", content=picture).json()
        path = f"/api/dialogues/{room['id']}"
        with client.stream("POST", f"{path}/ask", json={"question": QUESTION}) as answer:
            first = next(answer.iter_lines())
        assert json.loads(first)["kind"] == "text"
        for _ in range(200):  # the model stops at its next word
            answer = client.post(f"{path}/ask", json={"question": QUESTION})
            if answer.status_code != 409:
                break
            time.sleep(0.02)
        assert json.loads(answer.text.splitlines()[-1])["kind"] == "done"
        assert len(client.get(path).json()["turns"]) == 1


def test_many_browsers_at_once_each_get_their_own_answer(address: str) -> None:
    found: dict[int, list[str]] = {}

    def talk(number: int) -> None:
        pixels = np.full((HEIGHT, WIDTH, 3), 10 * number, dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        with httpx.Client(base_url=address, timeout=120) as client:
            room = client.post("/api/dialogues", content=buffer.getvalue()).json()
            question = {"question": f"question of browser {number}"}
            client.post(f"/api/dialogues/{room['id']}/ask", json=question)
            turns = client.get(f"/api/dialogues/{room['id']}").json()["turns"]
            found[number] = [turn["question"] for turn in turns]

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [f"question of browser {number}"] for number in range(6)}
