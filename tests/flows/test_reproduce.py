"""Runs of a paper's table: workspaces that share DVC's cache, failures, kills, dry runs. On a toy project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking.client import MlflowClient

from miras.errors import ConfigError
from miras.reproduce.records import PaperTable, Request, Run
from miras.reproduce.results import read_record
from tasks import environment
from tasks.reproduction import outlook, runs
from tasks.reproduction.runs import RunsFailedError, StageFailedError
from tests.flows.conftest import ROOT

STAGE = """\
import json, sys, time
from pathlib import Path
from ruamel.yaml import YAML
from miras.errors import ConfigError
from tasks import failure
from tasks.guard import stopped_with_its_starters

name = sys.argv[1]
params = YAML(typ="safe").load(Path("params.yaml").read_text())
pictures = sorted(file.name for file in Path(params["data"]["pictures"]).iterdir())
with stopped_with_its_starters():
    if name == "evaluate" and params["evaluate"]["seconds"] and not Path("work/began").exists():
        Path("work").mkdir(exist_ok=True)
        Path("work/began").touch()
        time.sleep(params["evaluate"]["seconds"])
    if name == "evaluate" and params["evaluate"]["score"] is None:
        failure.record(name, ConfigError("no score"))
        sys.exit(1)
    if name == "data":
        Path("data.txt").write_text(" ".join(pictures))
    else:
        row = {"benchmark": "dialogues", "model": "stage2", "history": "own", "ciou": params["evaluate"]["score"]}
        Path("scores").mkdir(exist_ok=True)
        Path("scores/scores.json").write_text(json.dumps({"tables": {"masks": [row]}}))
"""

DVC = """\
stages:
  data: {cmd: python infra/stage.py data, deps: [infra/stage.py, pictures], params: [data], outs: [data.txt]}
  evaluate: {cmd: python infra/stage.py evaluate, deps: [data.txt], params: [evaluate], outs: [scores/scores.json]}
