"""Real networks with random weights asked by one process, by two, and by two of which one run was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from miras.evaluate import stage as evaluate_stage
from miras.evaluate.commands import Settings, evaluate_model
from miras.evaluate.records import Prediction
from miras.export import export
from miras.files import read_records
from miras.model.responder import save_weights
from miras.model.weights import Backbones
from miras.paths import Paths
from tests.unit.model.tiny_network import network_config
from tests.unit.train.workspace import build_workspace

from .conftest import ONE_PROCESS, make_config
from .test_public_sets import refcoco

CONFIG = make_config(batch_size=2, templates=["lisa", "sesame"])
RUN = """\
import sys
from pathlib import Path
from miras.evaluate import stage
from miras.evaluate.config import EvaluateConfig
from miras.launch.local import LocalLaunch
from miras.paths import Paths

paths, config, launch, work = sys.argv[1:]
stage.read_launch = lambda: LocalLaunch.model_validate_json(launch)
stage.run(paths=Paths.model_validate_json(paths), work=Path(work), evaluate=EvaluateConfig.model_validate_json(config))
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Six pictures, features, and a network that was not trained."""
    paths = build_workspace(tmp_path_factory.mktemp("workspace"))
    backbones = Backbones(Path(paths.backbones))
    network = backbones.network(network_config(), backbones.tokenizer())
    for folder in (paths.stage1, paths.stage2):
        Path(folder).mkdir()
        save_weights(network, Path(folder), fingerprint=backbones.manifest.fingerprint)
    return paths


def command(paths: Paths, work: Path) -> list[str]:
    """The stage with two processes, as a process of its own."""
    launch = ONE_PROCESS.model_copy(update={"shares": 2})
    said = [part.model_dump_json() for part in (paths, CONFIG, launch)]
    return [sys.executable, "-c", RUN, *said, str(work)]


def answers(paths: Paths) -> list[Prediction]:
    """Of the models, without the time they took."""
    found = read_records(paths.predictions, Prediction)
    return [prediction.model_copy(update={"seconds": 0.0}) for prediction in found]


def test_two_processes_and_a_killed_run_answer_as_one_does(
    workspace: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_stage, "read_launch", lambda: ONE_PROCESS)
    alone = workspace.model_copy(update={"evaluate": str(tmp_path / "alone")})
    evaluate_stage.run(paths=alone, work=tmp_path / "work-alone", evaluate=CONFIG)
    expected = answers(alone)
    assert {prediction.model for prediction in expected} >= {"stage1", "stage2", "no-picture"}

    shared = workspace.model_copy(update={"evaluate": str(tmp_path / "shared")})
    work = tmp_path / "work-shared"
    run = subprocess.Popen(command(shared, work))
    try:
        while sum(bool(path.stat().st_size) for path in (work / "predictions").glob("[01].jsonl")) < 2:
            assert run.poll() is None
            time.sleep(0.01)
        workers = psutil.Process(run.pid).children()
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers)
    assert not shared.scores.exists()
    kept = sum(len(path.read_bytes().splitlines()) for path in (work / "predictions").glob("*.jsonl"))
    assert 0 < kept < len(expected)

    subprocess.run(command(shared, work), check=True)
    assert answers(shared) == expected
    for folder in (alone, shared):
        scores = json.loads(folder.scores.read_text())
        for row in scores["tables"]["masks"]:
            row.pop("seconds_per_answer", None)
        folder.scores.write_text(json.dumps(scores))
    assert alone.scores.read_text() == shared.scores.read_text()


def test_a_process_that_fails_is_one_message(workspace: Paths, tmp_path: Path) -> None:
    lost = workspace.model_copy(update={"stage2": str(tmp_path / "nowhere"), "evaluate": str(tmp_path / "out")})
    run = subprocess.run(command(lost, tmp_path / "work"), capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "network.json: no such file; run the training stage that makes it" in run.stderr
    assert "DataError" in run.stderr


def test_a_public_data_set_is_read_encoded_asked_and_scored_by_the_stage(
    workspace: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_stage, "read_launch", lambda: ONE_PROCESS)
    names = {"refcoco-testA": refcoco(tmp_path / "refcoco")}
    config = make_config(max_rounds=0, max_queries=0, benchmarks=names)
    paths = workspace.model_copy(update={"evaluate": str(tmp_path / "out")})
    for _ in range(2):  # the second time all is there
        evaluate_stage.run(paths=paths, work=tmp_path / "work", evaluate=config)
        folder = paths.public_evaluations / "refcoco-testA"
        scores = json.loads((folder / "scores.json").read_text())
        rows = {(row["benchmark"], row["model"]): row for row in scores["tables"]["masks"] if row["history"] == "none"}
        wanted = {("refcoco-testA", "stage1"), ("refcoco-testA", "stage2"), ("refcoco-testA-lisa", "stage2")}
        assert rows.keys() == wanted
        assert {(row["samples"], row["unscored"]) for row in rows.values()} == {(3, 0)}
        assert scores["left_out"] == 0
        assert len(list(read_records(folder / "predictions.jsonl", Prediction))) == 3 * 3 + 3 * 3
    assert paths.scores.exists()


def test_an_exported_model_answers_as_the_weights_it_was_made_of(workspace: Paths, tmp_path: Path) -> None:
    written = export(weights=Path(workspace.stage2), backbones=Path(workspace.backbones), out=tmp_path / "exported")
    settings = Settings(workspace, make_config(max_rounds=0, templates=[]))
    said = {}
    for name, model in (("weights", "stage2"), ("export", str(written.folder))):
        folders = evaluate_model(model, ["test"], tmp_path / name, settings, ONE_PROCESS)
        assert (folders["test"] / "report.html").exists()
        found = read_records(folders["test"] / "predictions.jsonl", Prediction)
        said[name] = {p.key[2:]: (p.answer, p.masks) for p in found if p.history != "any"}
    assert said["export"] == said["weights"]
    assert not list(tmp_path.glob(".*.work"))
