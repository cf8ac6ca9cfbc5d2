"""Walking through JSON files: every element comes with the place from which it can be read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import pytest

from miras.errors import DataError
from miras.sources import json_elements
from miras.sources.json_elements import element_at, walk

VALUE = {"a": [{"n": 12, "t": "Käse \\" + '"]}'}, [1, [2]], 34, "x", None, 1.5e3], "b": [], "c": {"d": [1]}, "é": -7}


@pytest.mark.parametrize("chunk", [1, 2, 7, 4096])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_elements_are_those_of_the_file_whatever_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, ascii_only: bool
) -> None:
    monkeypatch.setattr(json_elements, "CHUNK_BYTES", chunk)
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(VALUE, ensure_ascii=ascii_only, indent=1).encode())
    found = list(walk(path, lists=("a", "b")))
    assert [item.value for item in found] == [*VALUE["a"], VALUE["c"], VALUE["é"]]
    with path.open("rb") as file:
        assert [element_at(file, item.offset, item.length) for item in found] == [item.value for item in found]


def test_a_list_comes_element_by_element(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(" [1, {}, [2]] ")
    assert [(item.member, item.value) for item in walk(path)] == [("", 1), ("", {}), ("", [2])]


@pytest.mark.parametrize("text", ["", "7", "[1, 2", "[1 2]", '{"a" 1}', "{1: 2}", "[1] x", "[tru]", "[1,]", "[" * 9999])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not JSON, or cut off"):
        list(walk(path))


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes('["Käse"]'.encode("cp1252"))
    with pytest.raises(DataError, match="UTF-8"):
        list(walk(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        list(walk(tmp_path / "gone.json"))


def test_a_quote_that_is_never_closed_is_not_searched_through_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_elements, "CHUNK_BYTES", 100)
    monkeypatch.setattr(json_elements, "MAX_ELEMENT_BYTES", 1000)
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"b": "' + "x" * 100_000 + "]")
    with path.open("rb") as file:
        elements = json_elements._list(_opened(file, path), member="")
        assert next(elements).value == {"a": 1}
        with pytest.raises(DataError, match="not JSON, or cut off"):
            next(elements)
        assert file.tell() < 10_000


def _opened(file: BinaryIO, path: Path) -> json_elements._Text:
    text = json_elements._Text(file, path)
    text.take("[", "a list")
    return text
