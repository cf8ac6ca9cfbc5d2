"""Models that point with boxes: what is asked, what is read, and a real HTTP server that misbehaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from miras.errors import DataError
from miras.evaluate.box_model import (
    NO_ANSWER,
    Box,
    BoxModel,
    BoxModelConfig,
    FrameName,
    box_mask,
    box_prompt,
    fingerprint,
    mask_box,
    read_box_answer,
)
from miras.llm import pace
from miras.llm.asking import open_model
from miras.llm.config import ModelConfig, ServiceConfig
from miras.model.records import Request
from tests.llm_server import Answer, LlmServer, Said, unreliable

if TYPE_CHECKING:
    from miras.evaluate.predict import Responds

HEIGHT, WIDTH = 40, 60


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 0.02)


@dataclass(frozen=True)
class Stored:
    path: Path
    height: int = HEIGHT
    width: int = WIDTH


def make_pictures(folder: Path) -> dict[str, Stored]:
    for number in range(3):
        Image.new("RGB", (WIDTH, HEIGHT), (60 * number, 0, 0)).save(folder / f"p{number}.png")
    return {f"p{number}": Stored(folder / f"p{number}.png") for number in range(3)}


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Stored]:
    return make_pictures(tmp_path)


def config(frame: FrameName = "0-1000", **changes: Any) -> BoxModelConfig:
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "qwen-vl-max",
        "temperature": 0.0,
        "seed": 1,
        "max_answer_tokens": 100,
        "max_repairs": 1,
        "schema_support": "none",
    }
    return BoxModelConfig(model=ModelConfig(**(values | changes)), frame=frame)


def open_box_model(
    server: LlmServer, pictures: dict[str, Stored], cache: Path, *, frame: FrameName = "0-1000", **changes: Any
) -> BoxModel:
    settings = config(frame, **changes)
    service = ServiceConfig(base_url=server.url, api_key_variable="", concurrency=4, timeout_s=10.0)
    return BoxModel(open_model(settings.model, service, cache=cache), settings, pictures=pictures)


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


# --- reading


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("The mug <box>(1,2),(30,40)</box>.", [(1, 2, 30, 40)]),
        ("<box>(1, 2), (30, 40)</box> and <box>(5,6),(7,8)</box>", [(1, 2, 30, 40), (5, 6, 7, 8)]),
        ("<BOX> (0.125,.5) , (0.75,1.) </BOX> ", [(0.125, 0.5, 0.75, 1.0)]),
        ("<box>(10%, 20%), (30%, 40%)</box>", [(10, 20, 30, 40)]),
        ("<box>(-5,2),(30,1040)</box>", [(-5, 2, 30, 1040)]),
        ("<box>(−5,2),(30,40)</box>", [(-5, 2, 30, 40)]),
        ("<box>[[1, 2, 30, 40], [5, 6, 7, 8]]</box>", [(1, 2, 30, 40), (5, 6, 7, 8)]),
        ("<|box_start|>(1,2),(30,40)<|box_end|><|im_end|>", [(1, 2, 30, 40)]),
        ("<box>(1,2),(30,40)", [(1, 2, 30, 40)]),
        ("<box>(1,2),(30,40)<box>(5,6),(7,8)</box>", [(1, 2, 30, 40), (5, 6, 7, 8)]),
        ("no detected, but <box>(1,2),(30,40)</box>", [(1, 2, 30, 40)]),
        ("<box>(1,2)</box> or <box>(5,6),(7,8)</box>", [(5, 6, 7, 8)]),
    ],
)
def test_boxes_are_read_in_all_their_forms(text: str, boxes: list[tuple[float, ...]]) -> None:
    found = read_box_answer(text)
    assert [tuple(named.box) for named in found.boxes] == boxes
    assert found.reading == "boxes"


@pytest.mark.parametrize(
    "text",
    [
        "no detected",
        "No detected. ",
        "No object detected.",
        "Not detected",
        "None found.",
        "There is no boat visible in the picture.",
        "The boat is not in the image.",
        "Nothing like that can be seen here.",
        "<box></box> no detected",
    ],
)
def test_words_for_nothing_are_an_empty_mask(text: str) -> None:
    found = read_box_answer(text)
    assert (found.boxes, found.reading) == ((), "none stated")


@pytest.mark.parametrize(
    "text",
    [
        "<box>(1,2),(30)</box>",
        "<box>somewhere left</box>",
        "<box>x1=1, y1=2, x2=3, y2=4</box>",
        "<box></box>",
        "The mug is at (12, 40), (300, 400).",
        "<box>(1,2),(30,<b>40</b>)</box>",
        "<box>(nan,2),(30,40)</box>",
        "<box>(1e9,2),(30,40)</box>",
    ],
)
def test_nonsense_is_no_box_and_is_told_from_an_answer_without(text: str) -> None:
    found = read_box_answer(text)
    assert (found.boxes, found.reading) == ((), "unreadable")


def test_a_plain_answer_has_no_box() -> None:
    found = read_box_answer("It is made of  clay (12, maybe 13 cm high).\n")
    assert (found.answer, found.boxes, found.reading) == (
        "It is made of clay (12, maybe 13 cm high).",
        (),
        "no box",
    )


def test_the_words_stay_and_a_marked_phrase_gets_our_markers() -> None:
    assert read_box_answer("The red mug <box>(1,2),(3,4)</box>.").answer == "The red mug."
    found = read_box_answer("It is <ref>the red mug</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>.")
    assert found.answer == "It is [OBJ]the red mug[SEG]."
    assert [named.phrase for named in found.boxes] == ["the red mug", ""]
    found = read_box_answer("<|object_ref_start|>a [SEG] cup<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>")
    assert found.answer == "[OBJ]a cup[SEG]"
    assert read_box_answer("<ref>the mug</ref><box>left</box> stands.").answer == "the mug stands."


def test_endless_rubbish_is_read_in_no_time() -> None:
    begin = time.perf_counter()
    for text in ("<box>" * 20_000, "<ref>" * 20_000, "(1,1)" * 20_000, "no " * 30_000, "<box>(" + "9" * 50_000):
        read_box_answer(text)
    assert time.perf_counter() - begin < 5


# --- masks


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        ("0-1", (0.1, 0.25, 0.5, 0.75)),
        ("0-100", (10, 25, 50, 75)),
        ("0-1000", (100, 250, 500, 750)),
        ("qwen-vl", (100, 250, 500, 750)),
        ("internvl", (500, 750, 100, 250)),
        ("pixel", (6, 10, 30, 30)),
        ("pixel", (30, 10, 6, 30)),
        ("pixel", (5.6, 9.7, 30.4, 30.49)),
    ],
)
def test_every_frame_gives_the_same_rectangle(frame: FrameName, box: tuple[float, float, float, float]) -> None:
    assert np.array_equal(box_mask(Box(*box), frame=frame, height=HEIGHT, width=WIDTH), rectangle(6, 10, 30, 30))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-500, -1, 500, 500), rectangle(0, 0, 30, 20)),
        ((500, 500, 9e99, 2000), rectangle(30, 20, WIDTH, HEIGHT)),
        ((1200, 0, 1500, 1000), rectangle(0, 0, 0, 0)),
        ((-900, 0, -100, 1000), rectangle(0, 0, 0, 0)),
        ((500, 500, 500, 900), rectangle(0, 0, 0, 0)),
        ((0, 0, float("inf"), 1000), rectangle(0, 0, WIDTH, HEIGHT)),
    ],
)
def test_what_lies_outside_is_cut_off(box: tuple[float, float, float, float], expected: np.ndarray) -> None:
    assert np.array_equal(box_mask(Box(*box), frame="0-1000", height=HEIGHT, width=WIDTH), expected)


@pytest.mark.parametrize("frame", ["0-1", "0-100", "0-1000", "pixel"])
def test_the_box_of_a_rectangle_gives_it_back(frame: FrameName) -> None:
    dice = np.random.default_rng(0)
    for _ in range(50):
        left, right = sorted(dice.choice(WIDTH + 1, 2, replace=False))
        top, bottom = sorted(dice.choice(HEIGHT + 1, 2, replace=False))
        mask = rectangle(left, top, right, bottom)
        again = box_mask(mask_box(mask, frame=frame), frame=frame, height=HEIGHT, width=WIDTH)
        assert np.array_equal(again, mask)


# --- asking


def test_history_is_chat_turns_and_earlier_masks_are_boxes_in_words(tmp_path: Path) -> None:
    stored = make_pictures(tmp_path)["p0"]
    request = Request(
        image_id="p0",
        history=(("What is left?", "It is [OBJ]the mug[SEG]."), ("And behind <mask><box> it?", "")),
        question="Segment its handle.",
        references=((), (rectangle(6, 10, 30, 30),), (rectangle(0, 0, 1, 1), rectangle(30, 20, 60, 40))),
    )
    prompt = box_prompt(request, stored, frame="0-1000")
    assert [tuple(turn) for turn in prompt.history] == [
        ("What is left?", "It is the mug."),
        (
            "And behind it? (The question speaks of what is in <box>(100,250),(500,750)</box>.)",
            NO_ANSWER,
        ),
    ]
    assert prompt.text == (
        "Segment its handle. (The question speaks of what is in <box>(0,0),(17,25)</box> and "
        "<box>(500,500),(1000,1000)</box>.)"
    )
    assert "x from 0 at the left edge of the picture to 1000 at its right edge" in prompt.system
    assert "no detected" in prompt.system
    assert (
        "in pixels, x from 0 at the left edge of the picture to 60 "
        in box_prompt(request, stored, frame="pixel").system
    )
    assert "(0.100,0.250),(0.500,0.750)" in box_prompt(request, stored, frame="0-1").history[1].question


def test_the_server_gets_chat_messages_with_the_picture_first(pictures: dict[str, Stored], tmp_path: Path) -> None:
    request = Request("p1", (("What is there?", "A mug."),), "Segment it.")
    with LlmServer(lambda _: "Here: <box>(100,250),(500,750)</box>") as server:
        model: Responds = open_box_model(server, pictures, tmp_path / "cache")
        (response,) = model.respond([request])
        (sent,) = server.requests
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "user"]
    first = sent["messages"][1]["content"]
    assert first[0] == {"type": "text", "text": "What is there?"}
    assert first[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert [message["content"] for message in sent["messages"][2:]] == ["A mug.", "Segment it."]
    assert "response_format" not in sent
    assert "JSON" not in sent["messages"][0]["content"]
    assert (response.answer, response.error, response.is_cut) == ("Here:", "", False)
    assert response.raw == "Here: <box>(100,250),(500,750)</box>"
    assert np.array_equal(response.groups[0].mask, rectangle(6, 10, 30, 30))
    assert response.seconds > 0


def test_boxes_beyond_the_frame_are_counted_because_the_frame_may_be_wrong(
    pictures: dict[str, Stored], tmp_path: Path
) -> None:
    with LlmServer(lambda _: "<box>(100,250),(500,750)</box><box>(1,1),(1,1)</box>") as server:
        model = open_box_model(server, pictures, tmp_path / "cache", frame="0-1")
        (response,) = model.respond([Request("p1", (), "Segment it.")])
    counts = model.counts()
    assert (counts.boxes, counts.beyond_frame, counts.empty) == (2, 1, 2)
    assert [group.mask.any() for group in response.groups] == [False, False]


def test_a_dialogue_without_picture_is_answered_in_words(pictures: dict[str, Stored], tmp_path: Path) -> None:
    with LlmServer(lambda _: "A mug <box>(1,2),(3,4)</box>.") as server:
        (response,) = open_box_model(server, pictures, tmp_path / "cache").respond([Request("", (), "What?")])
        assert "picture" not in server.requests[0]["messages"][0]["content"]
    assert (response.answer, response.groups) == ("A mug.", ())


def test_an_unknown_picture_is_an_error_and_a_missing_file_a_failed_answer(
    pictures: dict[str, Stored], tmp_path: Path
) -> None:
    with LlmServer(lambda _: "A mug.") as server:
        model = open_box_model(server, pictures, tmp_path / "cache")
        with pytest.raises(DataError, match="p9: a question is about this picture"):
            model.respond([Request("p9", (), "What?")])
        pictures["p1"].path.unlink()
        gone, fine = model.respond([Request("p1", (), "What?"), Request("p2", (), "What?")])
    assert "p1.png: the picture cannot be read" in gone.error
    assert (gone.answer, gone.groups) == ("", ())
    assert (fine.answer, fine.error) == ("A mug.", "")
    assert model.counts().answers == {"failed": 1, "no box": 1}


def test_refused_and_endless_answers_are_errors_with_their_text(pictures: dict[str, Stored], tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> Said:
        if "one" in request["messages"][-1]["content"][0]["text"]:
            return Said(refusal="I will not.")
        return Said("mug mug mug", finish_reason="length")

    with LlmServer(answer) as server:
        model = open_box_model(server, pictures, tmp_path / "cache")
        refused, endless = model.respond([Request("p1", (), "one"), Request("p1", (), "two")])
    assert (refused.error, refused.raw, refused.is_cut) == ("refused: I will not.", "I will not.", False)
    assert endless.error.startswith("truncated: ")
    assert (endless.raw, endless.is_cut) == ("mug mug mug", True)


def test_the_fingerprint_follows_what_decides_an_answer() -> None:
    assert fingerprint(config()) == fingerprint(config(provider="replay", recorded="somewhere"))
    others = [config("0-1"), config(model="other"), config(temperature=0.5), config(seed=2)]
    assert len({fingerprint(settings) for settings in (config(), *others)}) == 5


# --- a server that misbehaves


def requests(count: int = 24) -> list[Request]:
    return [
        Request(f"p{number % 3}", (("Hello?", "Yes."),) * (number % 2), f"Segment {number}.") for number in range(count)
    ]


def last_question(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    return content if isinstance(content, str) else str(content[0]["text"])


def good(request: dict[str, Any]) -> str:
    return f"Thing <box>(0,0),({100 + int(last_question(request).split()[1][:-1])},1000)</box>."


def at_first(instead: Answer) -> Answer:
    """The first call of every question is answered by `instead`."""
    seen: set[str] = set()

    def answering(request: dict[str, Any]) -> str | Said:
        is_first = last_question(request) not in seen
        seen.add(last_question(request))
        return instead(request) if is_first else good(request)

    return answering


def test_half_of_the_calls_failing_changes_nothing_and_nothing_is_paid_twice(
    pictures: dict[str, Stored], tmp_path: Path
) -> None:
    flip: dict[str, int] = {}

    def failing(request: dict[str, Any]) -> str | Said:
        place = flip[last_question(request)] = flip.get(last_question(request), 0) + 1
        which = place % 2 and int(last_question(request).split()[1][:-1]) % 4
        return (good(request), Said(status=500), Said(is_dropped=True), Said(good(request), is_half=True))[which]

    with LlmServer(failing) as server:
        first = open_box_model(server, pictures, tmp_path / "cache").respond(requests())
        attempts = server.attempts
        assert attempts == 24 + 18
        again = open_box_model(server, pictures, tmp_path / "cache").respond(requests())
        assert server.attempts == attempts
    with LlmServer(good) as server:
        calm = open_box_model(server, pictures, tmp_path / "calm").respond(requests())
    for one, other, third in zip(first, again, calm, strict=True):
        assert one.raw == other.raw == third.raw
        assert one.error == ""
        assert np.array_equal(one.groups[0].mask, third.groups[0].mask)


def test_a_third_of_garbage_is_kept_and_counted(pictures: dict[str, Stored], tmp_path: Path) -> None:
    with LlmServer(at_first(unreliable(good, share=0.3, seed=1))) as server:
        model = open_box_model(server, pictures, tmp_path / "cache")
        found = model.respond(requests(60))
    counts = model.counts()
    assert sum(counts.answers.values()) == len(found) == 60
    assert counts.answers["boxes"] == sum(bool(response.groups) for response in found) < 60
    assert counts.answers.get("failed", 0) == sum(bool(response.error) for response in found)
    assert all(response.raw for response in found)
    rubbish = [response for response in found if not response.groups]
    assert rubbish
    assert {response.answer for response in rubbish} & {"asdf ghjk %%% no json", '{"unknown": ["form"]}'}


PROGRAM = """
import sys
from pathlib import Path
from tests.llm_server import LlmServer
from tests.unit.evaluate.test_box_model import make_pictures, open_box_model, requests

folder = Path(sys.argv[1])
class Server:
    url = sys.argv[2]
model = open_box_model(Server(), make_pictures(folder), folder / "cache")
print(sum(len(response.groups) for response in model.respond(requests(40))))
"""


def test_a_kill_pays_at_most_the_calls_under_way_again(tmp_path: Path) -> None:
    paid: list[str] = []

    def answer(request: dict[str, Any]) -> Said:
        paid.append(last_question(request))
        return Said(good(request), delay_s=0.03)

    with LlmServer(answer) as server:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), server.url]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while len(paid) < 15 and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert 15 <= len(paid) < 40
        done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["40"]
    assert len(set(paid)) == 40
    assert len(paid) <= 40 + 4
