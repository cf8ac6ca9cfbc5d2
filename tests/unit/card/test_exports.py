"""Exports: what was written is read again and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from miras.card.exports import FORMATS, export
from miras.dialogue import masks
from miras.dialogue.records import Picture, Rejected
from miras.errors import ConfigError, DataError
from miras.files import read_records, write_records
from miras.paths import Paths
from miras.sources import coco, mrseg, prist
from miras.sources.limits import ReadLimits
from miras.sources.mrseg_masks import MaskFiles
from miras.sources.pictures import FilePicture
from miras.sources.records import Original
from tests.unit.card.conftest import HEIGHT, NAMES, WIDTH, dialogues_of, regions_of, store_dialogues
from tests.unit.card.conftest import prist as prist_dialogue

LIMITS = ReadLimits(max_pictures=100, max_megapixels=1, ignore_categories=())


def pictures_of(items: Any) -> list[FilePicture]:
    """The pictures of a reader; nothing may be rejected."""
    found = list(items)
    assert not [item for item in found if isinstance(item, Rejected)]
    return found


def rejected(into: Path) -> list[Rejected]:
    return list(read_records(into / "rejected.jsonl", Rejected))


def masks_by_phrase(picture: FilePicture) -> dict[str, np.ndarray]:
    return {region.phrase: masks.decode(region.mask) for region in picture.regions if region.mask}


def test_coco_is_read_back_with_the_same_masks(paths: Paths, tmp_path: Path) -> None:
    into = tmp_path / "coco"
    done = export(paths, "coco", into)
    assert (done.pictures, done.regions, done.dialogues, done.rejected) == (3, 12, 0, 0)
    assert sum(done.left_out.values()) == 16
    for name, split in zip(NAMES, ("train", "val", "test"), strict=True):
        file = into / f"instances_{split}.json"
        (picture,) = pictures_of(coco.read(coco.CocoSource(reader="coco", annotations=str(file)), limits=LIMITS))
        expected = [region for region in regions_of(name) if region.mask]
        assert [region.mask for region in picture.regions] == [region.mask for region in expected]
        assert [region.category for region in picture.regions] == [region.category for region in expected]
        annotations = json.loads(file.read_text("utf-8"))["annotations"]
        assert [item["phrase"] for item in annotations] == [region.phrase for region in expected]
        assert [item["parent_id"] for item in annotations] == [None, annotations[0]["id"], None, None]
        assert [item["iscrowd"] for item in annotations] == [0, 0, 0, 1]


def test_coco_opens_with_pycocotools(paths: Paths, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    export(paths, "coco", tmp_path / "coco", split="val")
    opened = COCO(str(tmp_path / "coco" / "instances_val.json"))
    annotation = opened.loadAnns(opened.getAnnIds(catIds=opened.getCatIds(catNms=["lamp"])))[0]
    assert opened.annToMask(annotation).sum() == annotation["area"] == masks.area_px(regions_of("b")[2].mask)
    assert annotation["bbox"] == [10, 10, 70, 50]
    assert not (tmp_path / "coco" / "instances_train.json").exists()


def test_prist_is_read_back_exactly(paths: Paths, tmp_path: Path) -> None:
    into = tmp_path / "prist"
    done = export(paths, "prist", into)
    assert (done.dialogues, done.regions, done.rejected) == (6, 6, 0)
    assert done.left_out == {"mrseg": 3, "referring": 3, "caption": 3, "vqa": 1}
    for name, split in zip(NAMES, ("train", "val", "test"), strict=True):
        (picture,) = read_prist(into, split)
        expected = [dialogue for dialogue in dialogues_of(name) if dialogue.kind == "prist"]
        assert [item.focus for item in picture.dialogues] == [item.focus for item in expected]
        for found, wanted in zip(picture.dialogues, expected, strict=True):
            assert [(turn.question, turn.answer) for turn in found.turns] == [
                (turn.question, turn.answer) for turn in wanted.turns
            ]
        wanted_masks = {region.phrase: masks.decode(region.mask) for region in regions_of(name) if region.mask}
        for phrase, mask in masks_by_phrase(picture).items():
            assert np.array_equal(mask, wanted_masks[phrase])


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_prist_export_that_is_imported_is_exported_as_it_was(paths: Paths, tmp_path: Path) -> None:
    store_dialogues(paths, "train", [dialogue for name in NAMES for dialogue in dialogues_of(name)])
    into = tmp_path / "first"
    export(paths, "prist", into, split="train")
    again = imported(read_prist(into, "train"), tmp_path / "again")
    export(again, "prist", tmp_path / "second", split="train")
    assert files_in(into) == files_in(tmp_path / "second")
    assert len(files_in(into)) == 3 + 3 + 3  # pictures, masks; records, manifest, rejected


def imported(found: list[FilePicture], folder: Path) -> Paths:
    """The data set that ingest and split would make of a reader's pictures, all in train."""
    paths = Paths(**{name: str(folder / name) for name in Paths.model_fields})
    paths.pictures.mkdir(parents=True)
    for picture in found:
        (paths.pictures / f"{picture.image_id}{picture.suffix}").write_bytes(picture.content)
    pictures = [
        Picture(
            image_id=item.image_id,
            file_name=f"{item.image_id}{item.suffix}",
            height=HEIGHT,
            width=WIDTH,
            sha256=item.image_id,
        )
        for item in found
    ]
    write_records(paths.picture_table, pictures)
    write_records(paths.checked_regions, [region for item in found for region in item.regions])
    write_records(paths.source_originals, [original for item in found for original in item.originals])
    write_records(paths.split_dialogues("train"), [dialogue for item in found for dialogue in item.dialogues])
    return paths


