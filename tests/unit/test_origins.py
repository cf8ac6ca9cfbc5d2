"""What a result was made of, read from real lock files that DVC wrote."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from miras.errors import ConfigError
from miras.origins import dvc_hash, recorded_origins

STAGES = """\
stages:
  ingest:
    cmd: mkdir -p pictures/deep && cp raw.txt pictures/deep/a && cp raw.txt "pictures/b ü"
    deps: [raw.txt]
    outs: [pictures]
  check:
    cmd: mkdir -p checked docs && cat pictures/deep/a > checked/a && date +%s%N > docs/page
    deps: [pictures]
    outs: [checked, docs]
  split:
    cmd: mkdir -p dealt && cat checked/a > dealt/a
    deps: [checked]
    outs: [dealt]
  train:
    cmd: mkdir -p weights && cat dealt/a settings.txt > weights/w
    deps: [checked, dealt, settings.txt]
    outs: [weights]
  aside:
    cmd: cp settings.txt aside.txt
    deps: [settings.txt]
    outs: [aside.txt]
"""


def dvc(*words: str) -> None:
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run([sys.executable, "-m", "dvc", *words, "-q"], check=True, env=quiet)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has been run, with what its lock file says after the first run and after one with other data."""
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    try:
        dvc("init", "--no-scm")
        (folder / "dvc.yaml").write_text(STAGES)
        (folder / "settings.txt").write_text("1")
        for raw in ("old", "new"):
            (folder / "raw.txt").write_text(raw)
            dvc("repro")
            (folder / f"{raw}.lock").write_bytes((folder / "dvc.lock").read_bytes())
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    subprocess.run(["cp", "-r", f"{made}/.", str(tmp_path)], check=True)
    return tmp_path


def test_everything_on_the_way_is_named_and_nothing_beside_it(project: Path) -> None:
    found = recorded_origins(project / "weights", project / "dvc.lock")
    assert found is not None
    assert sorted(found.inputs) == ["checked", "dealt", "pictures", "raw.txt", "settings.txt"]
    assert found.inputs["raw.txt"] == hashlib.md5(b"new").hexdigest()
    assert found.inputs["pictures"] == dvc_hash(project / "pictures")


def test_the_data_version_follows_the_data_alone(project: Path) -> None:
    new = recorded_origins(project / "weights", project / "dvc.lock")
    lock = json.loads(json.dumps((project / "dvc.lock").read_text()))
    (project / "dvc.lock").write_text(lock.replace(dvc_hash(project / "docs"), "0" * 32 + ".dir"))
    assert recorded_origins(project / "weights", project / "dvc.lock") == new  # a page for people is no data
    assert new is not None
    subprocess.run(["cp", str(project / "old.lock"), str(project / "dvc.lock")], check=True)
    (project / "weights" / "w").write_text("old1")
    old = recorded_origins(project / "weights", project / "dvc.lock")
    assert old is not None
    assert len({old.data, new.data}) == 2


def test_a_result_without_data_has_no_data_version(project: Path) -> None:
    found = recorded_origins(project / "aside.txt", project / "dvc.lock")
    assert found is not None
    assert (found.data, sorted(found.inputs)) == ("", ["settings.txt"])


def test_a_changed_result_is_of_unknown_origin(project: Path) -> None:
    (project / "weights" / "w").write_text("by hand")
    assert recorded_origins(project / "weights", project / "dvc.lock") is None


def test_a_stage_that_ran_without_the_later_ones_leaves_the_origin_unknown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "raw.txt").write_text("newer")
    dvc("repro", "--single-item", "ingest")
    assert recorded_origins(project / "weights", project / "dvc.lock") is None


@pytest.mark.parametrize("place", ["nowhere", "raw.txt", "."])
def test_what_no_stage_writes_is_of_unknown_origin(project: Path, place: str) -> None:
    assert recorded_origins(project / place, project / "dvc.lock") is None
    assert recorded_origins(Path("/etc/hostname"), project / "dvc.lock") is None
    assert recorded_origins(project / "weights", project / "nowhere.lock") is None


def test_a_broken_lock_file_is_said(project: Path) -> None:
    (project / "dvc.lock").write_text("<<<<<<< ours\nstages: {\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        recorded_origins(project / "weights", project / "dvc.lock")
