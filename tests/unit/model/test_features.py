"""The feature store: rows keyed by content, resumed, shared out over processes, guarded against damage."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from miras.dialogue import masks
from miras.dialogue.records import SPLITS, Dialogue, Picture, Region, Turn
from miras.errors import DataError, JobFailedError
from miras.files import read_records, write_records
from miras.launch.local import LocalLaunch
from miras.model import feature_encoding, features
from miras.model.config import FeaturesConfig
from miras.model.feature_shards import Shard, shard_name, write_shard
from miras.model.features import INDEX, FeatureStore
from miras.model.memory import encode_regions
from miras.model.vision import VisionEncoders
from miras.model.weights import MANIFEST, Backbones
from miras.paths import Paths
from tests.unit.model.tiny_network import tiny_mini, write_backbones

CONFIG = FeaturesConfig(batch_size=2, shard_size=3)
SIDE = 48
Damage = Callable[[Path], Any]


@pytest.fixture
def paths(tmp_path: Path, backbones: Backbones) -> Paths:
    """Seven pictures: p0 without target, in the others one; p2 has a second turn about it, in p3 a region is shown."""
    made = Paths.model_validate({name: str(tmp_path / name) for name in Paths.model_fields})
    shutil.copytree(backbones.folder, made.backbones)
    made.pictures.mkdir(parents=True)
    write_pictures(made, range(7))
    return made


def write_pictures(paths: Paths, seeds: Sequence[int]) -> None:
    """Pictures of noise in this order, with their regions; a picture `p<seed>` that is there already is kept."""
    ids = [f"p{seed}" for seed in seeds]
    for seed, image_id in zip(seeds, ids, strict=True):
        if not (paths.pictures / f"{image_id}.png").exists():
            draw(paths, image_id, seed)
    write_records(paths.picture_table, [picture(paths, image_id) for image_id in ids])
    write_records(paths.checked_regions, [region(image_id, name) for image_id in ids for name in "ab"])
    for split in SPLITS:
        write_records(paths.split_dialogues(split), [dialogue(image_id) for image_id in ids if image_id != "p0"])


def draw(paths: Paths, image_id: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(noise).save(paths.pictures / f"{image_id}.png")


def picture(paths: Paths, image_id: str) -> Picture:
    file = paths.pictures / f"{image_id}.png"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Picture(image_id=image_id, file_name=file.name, height=SIDE, width=SIDE, sha256=digest)


def region(image_id: str, name: str) -> Region:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:20, 4 : 30 if name == "a" else 12] = True
    return Region(region_id=f"{image_id}-{name}", image_id=image_id, phrase=name, mask=masks.encode(mask))


def dialogue(image_id: str) -> Dialogue:
    turns = [Turn(question="segment a", answer="{target}", targets=(f"{image_id}-a",))]
    if image_id == "p2":
        turns.append(Turn(question="its colour?", answer="red", refers_to=(0,)))
    if image_id == "p3":
        turns.append(Turn(question="and this?", answer="blue", points_at=("p3-b",)))
    return Dialogue(dialogue_id=image_id, image_id=image_id, kind="referring", focus="a", turns=tuple(turns))


def launch(processes: int = 1) -> LocalLaunch:
    return LocalLaunch.model_construct(place="local", shares=processes, threads=1)  # all that the stage looks at


def make(
    paths: Paths, *, config: FeaturesConfig = CONFIG, processes: int = 1, settings: str = "settings"
) -> dict[str, str]:
    """Runs the stage as DVC does, the earlier result deleted; returns the hash of every file of the result."""
    shutil.rmtree(paths.features, ignore_errors=True)
    work = Path(paths.features).with_name("work") / settings
    work.mkdir(parents=True, exist_ok=True)
    features.build(paths=paths, work=work, config=config, launch=launch(processes))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(paths.features).iterdir()}


def shards(paths: Paths, table: str = "") -> list[Path]:
    """Shard files that are kept between runs."""
    return sorted((Path(paths.features).with_name("work") / features.STORE).glob(f"{table}*/*.safetensors"))


def open_store(paths: Paths) -> FeatureStore:
    return FeatureStore(Path(paths.features), fingerprint=Backbones(Path(paths.backbones)).manifest.fingerprint)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many pictures each of the real encoders was shown."""
    counts: Counter[str] = Counter()
    open_encoders = Backbones.encoders

    def count(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            counts[name] += len(output if isinstance(output, torch.Tensor) else output.last_hidden_state)

        return hook

    def opened(backbones: Backbones) -> VisionEncoders:
        encoders = open_encoders(backbones)
        for name in ("clip", "convnext", "sam"):
            getattr(encoders, name).register_forward_hook(count(name))
        return encoders

    monkeypatch.setattr(Backbones, "encoders", opened)
    return counts


def of_pictures(count: int) -> dict[str, int]:
    """What the encoders are shown for pictures that have a target."""
    return {"clip": count, "convnext": count, "sam": count}


def test_what_is_read_is_what_the_encoders_give(paths: Paths) -> None:
    make(paths)
    store, encoders = open_store(paths), Backbones(Path(paths.backbones)).encoders()
    ids = ["p5", "p2", "p5"]
    opened = [features.open_rgb(paths.pictures / f"{image_id}.png") for image_id in ids]
    fresh, read = encoders(opened), store.read(ids)
    for part in ("clip", "high", "sam"):
        assert getattr(read, part).dtype == torch.float32
        assert torch.equal(getattr(read, part), getattr(fresh, part).half().float())
    assert store.read(ids, dtype=torch.bfloat16).sam.dtype == torch.bfloat16
    shown = [region("p3", "b"), region("p2", "a")]
    pictures = [features.open_rgb(paths.pictures / f"{one.image_id}.png") for one in shown]
    vectors = encode_regions(encoders, pictures, [masks.decode(one.mask) for one in shown if one.mask])
    assert torch.equal(store.read_regions(["p3-b", "p2-a"]), vectors.half().float())


def test_sam_sees_only_pictures_with_a_target_and_clip_only_regions_spoken_of(
    paths: Paths, encoded: Counter[str]
) -> None:
    make(paths)
    assert encoded == {"clip": 7 + 2, "convnext": 7, "sam": 6}
    store = open_store(paths)
    assert not store.has_sam("p0")
    assert store.has_sam("p1")
    for split in SPLITS:
        plain = [Turn(question="what?", answer="that")]
        write_records(
            paths.split_dialogues(split),
            [Dialogue(dialogue_id="d", image_id="p0", kind="vqa", focus="", turns=tuple(plain))],
        )
    encoded.clear()
    make(paths)
    assert not encoded
    assert open_store(paths).read_regions([]).shape == (0, 16)
    with pytest.raises(DataError, match="no vector of region p3-b"):
        open_store(paths).read_regions(["p3-b"])


def test_sam_is_read_of_the_first_pictures_asked_for_and_every_part_has_a_row(paths: Paths) -> None:
    make(paths)
    store = open_store(paths)
    read = store.read(["p4", "p1", "p0"], num_sam=2)
    assert read.clip.shape == (3, 16, 16)
    assert torch.equal(read.sam, store.read_sam(["p4", "p1"]))
    assert store.read(["p0"], num_sam=0).sam.shape == (1, 16, 8, 8)
    nothing = store.read([])
    assert [len(nothing.clip), len(nothing.sam), int(nothing.clip.count_nonzero())] == [1, 1, 0]
    with pytest.raises(DataError, match="no SAM embedding of picture p0"):
        store.read(["p1", "p0"])
    with pytest.raises(DataError, match="no features of picture nobody"):
        store.read(["nobody"])


def test_only_new_and_changed_pictures_are_encoded(paths: Paths, encoded: Counter[str]) -> None:
    make(paths)
    before = open_store(paths).read(["p4"])
    encoded.clear()
    draw(paths, "p1", seed=100)
    write_pictures(paths, range(7))
    make(paths, settings="changed")
    assert encoded == of_pictures(1)
    encoded.clear()
    write_pictures(paths, [9, 1, 3, 4, 5, 6, 0, 8])  # two more, p2 gone, in another order
    make(paths, settings="added")
    assert encoded == of_pictures(2)
    store = open_store(paths)
    assert torch.equal(store.read(["p4"]).high, before.high)
    assert "p2" not in store
    encoded.clear()
    shutil.copyfile(paths.pictures / "p4.png", paths.pictures / "p10.png")
    write_pictures(paths, [9, 1, 3, 4, 5, 6, 0, 8, 10])
    make(paths, config=FeaturesConfig(batch_size=1, shard_size=4))
    assert not encoded
    assert torch.equal(open_store(paths).read(["p10"]).sam, before.sam)


def test_a_first_target_in_a_picture_runs_sam_alone(paths: Paths, encoded: Counter[str]) -> None:
    make(paths)
    encoded.clear()
    write_records(paths.split_dialogues("val"), [dialogue("p0")])
    make(paths)
    assert encoded == {"sam": 1}
    assert open_store(paths).has_sam("p0")


def test_other_encoders_make_everything_anew_and_leave_nothing_old(paths: Paths, encoded: Counter[str]) -> None:
    before = make(paths)
    encoded.clear()
    manifest = Path(paths.backbones) / MANIFEST
    fingerprint = Backbones(manifest.parent).manifest.fingerprint
    shutil.rmtree(manifest.parent)
    write_backbones(manifest.parent, tiny_mini(tokens_per_side=2))
    assert Backbones(manifest.parent).manifest.fingerprint != fingerprint
    after = make(paths)
    assert encoded == {"clip": 7 + 2, "convnext": 7, "sam": 6}
    assert len(shards(paths)) == len(after) - 2
    assert open_store(paths).read(["p1"]).clip.shape == (1, 4, 16)
    with pytest.raises(DataError, match="made by encoders"):
        FeatureStore(Path(paths.features), fingerprint=fingerprint)
    assert before.keys() & after.keys() == {INDEX, features.SUMMARY} | {
        f"{shard.parent.name.split('-')[0]}-{shard.name}" for shard in shards(paths)
    }


def test_changed_code_of_a_table_makes_that_table_anew(
    paths: Paths, encoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(paths)
    before, encoded_before = open_store(paths).read(["p1"]), dict(encoded)
    encode_sam = feature_encoding.ENCODE["sam"]

    def doubled(encoders: VisionEncoders, *shown: Any) -> dict[str, torch.Tensor]:
        return {"sam": 2 * encode_sam(encoders, *shown)["sam"]}

    monkeypatch.setitem(feature_encoding.ENCODE, "sam", doubled)
    make(paths)
    assert encoded == encoded_before | {"sam": 12}
    torch.testing.assert_close(open_store(paths).read(["p1"]).sam, 2 * before.sam)


def test_running_again_gives_the_same_bytes_and_runs_no_encoder(paths: Paths, encoded: Counter[str]) -> None:
    make(paths)
    draw(paths, "p1", seed=100)
    write_pictures(paths, [8, *range(7)])
    first = make(paths)
    encoded.clear()
    assert make(paths, settings="another") == first
    assert not encoded


def test_two_processes_write_the_bytes_of_one(paths: Paths) -> None:
    alone = make(paths)
    shutil.rmtree(shards(paths)[0].parents[1])
    assert make(paths, processes=2) == alone


def test_a_mistake_found_by_a_process_is_the_error_of_the_stage(paths: Paths) -> None:
    (paths.pictures / "p6.png").write_bytes(b"another")
    with pytest.raises(DataError, match=r"p6\.png: not the picture that was ingested"):
        make(paths, processes=2)
    assert not Path(paths.features).exists()


def test_a_process_that_ends_without_a_word_fails_the_stage(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(JobFailedError, match=r"process 0 of 2 failed with exit code 1; its output is above"):
        make(paths, processes=2)
    assert not Path(paths.features).exists()


def test_a_missing_picture_is_named(paths: Paths) -> None:
    (paths.pictures / "p6.png").unlink()
    with pytest.raises(DataError, match=r"p6\.png: no such file"):
        make(paths)


STAGE = """\
import sys
from pathlib import Path
from miras.launch.local import LocalLaunch
from miras.model.config import FeaturesConfig
from miras.model.features import build
from miras.paths import Paths

build(
    paths=Paths.model_validate_json(sys.argv[1]),
    work=Path(sys.argv[2]),
    config=FeaturesConfig(batch_size=1, shard_size=1),
    launch=LocalLaunch.model_construct(place="local", shares=2, threads=1),
)
"""


def test_a_killed_stage_loses_the_shards_being_written_and_nothing_else(paths: Paths, encoded: Counter[str]) -> None:
    write_pictures(paths, range(60))
    work = Path(paths.features).with_name("work") / "settings"
    work.mkdir(parents=True)
    stage = subprocess.Popen([sys.executable, "-c", STAGE, paths.model_dump_json(), str(work)])
    try:
        while len(shards(paths)) < 5 and stage.poll() is None:
            time.sleep(0.002)
        assert stage.poll() is None
        workers = psutil.Process(stage.pid).children()
    finally:
        stage.kill()
        stage.wait()
    assert len(workers) == 2
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)
    assert not Path(paths.features).exists()
    kept = {table: len(shards(paths, table)) for table in ("pictures", "sam")}
    assert 5 <= sum(kept.values()) < 119
    one_each = FeaturesConfig(batch_size=1, shard_size=1)
    resumed = make(paths, config=one_each)
    assert encoded["sam"] == 59 - kept["sam"]
    assert encoded["convnext"] == 60 - kept["pictures"]
    shutil.rmtree(work.with_name(features.STORE))
    assert make(paths, config=one_each) == resumed


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut", "flipped", "deleted"])
def test_a_damaged_shard_is_named_when_read_and_made_again_alone(
    paths: Paths, encoded: Counter[str], damage: Damage
) -> None:
    whole = make(paths)
    victim = next(shard for shard in shards(paths, "sam") if len(Shard(shard).keys) == 3)
    damage(Path(paths.features) / f"sam-{victim.name}")
    with pytest.raises(DataError, match=f"sam-{victim.name}: damaged .*--force --single-item features"):
        open_store(paths).read([f"p{number}" for number in range(1, 7)])
    if damage is Path.unlink:  # the others have damaged the file kept for the next run, too: it is the same one
        victim.unlink()
    encoded.clear()
    assert make(paths) == whole
    assert encoded == {"sam": 3}


def test_reading_looks_only_at_the_rows_asked_for(paths: Paths) -> None:
    make(paths)
    key = picture(paths, "p3").sha256
    name = next(shard.name for shard in shards(paths, "sam") if key in Shard(shard).keys)
    flip(Path(paths.features) / f"sam-{name}")
    store = open_store(paths)
    store.read(["p1", "p2"])
    with pytest.raises(DataError, match="wrong checksum of sam, row 2"):
        store.read(["p3"])


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_index_is_named_and_made_again(paths: Paths, encoded: Counter[str], damage: Damage) -> None:
    whole = make(paths)
    damage(Path(paths.features) / INDEX)
    with pytest.raises(DataError, match=r"index\.json: damaged.*--force --single-item features"):
        open_store(paths)
    encoded.clear()
    assert make(paths) == whole
    assert not encoded


def test_every_flipped_bit_of_a_shard_is_found(tmp_path: Path) -> None:
    rows = {"clip": torch.arange(12).half().view(2, 6), "high": torch.ones(2, 1).half()}
    path = write_shard(tmp_path, ["one", "two"], rows)
    whole = path.read_bytes()
    missed = []
    for place in range(8 * len(whole)):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.unlink()
        path.write_bytes(content)
        try:
            shard = Shard(path)
            found = {key: shard.row(key) for key in ("one", "two")}
        except DataError:
            continue
        if not all(torch.equal(found[key][part], rows[part][row]) for row, key in enumerate(found) for part in rows):
            missed.append(place)
    assert not missed


def test_what_no_picture_needs_any_more_is_removed_and_thin_shards_are_merged(
    paths: Paths, encoded: Counter[str]
) -> None:
    """Pictures come and go one by one: never more than twice the rows of use, and one thin shard per table."""
    for start in range(12):
        write_pictures(paths, range(start, start + 7))
        make(paths, settings=f"settings{start}")
        for table in ("pictures", "sam"):
            sizes = [len(Shard(shard).keys) for shard in shards(paths, table)]
            assert sum(sizes) <= 2 * 7
            assert sum(2 * size < CONFIG.shard_size for size in sizes) <= 1
    assert encoded["convnext"] == 7 + 11
    work = Path(paths.features).with_name("work") / features.STORE
    published = {file.stat().st_ino for file in Path(paths.features).iterdir()}
    assert {file.stat().st_ino for file in work.rglob("*") if file.is_file()} <= published


def test_where_no_hard_link_is_possible_the_result_is_a_copy(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = make(paths)

    def refuse(*_paths: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert make(paths) == linked
    assert all(shard.stat().st_nlink == 1 for shard in shards(paths))


def test_what_a_killed_process_was_writing_is_removed(paths: Paths) -> None:
    make(paths)
    left_over = shards(paths)[0].with_name(f".{shard_name(['x'])}.123.partial")
    left_over.write_bytes(b"half")
    make(paths)
    assert not left_over.exists()


def test_a_value_that_float16_cannot_hold_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    open_encoders = Backbones.encoders

    def loud(backbones: Backbones) -> VisionEncoders:
        encoders = open_encoders(backbones)
        encoders.sam.neck[-1].weight.mul_(1e6)
        return encoders

    monkeypatch.setattr(Backbones, "encoders", loud)
    with pytest.raises(DataError, match="a value of sam that float16 cannot hold"):
        make(paths)


def test_the_stage_takes_the_number_of_processes_from_the_launch_profile(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(features, "read_launch", lambda: launch(5))
    monkeypatch.setattr(features, "encode", lambda plan, *, work, launch: asked.append(launch.shares) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        features.run(paths=paths, work=tmp_path / "work", features=CONFIG)
    assert asked == [5]


def test_dialogues_of_every_split_count(paths: Paths) -> None:
    for split, image_id in zip(SPLITS, ("p1", "p2", "p3"), strict=True):
        write_records(paths.split_dialogues(split), [dialogue(image_id)])
    wanted = features.read_wanted(paths)
    with_sam = [row.file_name for row in wanted.rows["sam"].values()]
    assert with_sam == ["p1.png", "p2.png", "p3.png"]
    assert set(wanted.regions) == {"p2-a", "p3-b"}
    assert len(list(read_records(paths.picture_table, Picture))) == len(wanted.pictures)