def read_prist(into: Path, split: str) -> list[FilePicture]:
    source = prist.PristSource(
        reader="prist",
        records=str(into / f"{split}.json"),
        pictures=str(into / "pictures"),
        masks=str(into / "masks"),
        manifest=str(into / f"manifest_{split}.json"),
    )
    return pictures_of(prist.read(source, limits=LIMITS))


def test_foci_that_contain_each_other_are_settled_by_the_manifest(paths: Paths, tmp_path: Path) -> None:
    told = [
        prist_dialogue("a", 0, region="lamp", focus="lamp"),
        prist_dialogue("a", 1, region="mug", focus="mug"),
        prist_dialogue("a", 2, region="handle", focus="handle of the mug"),
        prist_dialogue("a", 3, region="mug", focus="mug"),
    ]
    store_dialogues(paths, "train", told)
    export(paths, "prist", tmp_path / "prist", split="train")
    (picture,) = read_prist(tmp_path / "prist", "train")
    assert len(picture.dialogues) == 4
    area = {region.phrase: masks.area_px(region.mask) for region in picture.regions if region.mask}
    assert (area["mug"], area["handle of the mug"]) == (26 * 26, 4 * 12)
    manifest = json.loads((tmp_path / "prist" / "manifest_train.json").read_text())
    assert [(item["index"], item["others"], item["case"]) for item in manifest] == [
        (1, [3], "duplicate"),
        (3, [1], "duplicate"),
    ]


def test_what_prist_cannot_hold_is_listed(paths: Paths, tmp_path: Path) -> None:
    told = [
        prist_dialogue("a", 0, region="lamp", focus="lamp"),
        prist_dialogue("a", 1, region="mug", focus="Lamp"),
        prist_dialogue("a", 2, region="dust", focus="dust"),
        prist_dialogue("a", 3, region="gone", focus="gone"),
        prist_dialogue("nowhere", 4, region="mug", focus="mug"),
    ]
    store_dialogues(paths, "train", told)
    done = export(paths, "prist", tmp_path / "prist", split="train")
    assert (done.dialogues, done.rejected) == (1, 4)
    reasons = [item.reason for item in rejected(tmp_path / "prist")]
    for reason, part in zip(
        reasons, ("names a/mug", "has no mask", "region of the data set", "region of"), strict=True
    ):
        assert part in reason
    assert len(json.loads((tmp_path / "prist" / "train.json").read_text())) == 1


