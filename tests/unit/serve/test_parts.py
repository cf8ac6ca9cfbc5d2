"""The parts of the server that need no connection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from miras.config import read_yaml
from miras.dialogue.masks import encode
from miras.dialogue.rendering import OBJ, SEG, plain_text
from miras.errors import ConfigError
from miras.model.decoding import Prefix
from miras.model.records import Group, Response
from miras.model.talk import Kept, Talk
from miras.serve.asking import Delta
from miras.serve.config import SERVE, read_serve_config
from miras.serve.dialogues import NOWHERE, Target, marked_text, state_key, targets_of
from miras.serve.gate import MAX_CLIENTS, Pace
from miras.serve.refusals import RefusedError
from miras.serve.segment import form_fields
from miras.serve.server import listen, public_name
from miras.serve.shelf import Remembered, Shelf
from tests.unit.serve.conftest import LIMITS, picture

ROOT = Path(__file__).parents[3]
MASK = np.zeros((4, 6), bool)
MASK[1:3, 2:5] = True


def response(answer: str, *phrases: str) -> Response:
    return Response(answer=answer, groups=tuple(Group(phrase, MASK, 0.9) for phrase in phrases), seconds=0.0)


@pytest.mark.parametrize(
    ("answer", "phrases", "read"),
    [
        (f"It is {OBJ} the mug {SEG} .", ["the mug"], f"It is {OBJ}the mug{SEG}."),
        (f"the mug on {OBJ}the mug{SEG}", ["the mug"], f"the mug on {OBJ}the mug{SEG}"),
        (f"{OBJ}a{SEG} {OBJ}a{SEG} a", ["a", "a"], f"{OBJ}a{SEG} {OBJ}a{SEG} a"),
        (f"{SEG} nothing {OBJ}a {OBJ}b{SEG}", ["", "b"], f"nothing a {OBJ}b{SEG}"),
        (f"so [REF]{OBJ}red  , cup{SEG}, yes", ["red  , cup"], f"so {OBJ}red, cup{SEG}, yes"),
        ("no target here", [], "no target here"),
    ],
)
def test_an_answer_given_back_is_read_with_its_markers(answer: str, phrases: list[str], read: str) -> None:
    targets = targets_of(response(answer, *phrases))
    assert marked_text(plain_text(answer), targets, where="answer") == read
    assert [target.start == NOWHERE for target in targets] == [not phrase for phrase in phrases]
    assert all(target.box_xyxy == (2, 1, 5, 3) and target.score == 0.9 for target in targets)


def test_targets_made_up_without_places_are_found_in_order() -> None:
    code = encode(MASK)
    targets = [Target(phrase="a mug", mask=code), Target(phrase="a mug", mask=code)]
    assert marked_text("a mug or a mug", targets, where="") == f"{OBJ}a mug{SEG} or {OBJ}a mug{SEG}"
    with pytest.raises(RefusedError, match="does not stand"):
        marked_text("a mug", targets, where="")


def test_a_stream_is_only_ever_added_to() -> None:
    steps = [
        "I",
        "I do",
        "I do n",
        "I don't",
        "I don't know",
        "I don't know \ufffd",
        "I don't know é",
        "I don't know é.",
    ]
    delta = Delta()
    pieces = [delta.next(step) for step in steps] + [delta.next(steps[-1], is_whole=True)]
    assert "".join(pieces) == steps[-1]
    assert "\ufffd" not in "".join(pieces)
    assert pieces[0] == "I"
    assert sum(map(bool, pieces)) > 3


def test_a_pace_is_spent_at_once_or_spread_and_each_client_has_its_own() -> None:
    now = [0.0]
    pace = Pace(60, clock=lambda: now[0])
    for _ in range(60):
        pace.take("a")
    for _ in range(3):  # asking in vain does not make it longer
        with pytest.raises(RefusedError) as error:
            pace.take("a")
        assert error.value.retry_after_s == 1
    pace.take("b")
    now[0] = 1.0
    pace.take("a")
    with pytest.raises(RefusedError):
        pace.take("a")
    for number in range(MAX_CLIENTS + 5):
        pace.take(f"client {number}")
    assert len(pace._left) == MAX_CLIENTS


def kept_talk(size: int) -> Talk:
    """A dialogue with so many bytes of keys and values."""
    part = torch.zeros(1, size // 8, 1)
    return Talk(picture(), kept=Kept(image_tokens=torch.zeros(1)), prefix=Prefix((1, 2), ((part, part),)))


def test_the_shelf_finds_what_has_most_in_common_and_stays_within_its_bound() -> None:
    shelf = Shelf(3000)
    first, longer, other = kept_talk(800), kept_talk(1200), kept_talk(800)
    shelf.keep([(first, ["p", "p1"])])
    shelf.keep([(longer, ["p", "p1", "p12"])])
    assert len(shelf) == 1  # the longer one took the place of its beginning
    shelf.keep([(other, ["p", "q1"])])
    assert shelf.find(["p", "p1", "p12"]).turns == 2
    found = shelf.find(["p", "p1", "p13"])
    assert found.turns == 1
    assert found.holder is not None
    assert found.holder.prefix is longer.prefix
    assert found.holder.picture.size == (1, 1)
    assert shelf.find(["x"]).holder is None
    shelf.keep([(kept_talk(1600), ["z", "z1"])])
    assert shelf.find(["p", "p1", "p12"]).turns == 0  # the one that was not used for longest has gone
    assert shelf.memory.num_bytes <= 3000
    assert shelf.memory.dropped == 1
    shelf.keep([(kept_talk(80), ["t", "t1"]), (kept_talk(80), ["t", "t1"])])  # the same dialogue twice in a batch
    assert len(shelf._keys) == len(shelf.memory._talks)
    shelf.clear()
    assert len(shelf) == 0
    assert shelf.find(["p", "q1"]).holder is None
    assert shelf.memory.num_bytes == 0


def test_marks_are_remembered_within_a_bound() -> None:
    remembered = Remembered(3000)
    target = Target(phrase="a mug", mask=encode(MASK))
    for number in range(10):
        remembered.put(f"{number}", (target,))
        remembered.put("again", (target,))
        remembered.get("0")
    assert remembered.get("9") == (target,)
    assert remembered.get("0") == (target,)  # was asked for
    assert remembered.get("2") is None
    assert remembered._bytes <= 3000


def test_other_marks_make_another_dialogue() -> None:
    target, moved = Target(phrase="a", mask=encode(MASK)), Target(phrase="a", mask=encode(~MASK))
    keys = {state_key("k", "a b", marks) for marks in ([], [target], [moved], [target, moved])}
    keys |= {state_key("k", "ab", []), state_key("other", "a b", [])}
    assert len(keys) == 6


def test_a_forms_bytes_are_taken_as_they_are() -> None:
    value = bytes(range(256)) + b"\r\n--y\r\n\n\r--"
    head = b'Content-Disposition: form-data; name="pic\xc3\xa4"; filename="../../<b>.png"\r\nContent-Type: image/png'
    content = b"--x\r\n" + head + b"\r\n\r\n" + value + b"\r\n--x--\r\n"
    ((_, found),) = form_fields(content, 'multipart/form-data; boundary="x"')
    assert found == value


def test_the_configuration_that_is_delivered_is_read_and_faults_are_named(tmp_path: Path) -> None:
    assert read_serve_config(ROOT / SERVE).host == "127.0.0.1"
    assert set(read_yaml(ROOT / SERVE)) == set(LIMITS)
    path = tmp_path / "serve.yaml"
    path.write_text((ROOT / SERVE).read_text().replace("max_batch: 8", "max_bach: 8").replace("8080", "'x'"))
    with pytest.raises(ConfigError, match=r"(?s)port.*max_bach: unknown key; did you mean max_batch"):
        read_serve_config(path)


def test_a_key_that_is_not_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_serve_config(ROOT / SERVE).model_copy(update={"api_key_variable": "MIRAS_NO_SUCH_KEY"})
    monkeypatch.delenv("MIRAS_NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="MIRAS_NO_SUCH_KEY is not set"):
        config.api_key()


def test_clients_see_a_name_and_no_path() -> None:
    assert public_name("models:/miras@champion") == "miras"
    assert public_name("models:/miras/3") == "miras"
    assert public_name("/home/somebody/exported/") == "exported"


def test_a_port_in_use_is_an_error() -> None:
    taken = listen("127.0.0.1", 0)
    taken.listen()
    with pytest.raises(ConfigError, match="cannot listen there"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()
