"""Requests: their keys, their form, and the schema of the answer."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel

from miras.errors import DataError
from miras.llm.schema import answer_schema, is_strict
from miras.llm.wire import Fault, Prompt, body, make_request, read_reply
from tests.unit.llm.asked import Colour, model, prompt, service


def key(asked: Prompt, faults: tuple[Fault, ...] = (), limit: int = 50, **changes: Any) -> str:
    return make_request(asked, model(**changes), max_answer_tokens=limit, faults=faults).key


def test_all_that_can_change_the_answer_changes_the_key_and_nothing_else_does(tmp_path: Path) -> None:
    pictures = []
    for shade in (10, 20):
        pictures.append(tmp_path / f"{shade}.png")
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(pictures[-1])
    one, two = Fault("a", "b"), Fault("c", "d")
    keys = [
        key(prompt(1)),
        key(prompt(2)),
        key(prompt(1, picture=pictures[0])),
        key(prompt(1, picture=pictures[1])),
        key(prompt(1), (one,)),
        key(prompt(1), (two, one)),
        key(prompt(1), limit=100),
        key(prompt(1), temperature=1.0),
        key(prompt(1), temperature=None),
        key(prompt(1), seed=2),
        key(prompt(1), model="other"),
        key(prompt(1), schema_support="none"),
    ]
    assert len(set(keys)) == len(keys)
    moved = tmp_path / "moved.png"
    moved.write_bytes(pictures[0].read_bytes())
    assert key(prompt(1, picture=moved)) == keys[2]
    assert key(prompt(1), max_repairs=0, provider="replay", recorded="x") == keys[0]


def test_a_picture_goes_as_it_is_and_one_that_vanished_is_named(tmp_path: Path) -> None:
    picture = tmp_path / "a picture's.jpg"
    Image.new("RGB", (8, 8)).save(picture)
    request = make_request(prompt(picture=picture), model(), max_answer_tokens=5)
    address = body(request, service(""))["messages"][1]["content"][1]["image_url"]["url"]
    assert address.startswith("data:image/jpeg;base64,")
    assert base64.b64decode(address.partition(",")[2]) == picture.read_bytes()
    picture.unlink()
    with pytest.raises(DataError, match=r"picture's\.jpg: the picture cannot be read"):
        body(request, service(""))
    picture.write_text("no picture")
    with pytest.raises(DataError, match="not a picture that servers take"):
        make_request(prompt(picture=picture), model(), max_answer_tokens=5)


class Part(BaseModel):
    name: str = "x"
    title: int = 0


class Nested(BaseModel):
    default: str = "a property of this name stays"
    parts: list[Part] = []
    main: Part | None = None


class Free(BaseModel):
    values: dict[str, int]


def test_schemas_are_closed_and_say_whether_they_can_be_held_to() -> None:
    schema = answer_schema(Nested)
    assert schema["required"] == ["default", "parts", "main"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Part"]["required"] == ["name", "title"]
    assert "default" not in schema["$defs"]["Part"]["properties"]["name"]
    assert is_strict(schema)
    assert not is_strict(answer_schema(Free))


def test_servers_without_schemas_get_the_schema_in_the_text() -> None:
    for support, form in (("none", None), ("json_object", {"type": "json_object"})):
        request = make_request(prompt(), model(schema_support=support), max_answer_tokens=5)
        made = body(request, service("http://localhost/v1"))
        assert made.get("response_format") == form
        assert json.dumps(answer_schema(Colour)) in made["messages"][0]["content"]
        assert made["max_tokens"] == 5
    made = body(make_request(prompt(), model(), max_answer_tokens=5), service(""))
    assert made["response_format"]["json_schema"]["strict"] is True
    assert made["max_completion_tokens"] == 5


@pytest.mark.parametrize("response", [None, [], {}, {"choices": []}, {"error": {"message": "no"}}, {"choices": [3]}])
def test_what_is_no_completion_is_refused(response: Any) -> None:
    with pytest.raises(ValueError, match="not a chat completion"):
        read_reply(response)