def test_an_imported_prist_file_comes_out_as_it_was(paths: Paths, tmp_path: Path) -> None:
    dialogue = prist_dialogue("a", 0, region="lamp", focus="lamp")
    texts = [text for turn in dialogue.turns for text in (turn.question, turn.answer.replace("{target}", "[SEG]"))]
    texts[1] += " "  # a blank that the reader drops
    messages = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]
    record = {"img_id": "00ff.jpg", "dialogue": messages, "focus": "lamp"}
    store_dialogues(paths, "train", [dialogue])
    write_records(paths.source_originals, [Original(dialogue_id=dialogue.dialogue_id, record=record)])
    export(paths, "prist", tmp_path / "prist", split="train")
    assert json.loads((tmp_path / "prist" / "train.json").read_text()) == [record]
    assert (tmp_path / "prist" / "pictures" / "00ff.jpg").is_file()
    assert (tmp_path / "prist" / "masks" / "00ff.json").is_file()


def test_mrseg_is_read_back_with_masks_and_references(paths: Paths, tmp_path: Path) -> None:
    into = tmp_path / "mrseg"
    done = export(paths, "mrseg", into, split="train")
    assert (done.dialogues, done.left_out, done.regions, done.rejected) == (5, {"vqa": 1}, 3, 0)
    source = mrseg.MrsegSource(
        reader="mrseg",
        conversations=str(into / "train.json"),
        pictures=str(into / "pictures"),
        masks={"miras": MaskFiles(form="rle", path=str(into / "masks_train.json"))},
    )
    (picture,) = pictures_of(mrseg.read(source, limits=LIMITS))
    two_turns = next(dialogue for dialogue in picture.dialogues if len(dialogue.turns) == 2)
    by_id = {region.region_id: region for region in picture.regions}
    assert [turn.refers_to for turn in two_turns.turns] == [(), (0,)]
    assert [by_id[turn.targets[0]].mask for turn in two_turns.turns] == [region.mask for region in regions_of("a")[:2]]


def test_an_mrseg_export_that_is_imported_is_exported_as_it_was(paths: Paths, tmp_path: Path) -> None:
    into = tmp_path / "first"
    export(paths, "mrseg", into, split="train")
    source = mrseg.MrsegSource(
        reader="mrseg",
        conversations=str(into / "train.json"),
        pictures=str(into / "pictures"),
        masks={"miras": MaskFiles(form="rle", path=str(into / "masks_train.json"))},
    )
    again = imported(pictures_of(mrseg.read(source, limits=LIMITS)), tmp_path / "again")
    export(again, "mrseg", tmp_path / "second", split="train")
    assert files_in(into) == files_in(tmp_path / "second")
    assert len(json.loads((into / "masks_train.json").read_text())) == 3


def test_an_original_cannot_lead_out_of_the_export(paths: Paths, tmp_path: Path) -> None:
    record = {"img_id": "../../evil.png", "dialogue": [], "focus": "x"}
    write_records(paths.source_originals, [Original(dialogue_id="a-prist-0", record=record)])
    done = export(paths, "prist", tmp_path / "out" / "prist", split="train")
    assert done.rejected == 1
    assert "leads out" in rejected(tmp_path / "out" / "prist")[0].reason
    assert not list(tmp_path.rglob("evil.png"))


def test_two_pictures_of_one_name_do_not_replace_each_other(paths: Paths, tmp_path: Path) -> None:
    store_dialogues(paths, "train", [*dialogues_of("a")[:1], *dialogues_of("b")[:1]])
    originals = [
        Original(dialogue_id=f"{name}-prist-0", record={"img_id": "same.png", "dialogue": [], "focus": "x"})
        for name in "ab"
    ]
    write_records(paths.source_originals, originals)
    done = export(paths, "prist", tmp_path / "prist", split="train")
    assert (done.dialogues, done.rejected) == (1, 1)
    assert "another picture's" in rejected(tmp_path / "prist")[0].reason


