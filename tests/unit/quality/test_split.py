"""The split is by picture, stable when data is added, and free of leaks."""

from __future__ import annotations

import hashlib
import json
import os
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miras.dialogue.records import SPLITS, Dialogue, Picture, Rejected, Split, Turn
from miras.errors import ConfigError, DataError
from miras.files import read_records, write_records
from miras.paths import Paths
from miras.quality.config import SplitConfig
from miras.quality.dealing import split_of
from miras.quality.leaks import Dealt, check_leaks
from miras.quality.split import run
from tests.unit.quality.good_records import DataSet, good

SPLIT = SplitConfig(val_share=0.2, test_share=0.2, seed=0, keep_split=False, ledger=os.devnull, near_duplicate_bits=7)


def data_set(count: int) -> DataSet:
    return reduce(add, (good(f"picture{number}") for number in range(count)))


def store_checked(paths: Paths, data: DataSet) -> None:
    write_records(paths.picture_table, data.pictures)
    write_records(paths.checked_regions, data.regions)
    write_records(paths.checked_dialogues, data.dialogues)
    paths.pictures.mkdir(parents=True, exist_ok=True)
    for item in data.pictures:
        if not (paths.pictures / item.file_name).exists():
            noise(item.file_name).save(paths.pictures / item.file_name)


def noise(seed: str, *, side_px: int = 32) -> Image.Image:
    """Another picture for another seed, in large patches that survive compression."""
    values = np.random.default_rng(list(seed.encode())).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(values).resize((side_px, side_px), Image.Resampling.BICUBIC)


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
        split_of(picture(str(number)).sha256, SPLIT.model_copy(update={"val_share": 0.1, "seed": 3}))
        for number in range(4000)
    ]
    assert dealt.count("val") / 4000 == pytest.approx(0.1, abs=0.02)
    assert dealt.count("test") / 4000 == pytest.approx(0.2, abs=0.02)


def test_a_larger_val_share_leaves_the_test_pictures_alone() -> None:
    pictures = [picture(str(number)) for number in range(500)]
    larger = SPLIT.model_copy(update={"val_share": 0.4})
    for item in pictures:
        before, after = split_of(item.sha256, SPLIT), split_of(item.sha256, larger)
        assert before == after or (before, after) == ("train", "val")


def test_another_seed_gives_another_split() -> None:
    pictures = [picture(str(number)) for number in range(100)]
    other = SPLIT.model_copy(update={"seed": 1})
    assert [split_of(item.sha256, SPLIT) for item in pictures] != [split_of(item.sha256, other) for item in pictures]


def test_equal_files_under_two_names_stay_together() -> None:
    for number in range(100):
        assert split_of(picture(str(number), "a").sha256, SPLIT) == split_of(picture(str(number), "b").sha256, SPLIT)


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
    assert kept["rows"] == 30
    assert len(kept["results"]) == 3


