"""Mistakes in what a flow's command is told: their message and the exit code, before Prefect starts anything."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import beforehand, environment
from tests.flows.conftest import ROOT


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """In this repository: the flows that got as far as Prefect, which is left out."""
    flows: list[object] = []

    def run(flow: object) -> int:
        flows.append(flow)
        return 0

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MIRAS_LAUNCH", "local")
    monkeypatch.setattr(environment, "prepare", lambda: None)  # it would outlast the test
    monkeypatch.setattr(beforehand, "run_as_command", run)
    return flows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train_miras --preset tinny", "presets/tinny.yaml: there is no preset 'tinny'; did you mean tiny?"),
        ("train_miras --preset tiny+segl", "there is no network 'segl'; did you mean segllm?"),
        (
            "train_miras --launch locl",
            "infra/launch/locl.yaml is not there; did you mean local?",
        ),
        ("train_miras --until-stage stage3", "dvc.yaml: there is no stage 'stage3'; did you mean stage2?"),
        ("train_miras --source pictures", "and no preset is named"),
        ("build_prist --preset coco --source nowhere", "source: 'nowhere' is not there"),
        ("build_prist --until-stage chek", "did you mean check?"),
        ("evaluate --launch locl", "did you mean local?"),
        ("evaluate --model models:/miras", "models:/miras: no address of a model. Write models:/NAME@ALIAS"),
        ("evaluate --model nowhere", "model 'nowhere': no such directory."),
        ("reproduce miras-66", "miras-6"),
        ("reproduce miras-6 --preset tinny", "did you mean tiny?"),
        ("reproduce miras-6 --launch locl", "did you mean local?"),
        ("reproduce miras-6 --given GPT", "--given 'GPT': expected ROW=SCORES.json"),
        ("reproduce miras-6 --given GPT=x.json", "--given 'GPT': there is no such row; rows: MIRAS, "),
        ("reproduce miras-6 --dry-run --given MIRAS=x.json", "--given 'MIRAS': this row is trained here"),
        ("reproduce miras-3 --given 'zero-shot: GPT-4o=nowhere.json'", "nowhere.json: no such file"),
    ],
)
def test_a_mistake_is_told_before_prefect_starts(
    words: str, message: str, started: list[object], capfd: pytest.CaptureFixture[str]
) -> None:
    name, *arguments = shlex.split(words)
    assert importlib.import_module(f"flows.{name}").main(arguments) == 1
    assert message in "".join(capfd.readouterr())
    assert started == []


def test_what_is_right_is_handed_on(started: list[object]) -> None:
    for name in ("train_miras", "build_prist", "evaluate"):
        assert importlib.import_module(f"flows.{name}").main([]) == 0
    assert len(started) == 3


def test_a_preset_may_bring_back_a_lost_parameter_file(
    started: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("presets", "infra", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    train_miras = importlib.import_module("flows.train_miras")
    assert train_miras.main([]) == 1
    assert train_miras.main(["--preset", "smoke", "--until-stage", "check"]) == 0
    assert len(started) == 1
    assert not (tmp_path / "params.yaml").exists()


def test_the_command_leaves_nothing_of_a_server_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    command = [sys.executable, "-m", "flows.train_miras", "--preset", "tinny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "presets/tinny.yaml: there is no preset 'tinny'; did you mean tiny?\n")
    assert not list(tmp_path.glob("*.db"))