@pytest.mark.parametrize("form", FORMATS)
def test_a_vanished_picture_is_left_out_and_told(paths: Paths, tmp_path: Path, form: str) -> None:
    (paths.pictures / "a.png").unlink()
    done = export(paths, form, tmp_path / form)
    assert done.pictures == 2
    total = done.dialogues + sum(done.left_out.values())
    assert done.rejected == (1 if form == "coco" else 16 - total)
    assert done.rejected >= 1
    assert all("no such picture" in item.reason for item in rejected(tmp_path / form))


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_fails_leaves_nothing(
    paths: Paths, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.split_dialogues("test").write_text("{}\n")
    with pytest.raises(DataError, match="not a Dialogue"):
        export(paths, form, tmp_path / "out" / form)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_split_gives_an_empty_export(paths: Paths, tmp_path: Path, form: str) -> None:
    store_dialogues(paths, "val", [])
    done = export(paths, form, tmp_path / form, split="val")
    assert (done.pictures, done.regions, done.dialogues, done.rejected) == (0, 0, 0, 0)


def test_a_filled_folder_is_refused_and_an_empty_one_taken(paths: Paths, tmp_path: Path) -> None:
    into = tmp_path / "my export"
    into.mkdir()
    export(paths, "coco", into, split="val")
    before = sorted(into.rglob("*"))
    with pytest.raises(DataError, match="not empty"):
        export(paths, "coco", into, split="val")
    assert sorted(into.rglob("*")) == before
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        export(paths, "coco", tmp_path / "file")


def test_unknown_formats_and_splits_name_the_known_ones(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: hf, coco, prist, mrseg"):
        export(paths, "voc", tmp_path / "out")
    with pytest.raises(ConfigError, match="known: train, val, test"):
        export(paths, "coco", tmp_path / "out", split="dev")


def test_parquet_holds_every_dialogue_and_region(paths: Paths, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    into = tmp_path / "hf"
    done = export(paths, "hf", into)
    assert (done.pictures, done.dialogues, done.regions) == (3, 16, 12)
    (train,) = (into / "data").glob("train-*.parquet")
    assert train.name == "train-00000-of-00001.parquet"
    first, text = pq.read_table(train).to_pylist()
    assert [item["dialogue_id"] for item in first["dialogues"]] == [item.dialogue_id for item in dialogues_of("a")]
    assert first["dialogues"][0]["turns"][2]["answer"] == "It is the handle of the red mug."
    assert first["image"]["bytes"] == (paths.pictures / "a.png").read_bytes()
    for row, region in zip(first["regions"], regions_of("a"), strict=True):
        assert row["region_id"] == region.region_id
        assert row["mask_counts"] == (region.mask.counts if region.mask else None)
    assert (text["image"], text["regions"]) == (None, [])
    features = json.loads(pq.read_schema(train).metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}


def test_large_data_is_cut_into_shards(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from miras.card import huggingface

    monkeypatch.setattr(huggingface, "SHARD_BYTES", 1)
    monkeypatch.setattr(huggingface, "ROWS_PER_GROUP", 1)
    store_dialogues(paths, "train", [dialogue for name in NAMES for dialogue in dialogues_of(name)])
    export(paths, "hf", tmp_path / "hf", split="train")
    names = sorted(file.name for file in (tmp_path / "hf" / "data").iterdir())
    assert names == [f"train-0000{number}-of-00003.parquet" for number in range(3)]


def test_datasets_opens_the_folder(paths: Paths, tmp_path: Path) -> None:
    export(paths, "hf", tmp_path / "hf")
    opened = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in opened.items()} == {"train": 2, "val": 1, "test": 1}
    assert opened["val"][0]["image"].size == (96, 64)


def test_the_index_is_not_part_of_an_export(paths: Paths, tmp_path: Path) -> None:
    export(paths, "mrseg", tmp_path / "mrseg", split="val")
    assert sorted(file.name for file in (tmp_path / "mrseg").iterdir()) == [
        "masks_val.json",
        "pictures",
        "rejected.jsonl",
        "val.json",
    ]