def dealt(name: str, split: Split, **values: object) -> Dealt:
    """A picture that looks like no other, but for what is given."""
    alone = {"image_id": name, "content": name, "look": sum(name.encode())}
    return Dealt(split=split, **(alone | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("common", "message"),
    [
        ({"image_id": "a"}, "picture a is in 2 splits"),
        ({"content": "a"}, "the content of picture b is in 2 splits"),
        ({"look": 97}, "picture b and pictures that look nearly the same are in 2 splits"),
    ],
)
def test_what_two_splits_have_in_common_is_a_leak(common: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as found:
        check_leaks([dealt("a", "train"), dealt("b", "test", **common)])
    assert message in str(found.value)


def test_different_pictures_in_different_splits_are_no_leak() -> None:
    assert check_leaks([dealt("a", "train"), dealt("b", "test")])["success"] is True


def copied(paths: Paths, data: DataSet, names: dict[str, str]) -> None:
    """Makes the picture of each key a smaller, recompressed copy of the other's."""
    for item in data.pictures:
        if original := names.get(item.image_id):
            noise(f"{original}.png").resize((24, 24)).save(paths.pictures / item.file_name, "JPEG", quality=80)


def test_pictures_that_look_nearly_the_same_stay_together(paths: Paths, work: Path) -> None:
    data = data_set(30)
    copies = {f"picture{number}": f"picture{number + 1}" for number in range(0, 20, 2)}
    store_checked(paths, data)
    copied(paths, data, copies)
    run(paths=paths, work=work, split=SPLIT)
    written = splits(paths)
    assert all(written[copy] == written[original] for copy, original in copies.items())
    apart = {name: split_of(name, SPLIT) for name in written}  # sha256 of these records is the name
    assert any(apart[copy] != apart[original] for copy, original in copies.items())


def test_a_killed_run_goes_on_with_the_looks_it_has(paths: Paths, work: Path) -> None:
    data = data_set(30)
    store_checked(paths, data)
    run(paths=paths, work=work, split=SPLIT)
    before, looks = splits(paths), work / "looks.tsv"
    lines = looks.read_text("utf-8").splitlines(keepends=True)
    looks.write_text("".join(lines[:12]) + lines[12][:40], "utf-8")
    read_already = [line.split("\t")[0] for line in lines[:12] if line.strip()]
    for name in read_already:
        (paths.pictures / f"{name}.png").unlink()
    run(paths=paths, work=work, split=SPLIT)
    assert splits(paths) == before


def test_a_broken_picture_is_named(paths: Paths, work: Path) -> None:
    store_checked(paths, data_set(3))
    (paths.pictures / "picture1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"picture1\.png: cannot be read"):
        run(paths=paths, work=work, split=SPLIT)


def test_a_ledger_keeps_every_picture_and_fills_the_shares(paths: Paths, work: Path, tmp_path: Path) -> None:
    kept = SPLIT.model_copy(update={"keep_split": True, "ledger": str(tmp_path / "kept.jsonl")})
    store_checked(paths, data_set(20))
    run(paths=paths, work=work, split=kept)
    before = splits(paths)
    assert [list(before.values()).count(name) for name in SPLITS] == [12, 4, 4]
    added = reduce(add, (good(f"added{number}") for number in range(20)))
    store_checked(paths, added + data_set(20))
    run(paths=paths, work=work, split=kept)
    after = splits(paths)
    assert {name: after[name] for name in before} == before
    assert [list(after.values()).count(name) for name in SPLITS] == [24, 8, 8]


def test_a_picture_that_looks_like_two_splits_is_left_out_and_told(paths: Paths, work: Path, tmp_path: Path) -> None:
    kept = SPLIT.model_copy(update={"keep_split": True, "ledger": str(tmp_path / "kept.jsonl")})
    data = data_set(20)
    store_checked(paths, data)
    run(paths=paths, work=work, split=kept)
    before = splits(paths)
    one, other = (next(name for name in before if before[name] == split) for split in ("train", "test"))
    # Between the two in small steps: each step looks like the next, so the chain connects them.
    bridge = [good(f"step{number}") for number in range(24)]
    store_checked(paths, reduce(add, bridge) + data)
    for number, step in enumerate(bridge):
        mixed = Image.blend(noise(f"{one}.png"), noise(f"{other}.png"), (number + 1) / 25)
        mixed.save(paths.pictures / step.pictures[0].file_name)
    run(paths=paths, work=work, split=kept.model_copy(update={"near_duplicate_bits": 12}))
    after = splits(paths)
    assert {name: after[name] for name in before} == before
    left_out = list(read_records(Path(paths.split) / "left_out.jsonl", Rejected))
    written = sum(1 for name in SPLITS for _ in read_records(paths.split_dialogues(name), Dialogue))
    assert written + len(left_out) == 3 * 44
    assert len(left_out) == 3 * 24
    assert "looks nearly the same as pictures that are kept in different splits" in left_out[0].reason


@pytest.mark.parametrize("content", [None, "whatever it holds\n"])
def test_a_ledger_that_is_not_followed_is_left_as_it_is(
    paths: Paths, work: Path, tmp_path: Path, content: str | None
) -> None:
    ledger = tmp_path / "kept.jsonl"
    if content is not None:
        ledger.write_text(content)
    store_checked(paths, data_set(20))
    run(paths=paths, work=work, split=SPLIT.model_copy(update={"ledger": str(ledger)}))
    assert ledger.read_text() == (content or "")


def test_a_ledger_of_another_seed_is_refused(paths: Paths, work: Path, tmp_path: Path) -> None:
    kept = SPLIT.model_copy(update={"keep_split": True, "ledger": str(tmp_path / "kept.jsonl")})
    store_checked(paths, data_set(20))
    run(paths=paths, work=work, split=kept)
    with pytest.raises(ConfigError, match=r"kept\.jsonl: made with split\.seed 0, and params\.yaml says 1"):
        run(paths=paths, work=work, split=kept.model_copy(update={"seed": 1}))


def test_dialogues_without_picture_are_dealt_by_their_id(paths: Paths, work: Path) -> None:
    data = data_set(30)
    talk = Turn(question="What is a mug?", answer="A cup with a handle.")
    alone = tuple(
        Dialogue(dialogue_id=f"talk{number}", image_id="", kind="vqa", focus="", turns=(talk,)) for number in range(40)
    )
    store_checked(paths, DataSet(data.pictures, data.regions, data.dialogues + alone))
    run(paths=paths, work=work, split=SPLIT)
    summary = json.loads(paths.split_summary.read_text("utf-8"))
    assert sum(part["pictures"] for part in summary.values()) == 30
    assert sum(part["dialogues"] for part in summary.values()) == 130


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        SplitConfig(**SPLIT.model_dump() | {"val_share": 0.5, "test_share": 0.5})
