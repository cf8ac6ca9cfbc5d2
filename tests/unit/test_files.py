"""Result files: whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from miras.dialogue.records import Turn
from miras.errors import DataError, DiskFullError
from miras.files import finished_file, finished_folder, read_records, write_json, write_records


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with finished_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(ValueError, match="stop"), finished_folder(target) as folder:
        (folder / "a").write_text("new")
        raise ValueError("stop")
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), finished_file(tmp_path / "a.json") as aside:
        aside.write_text("half")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_message_with_a_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match=r"disk is full .*finished stages are kept"),
        finished_folder(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_records_come_back_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    turns = [Turn(question="a “quoted” ?", answer="é"), Turn(question="b", answer="{target}", targets=("r1",))]
    assert write_records(path, turns) == 2
    assert list(read_records(path, Turn)) == turns
    path.write_text(path.read_text() + '{"question": "c"}\n')
    with pytest.raises(DataError, match=r"turns\.jsonl:3: not a Turn: answer"):
        list(read_records(path, Turn))


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro"):
        list(read_records(tmp_path / "none.jsonl", Turn))


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "scores.json", {"ciou": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, living = tmp_path / f".out.{ended.pid}.partial", tmp_path / f".out.{os.getppid()}.partial"
    for folder in (left, living):
        folder.mkdir()
    with finished_folder(tmp_path / "out") as folder:
        (folder / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, "out"]
