"""The split is by picture, stable when data is added, and free of leaks."""

from __future__ import annotations

import hashlib
import json
from functools import reduce
from operator import add
from pathlib import Path

import pytest

from miras.dialogue.records import SPLITS, Dialogue, Picture, Split
from miras.errors import DataError
from miras.files import read_records, write_records
from miras.paths import Paths
from miras.quality.config import SplitConfig
from miras.quality.split import check_leaks, run, split_of
from tests.unit.quality.good_records import DataSet, good

SPLIT = SplitConfig(val_share=0.2, test_share=0.2, seed=0)


def data_set(count: int) -> DataSet:
    return reduce(add, (good(f"picture{number}") for number in range(count)))


def store_checked(paths: Paths, data: DataSet) -> None:
    write_records(paths.picture_table, data.pictures)
    write_records(paths.checked_regions, data.regions)
    write_records(paths.checked_dialogues, data.dialogues)


def splits(paths: Paths) -> dict[str, Split]:
    """Picture -> its split, as written."""
    return {
        dialogue.image_id: name for name in SPLITS for dialogue in read_records(paths.split_dialogues(name), Dialogue)
    }


def picture(content: str, name: str = "a") -> Picture:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Picture(image_id=name, file_name=f"{name}.png", height=1, width=1, sha256=sha256)


def test_all_dialogues_of_a_picture_go_to_one_split(paths: Paths, work: Path) -> None:
    data = data_set(30)
    store_checked(paths, data)
    run(paths=paths, work=work, split=SPLIT)
    written = [(item, name) for name in SPLITS for item in read_records(paths.split_dialogues(name), Dialogue)]
    assert sorted(item.dialogue_id for item, _ in written) == sorted(item.dialogue_id for item in data.dialogues)
    assert len({(item.image_id, name) for item, name in written}) == 30


def test_adding_pictures_moves_no_other(paths: Paths, work: Path) -> None:
    store_checked(paths, data_set(30))
    run(paths=paths, work=work, split=SPLIT)
    before = splits(paths)
    added = reduce(add, (good(f"added{number}") for number in range(30)))
    store_checked(paths, added + data_set(30))
    run(paths=paths, work=work, split=SPLIT)
    after = splits(paths)
    assert len(after) == 60
    assert {name: after[name] for name in before} == before


def test_shares_are_met_on_many_pictures() -> None:
    dealt = [
        split_of(picture(str(number)), SplitConfig(val_share=0.1, test_share=0.2, seed=3)) for number in range(4000)
    ]
    assert dealt.count("val") / 4000 == pytest.approx(0.1, abs=0.02)
    assert dealt.count("test") / 4000 == pytest.approx(0.2, abs=0.02)


def test_a_larger_val_share_leaves_the_test_pictures_alone() -> None:
    pictures = [picture(str(number)) for number in range(500)]
    larger = SPLIT.model_copy(update={"val_share": 0.4})
    for item in pictures:
        before, after = split_of(item, SPLIT), split_of(item, larger)
        assert before == after or (before, after) == ("train", "val")


def test_another_seed_gives_another_split() -> None:
    pictures = [picture(str(number)) for number in range(100)]
    other = SPLIT.model_copy(update={"seed": 1})
    assert [split_of(item, SPLIT) for item in pictures] != [split_of(item, other) for item in pictures]


def test_equal_files_under_two_names_stay_together() -> None:
    for number in range(100):
        assert split_of(picture(str(number), "a"), SPLIT) == split_of(picture(str(number), "b"), SPLIT)


def test_a_split_without_pictures_says_what_to_do(paths: Paths, work: Path) -> None:
    store_checked(paths, data_set(2))
    with pytest.raises(
        DataError, match=r"fell into .*: 2 pictures have dialogues.*raise params\.yaml: split\.val_share"
    ):
        run(paths=paths, work=work, split=SPLIT)
    assert not Path(paths.split).exists()


def test_a_dialogue_of_an_unknown_picture_is_named(paths: Paths, work: Path) -> None:
    data = data_set(3)
    store_checked(paths, DataSet(data.pictures[1:], data.regions, data.dialogues))
    with pytest.raises(DataError, match="picture0-prist: its picture picture0 is not in"):
        run(paths=paths, work=work, split=SPLIT)


def test_the_summary_adds_up(paths: Paths, work: Path) -> None:
    store_checked(paths, data_set(30))
    run(paths=paths, work=work, split=SPLIT)
    summary = json.loads(paths.split_summary.read_text("utf-8"))
    assert list(summary) == list(SPLITS)
    assert sum(part["pictures"] for part in summary.values()) == 30
    for part in summary.values():
        assert part["dialogues"] == 3 * part["pictures"] == sum(part["kinds"].values())
        assert part["turns"] == 5 * part["pictures"]  # 3 of PRIST, 1 query, 1 caption
        assert part["size_classes"]["coarse"] == {"count": 2 * part["pictures"], "share": 1.0}


def test_the_leak_check_is_kept_beside_the_splits(paths: Paths, work: Path) -> None:
    store_checked(paths, data_set(30))
    run(paths=paths, work=work, split=SPLIT)
    kept = json.loads(Path(paths.split, "validation.json").read_text("utf-8"))
    assert kept["success"] is True
    assert kept["rows"] == 90
    assert len(kept["results"]) == 3


def leak(one: DataSet, other: DataSet) -> str:
    """The message when one data set is trained on and the other tested on."""
    both = one + other
    with pytest.raises(DataError) as found:
        check_leaks(
            {"train": list(one.dialogues), "val": [], "test": list(other.dialogues)},
            {item.image_id: item for item in both.pictures},
            {region.region_id: region for region in both.regions},
        )
    return str(found.value)


def test_a_picture_in_two_splits_is_a_leak() -> None:
    data = good("a")
    halves = [DataSet(data.pictures, data.regions, data.dialogues[part]) for part in (slice(0, 1), slice(1, 3))]
    assert "picture a is in 2 splits" in leak(halves[0], halves[1])


def test_equal_content_and_text_in_two_splits_are_leaks() -> None:
    same = tuple(item.model_copy(update={"sha256": "a"}) for item in good("b").pictures)
    message = leak(good("a"), DataSet(same, good("b").regions, good("b").dialogues))
    assert "the content of picture a is in 2 splits" in message
    assert "the text of a-prist, with the same picture content, is in 2 splits" in message


def test_equal_texts_about_different_pictures_are_no_leak() -> None:
    both = good("a") + good("b")
    kept = check_leaks(
        {"train": list(good("a").dialogues), "val": [], "test": list(good("b").dialogues)},
        {item.image_id: item for item in both.pictures},
        {region.region_id: region for region in both.regions},
    )
    assert kept["success"] is True


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        SplitConfig(val_share=0.5, test_share=0.5, seed=0)
