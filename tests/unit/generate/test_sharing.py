"""Pieces: the same bytes from any number of processes, kept over an interruption, anew when something changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from miras.dialogue.records import Picture, Region
from miras.errors import DataError, JobFailedError
from miras.files import read_records, write_records
from miras.generate import sharing, stage
from miras.generate.sharing import PIECES, make_plan, make_share, write_pieces, write_share
from miras.launch.job import HISTORY
from miras.launch.profiles import Launch, read_launch
from miras.paths import Paths
from tests.unit.generate.conftest import CONFIG

ROOT = Path(__file__).parents[3]
MORE = CONFIG.model_copy(update={"mrseg_per_picture": 1, "hard_pairs_per_picture": 1})


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 pictures are enough to share out, in pieces of 7 and a last one of 4."""
    monkeypatch.setattr(sharing, "PIECE_PICTURES", 7)
    monkeypatch.setattr(stage, "SHARED_FROM_PICTURES", 60)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def paths(tmp_path: Path, scene_regions_with_phrases: dict[str, list[Region]]) -> Paths:
    found = Paths(**{name: str(tmp_path / name) for name in Paths.model_fields})
    ingest(found, scene_regions_with_phrases)
    return found


def ingest(paths: Paths, regions: dict[str, list[Region]]) -> None:
    """Every third picture without regions, and two sources, whose names have more bytes than letters."""
    pictures, kept = [], []
    for number, (image_id, group) in enumerate(regions.items()):
        source = "üé"[number % 2]
        pictures.append(
            Picture(
                image_id=image_id,
                file_name=f"{image_id}.png",
                height=128,
                width=128,
                sha256="0",
                source=source,
                absent=("zebra",) if number % 5 == 0 else (),
                is_exhaustive=number % 5 != 0,
            )
        )
        if number % 3:
            kept += group
    write_records(paths.picture_table, pictures)
    write_records(paths.source_dialogues, [])
    write_records(paths.region_table, kept)


def launch(shares: int) -> Launch:
    values = yaml.safe_load((ROOT / "infra" / "launch" / "local.yaml").read_text())
    file = Path("shares.yaml")
    file.write_text(yaml.safe_dump(values | {"shares": shares}))
    return read_launch(str(file))


def run(paths: Paths, tmp_path: Path, work: str) -> dict[str, bytes]:
    """The stage's files."""
    stage.run(paths=paths, work=tmp_path / "work" / work, generate=MORE)
    return {file.name: file.read_bytes() for file in Path(paths.generate).iterdir()}


def test_shared_out_over_processes_the_bytes_are_those_of_one(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "SHARED_FROM_PICTURES", 61)  # one picture too few: the profile is not even looked at
    one = run(paths, tmp_path, "one")
    assert set(one) == {"dialogues.jsonl", "elements.jsonl", "trees.jsonl"}
    monkeypatch.setattr(stage, "SHARED_FROM_PICTURES", 60)
    monkeypatch.setattr(stage, "read_launch", lambda: launch(2))
    assert run(paths, tmp_path, "shared") == one
    (line,) = (tmp_path / "work" / "shared" / HISTORY).read_text().splitlines()
    assert json.loads(line)["ended"] == "done"
    assert not (tmp_path / "work" / "shared" / PIECES).exists()
    pictures = [picture.image_id for picture in read_records(paths.picture_table, Picture)]
    assert [json.loads(line)["image_id"] for line in one["elements.jsonl"].splitlines()] == pictures


def test_pieces_say_what_the_teacher_writes_without_them(paths: Paths, tmp_path: Path) -> None:
    """Against the plain way: all pictures in one go."""
    files = write_pieces(paths, MORE, work=tmp_path, launch=None)
    plan = make_plan(paths, MORE)
    wanted = []
    for picture, regions in stage.pictures_with_regions(paths):
        wanted += plan.names.write_about(picture, regions, MORE).dialogues
    said = b"".join(file.dialogues.read_bytes() for file in files)
    assert said == b"".join(dialogue.model_dump_json().encode() + b"\n" for dialogue in wanted)
    assert len(files) == 9
    assert sum(sum(file.counts().values()) - file.counts()["silent pictures"] for file in files) == len(wanted)
    assert sum(file.counts()["silent pictures"] for file in files) > 0


def test_after_an_interruption_whole_pieces_are_kept(paths: Paths, tmp_path: Path) -> None:
    plan, folder = make_plan(paths, MORE), tmp_path / PIECES

    def die(pictures: int) -> None:
        if len(list(folder.glob("[0-9]*.json"))) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_share(plan, folder, done=die)
    done = {file: file.stat().st_mtime_ns for file in folder.glob("[0-9]*")}
    assert len(done) == 3 * 4
    counted: list[int] = []
    write_share(plan, folder, done=counted.append)
    assert sum(counted) == 60 - 3 * 7
    assert {file: file.stat().st_mtime_ns for file in done} == done
    assert len(list(folder.iterdir())) == 9 * 4, "nothing half-written is left"


def test_a_piece_is_written_anew_when_it_or_the_settings_changed(
    paths: Paths, scene_regions_with_phrases: dict[str, list[Region]]
) -> None:
    names = [piece.name for piece in make_plan(paths, MORE).pieces]
    assert [piece.name for piece in make_plan(paths, MORE).pieces] == names
    other_seed = MORE.model_copy(update={"seed": 1})
    assert not {piece.name for piece in make_plan(paths, other_seed).pieces} & set(names)
    regions = list(read_records(paths.region_table, Region))
    last = regions[-1].model_copy(update={"phrase": "something else"})
    write_records(paths.region_table, [*regions[:-1], last])
    now = [piece.name for piece in make_plan(paths, MORE).pieces]
    assert now[:-1] == names[:-1]
    assert now[-1] != names[-1]
    write_records(paths.region_table, [*regions[:-1], last.model_copy(update={"category": "unicorn"})])
    assert not {piece.name for piece in make_plan(paths, MORE).pieces} & set(names), "a name that others may ask for"


def test_a_share_does_its_own_pieces_of_a_stored_plan_and_no_others(paths: Paths, tmp_path: Path) -> None:
    plan = make_plan(paths, MORE)
    request = tmp_path / "plan.json"
    request.write_text(plan.model_dump_json())
    make_share(request, 1, 4)
    done = sorted(file.name for file in (tmp_path / PIECES).glob("*.json"))
    assert done == [f"{plan.pieces[number].name}.json" for number in (1, 5)]


def test_a_job_that_leaves_pieces_out_is_no_success(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sharing, "run_job", lambda spec, place, watch: watch())
    with pytest.raises(JobFailedError, match="not every piece is there"):
        write_pieces(paths, MORE, work=tmp_path, launch=launch(2))


def test_regions_in_another_order_stop_it_before_anything_is_written(paths: Paths, tmp_path: Path) -> None:
    regions = list(read_records(paths.region_table, Region))
    write_records(paths.region_table, reversed(regions))
    with pytest.raises(DataError, match="do not follow the order"):
        write_pieces(paths, MORE, work=tmp_path, launch=None)
    assert not (tmp_path / PIECES).exists()
