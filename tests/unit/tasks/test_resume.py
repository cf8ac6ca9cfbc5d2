"""State of an interrupted stage is found again, and only by the same settings and inputs."""

from __future__ import annotations

from pathlib import Path

from tasks.registry.register import RegisterConfig
from tasks.resume import remove_older, work_folder

SETTINGS = {"register": RegisterConfig(model_name="m", alias="a")}
INPUTS = {"data/check": "123"}


def test_the_same_settings_and_inputs_find_the_same_folder(workspace: Path) -> None:
    assert work_folder("stage1", SETTINGS, INPUTS) == work_folder("stage1", SETTINGS, INPUTS)


def test_a_changed_setting_or_input_starts_anew(workspace: Path) -> None:
    other = {"register": RegisterConfig(model_name="m", alias="b")}
    folders = {
        work_folder("stage1", SETTINGS, INPUTS),
        work_folder("stage1", other, INPUTS),
        work_folder("stage1", SETTINGS, {"data/check": "124"}),
    }
    assert len(folders) == 3


def test_a_finished_stage_removes_what_other_settings_left(workspace: Path) -> None:
    old, new = work_folder("stage1", SETTINGS, {}), work_folder("stage1", SETTINGS, INPUTS)
    other_stage = work_folder("stage2", SETTINGS, {})
    (old / "state").write_text("x")
    store = new.with_name("store")
    store.mkdir()
    remove_older(new)
    assert store.exists(), "a stage's store outlives settings and inputs"
    assert new.exists()
    assert other_stage.exists()
    assert not old.exists()
