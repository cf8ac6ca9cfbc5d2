"""Records by key without holding their table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection

import pytest

from miras.card.shelf import RecordShelf, SeenPairs, temporary_index
from miras.dialogue.records import Region
from miras.errors import DataError
from miras.files import write_records


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Connection]:
    with temporary_index(tmp_path / "index") as index:
        yield index


def region(name: str, image: str, phrase: str = "é “x”") -> Region:
    return Region(region_id=name, image_id=image, phrase=phrase, mask=None)


def shelf_of(index: Connection, path: Path, regions: list[Region]) -> RecordShelf[Region]:
    write_records(path, regions)
    return RecordShelf(index, path, Region, key="region_id", group="image_id")


def test_records_come_back_by_key_and_by_group_in_the_order_of_the_file(index: Connection, tmp_path: Path) -> None:
    regions = [region("b", "2"), region("a", "1"), region("c", "2"), region("z'; DROP", "")]
    shelf = shelf_of(index, tmp_path / "t.jsonl", regions)
    assert list(shelf.values()) == regions
    assert (list(shelf), len(shelf), list(shelf.parts())) == (["b", "a", "c", "z'; DROP"], 4, ["2", "1", ""])
    assert list(shelf.of("2")) == [regions[0], regions[2]]
    assert "a" in shelf
    assert shelf.get("nobody") is None


def test_of_records_with_one_id_the_first_is_kept(index: Connection, tmp_path: Path) -> None:
    shelf = shelf_of(index, tmp_path / "t.jsonl", [region("a", "1", "first"), region("a", "1", "second")])
    assert [item.phrase for item in shelf.values()] == ["first"]


def test_two_shelves_share_an_index(index: Connection, tmp_path: Path) -> None:
    one = shelf_of(index, tmp_path / "1.jsonl", [region("a", "1")])
    other = shelf_of(index, tmp_path / "2.jsonl", [region("a", "2")])
    assert (one["a"].image_id, other["a"].image_id) == ("1", "2")


@pytest.mark.parametrize("line", ["{", "[]", '{"image_id": "1"}'])
def test_a_broken_line_is_named(index: Connection, tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(region("a", "1").model_dump_json() + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"t.jsonl:2: not a Region"):
        RecordShelf(index, path, Region, key="region_id")


def test_a_record_of_another_form_is_named_when_it_is_asked_for(index: Connection, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"region_id": "a", "colour": "red"}\n')
    shelf = RecordShelf(index, path, Region, key="region_id")
    with pytest.raises(DataError, match="not a Region"):
        shelf["a"]


def test_a_missing_table_is_told_with_its_stage(index: Connection, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; run the stage"):
        RecordShelf(index, tmp_path / "none.jsonl", Region, key="region_id")


def test_a_pair_is_new_once(index: Connection) -> None:
    seen = SeenPairs(index, "seen")
    assert [seen.is_new("train", "a"), seen.is_new("train", "a"), seen.is_new("val", "a")] == [True, False, True]