"""

KILLED = """\
from tasks.reproduction import runs
from tests.flows.test_reproduce import toy_run
run = toy_run(seconds=60)
runs.reproduce(run, {}, until="evaluate")
"""


def toy_run(arm: str = "one", score: float | None = 41.0, seconds: int = 0) -> Run:
    params = {
        "paths": {"evaluate": "scores"},
        "data": {"pictures": "pictures"},
        "evaluate": {"score": score, "seconds": seconds},
    }
    return Run("toy-1", "smoke", arm, 0, params)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git with two stages, and a folder of pictures that git does not know."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "miras")
    for name in (*runs.CODE, "pictures"):
        (tmp_path / name).mkdir()
    (tmp_path / "infra" / "stage.py").write_text(STAGE)
    (tmp_path / "pictures" / "a cat.png").touch()
    (tmp_path / "dvc.yaml").write_text(DVC)
    (tmp_path / ".dvcignore").touch()
    (tmp_path / ".gitignore").write_text("/reproductions/\n/pictures/\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "start"], check=True)
    return tmp_path


def made(run: Run) -> dict[str, str]:
    """Brings the run up to date; what became of each stage."""
    stages: dict[str, str] = {}
    runs.make_workspace(run, Path.cwd())
    runs.reproduce(run, stages, until="evaluate")
    return stages


def git(*words: str) -> str:
    return subprocess.check_output(["git", *words], text=True)


def test_runs_share_what_is_equal_and_leave_the_users_repository_alone(workspace: Path) -> None:
    before = git("status", "--porcelain"), git("for-each-ref")
    assert made(toy_run("one")) == {"data": "done", "evaluate": "done"}
    assert made(toy_run("two", score=43.0)) == {"data": "restored", "evaluate": "done"}
    assert made(toy_run("two", score=43.0)) == {"data": "unchanged", "evaluate": "unchanged"}
    assert made(toy_run("three", score=41.0)) == {"data": "restored", "evaluate": "restored"}
    assert (git("status", "--porcelain"), git("for-each-ref")) == before
    (workspace / "pictures" / "a dog.png").touch()
    assert made(toy_run("two", score=43.0)) == {"data": "done", "evaluate": "done"}
    assert (workspace / toy_run("two").folder / "data.txt").read_text() == "a cat.png a dog.png"


def test_a_stage_that_fails_is_told_in_its_own_words(workspace: Path) -> None:
    stages: dict[str, str] = {}
    run = toy_run(score=None)
    runs.make_workspace(run, workspace)
    with pytest.raises(StageFailedError, match="evaluate: no score"):
        runs.reproduce(run, stages, until="evaluate")
    assert stages == {"data": "done", "evaluate": "failed"}


def test_a_missing_input_is_told_by_dvc(workspace: Path) -> None:
    (workspace / "pictures" / "a cat.png").unlink()
    (workspace / "pictures").rmdir()
    with pytest.raises(
        StageFailedError,
        match=r"No such file or directory: 'pictures'\nWhat a preset names has to be in this workspace",
    ):
        made(toy_run())


def test_outside_of_a_project_it_says_where_to_go(workspace: Path) -> None:
    (workspace / ".dvc" / "config").unlink()
    (workspace / ".dvc").rename(workspace / "gone")
    with pytest.raises(ConfigError, match=r"Run in the folder that holds dvc\.yaml"):
        runs.make_workspace(toy_run(), workspace)


def test_after_a_kill_the_same_call_goes_on_with_what_is_left(workspace: Path) -> None:
    run = toy_run(seconds=60)
    runs.make_workspace(run, workspace)
    process = subprocess.Popen([sys.executable, "-c", KILLED])
    deadline = time.monotonic() + 60
    while not (workspace / run.folder / "work" / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while True:  # what was left behind ends by itself; until then the folder is busy
        try:
            stages = made(run)
            break
        except StageFailedError as error:
            if not error.can_retry or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    assert stages == {"data": "unchanged", "evaluate": "done"}


def test_a_record_says_how_a_run_ended_and_links_the_evaluation_that_was_made(workspace: Path) -> None:
    environment.prepare()
    run = toy_run()
    checkpoint = workspace / run.folder / "work" / "evaluate" / "checkpoint"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    runs.make_run.fn(run)
    assert not checkpoint.exists()
    first = read_record(run.record)
    assert first is not None
    assert (first.is_done, first.mlflow_url, first.stages) == (True, None, {"data": "done", "evaluate": "done"})
    assert first.commit == git("rev-parse", "HEAD")[:12]
    client = MlflowClient()
    tags = {f"data.{path}": identity for path, identity in runs._inputs(run).items()}
    experiment = client.create_experiment("miras")
    for score in ("40.0", "41.0"):
        found = client.create_run(experiment, tags={**tags, "stage": "evaluate"}, run_name=score)
        client.log_param(found.info.run_id, "evaluate.score", score)
        client.log_param(found.info.run_id, "evaluate.seconds", "0")
        client.set_terminated(found.info.run_id, "FINISHED")
    url = str(runs.mlflow_url(run))
    assert client.get_run(url.rpartition("/")[2]).info.run_name == "41.0", "same inputs, other settings: another run"
    failing = toy_run(score=None)
    with pytest.raises(StageFailedError):
        runs.make_run.fn(failing)
    second = read_record(failing.record)
    assert second is not None
    assert (second.is_done, second.message) == (False, "evaluate: no score")


def table() -> PaperTable:
    content: dict[str, Any] = {
        "paper": "a paper",
        "number": "Table 1",
        "title": "toys",
        "arms": {"one": {}, "two": {}},
        "columns": [{"name": "x", "benchmark": "far", "metric": "ciou"}],
        "own": [{"name": "cIoU", "benchmark": "dialogues", "metric": "ciou"}],
        "rows": [{"name": arm, "paper": [1.0], "arm": arm} for arm in ("one", "two")],
    }
    return PaperTable.model_validate(content)


def test_a_dry_run_tells_what_would_be_run_without_running_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "_hours", lambda run, kinds: 0.5)  # plans networks only
    monkeypatch.setattr(outlook, "describe_data", lambda runs: "toys")
    asked = Request("toy-1", table(), "smoke", 1, (toy_run("one"), toy_run("two", score=43.0)), {}, {})
    before = outlook.outlook(asked)
    assert "one, seed 0  to be run: data, evaluate\n" in before
    assert "two, seed 0  to be run: evaluate; shared with a run above: data\n" in before
    assert "2 runs, 3 stages to be run of 4." in before
    assert list((workspace / "reproductions").iterdir()) == []
    made(toy_run("two", score=43.0))
    after = outlook.outlook(asked)
    assert "one, seed 0  to be run: evaluate; restored: data\n" in after
    assert "two, seed 0  restored: data, evaluate\n" in after


def test_failed_runs_are_the_commands_failure(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miras.reproduce.results.describe_data", lambda runs: "toys")
    asked = Request("toy-1", table(), "smoke", 1, (toy_run("one"), toy_run("two", score=None)), {}, {})
    runs.make_run.fn(asked.runs[0])
    runs.check_failures(runs.write_table(asked, {}))
    with pytest.raises(StageFailedError):
        runs.make_run.fn(asked.runs[1])
    result = runs.write_table(asked, {})
    with pytest.raises(RunsFailedError, match=r"1 of 2 runs failed:\n  two, seed 0: evaluate: no score"):
        runs.check_failures(result)
    assert [row.own[0].mean for row in result.rows] == [41.0, None]
    assert result.rows[1].own[0].reason == "the run failed"
