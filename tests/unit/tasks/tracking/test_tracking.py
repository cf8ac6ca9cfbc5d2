"""From the spool to MLflow: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking.client import MlflowClient

from miras.errors import ServiceUnavailableError
from tasks.pipeline_run import Owner
from tasks.tracking import sending
from tasks.tracking.live import MetricsTail
from tasks.tracking.shipping import ship
from tasks.tracking.spool import SPOOL, Sent, Spool, close_dead_runs
from tasks.tracking.sync import send_remaining

NOBODY = Owner(pid=2**22 + 1, started_ticks=1)  # above the largest process number


def spool_run(folder: str, *, owner: Owner | None = None) -> Spool:
    spool = Spool(SPOOL / folder)
    spool.start(name=folder, owner=owner or Owner.of(os.getpid()), params={"stage1.steps": 3}, tags={"stage": "stage1"})
    return spool


def sent_runs() -> dict[str, Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name("miras")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert len(runs) == len(found)
    return runs


def test_what_was_recorded_arrives_as_parent_and_child(workspace: Path) -> None:
    pipeline, run = spool_run("p"), spool_run("p/1-stage1")
    for step in range(1500):
        run.metrics({"loss": 1.0 / (step + 1)}, step=step)
    (workspace / "curve.txt").write_text("x")
    run.artifact(workspace / "curve.txt", ".")
    run.table("tables/masks.json", columns=["model"], rows=[["a"]])
    run.status("FINISHED")
    ship(pipeline)
    runs = sent_runs()
    parent, child = runs["p"], runs["p/1-stage1"]
    client = MlflowClient()
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.params == {"stage1.steps": "3"}
    assert len(client.get_metric_history(child.info.run_id, "loss")) == 1500
    assert {item.path for item in client.list_artifacts(child.info.run_id)} == {"curve.txt", "tables"}
    assert json.loads(child.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/masks.json", "type": "table"}]
    assert (child.info.status, parent.info.status) == ("FINISHED", "RUNNING")
    assert not run.folder.exists()


def test_nothing_is_sent_twice_even_if_we_forgot_what_was_sent(workspace: Path) -> None:
    pipeline = spool_run("p")
    pipeline.metrics({"score": 1.0})
    for _ in range(2):
        ship(pipeline)
        pipeline.mark_sent(Sent(0, None))  # killed before it could write this down
    run = sent_runs()["p"]
    assert len(MlflowClient().get_metric_history(run.info.run_id, "score")) == 1


def test_a_server_that_is_away_loses_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = spool_run("p", owner=NOBODY)
    pipeline.status("FINISHED")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:9.*(\n.*)*make sync"):
            ship(pipeline)
    assert send_remaining() == 1
    assert sent_runs()["p"].info.status == "FINISHED"
    assert send_remaining() == 0
    assert not pipeline.folder.exists()


def test_a_killed_stage_does_not_run_for_ever(workspace: Path) -> None:
    pipeline, run = spool_run("p"), spool_run("p/1-stage1", owner=NOBODY)
    close_dead_runs()
    assert (run.last_status(), pipeline.last_status()) == ("KILLED", "KILLED")


def test_a_line_being_written_is_not_read_yet(workspace: Path) -> None:
    spool = spool_run("p")
    with spool.events.open("ab") as file:
        file.write(b'{"kind": "stat')
    assert [event["kind"] for event, _ in spool.read()] == ["start"]


def test_steps_written_again_after_a_resume_are_copied_once(workspace: Path) -> None:
    spool = spool_run("p")
    file = workspace / "metrics.jsonl"
    lines = [json.dumps({"step": step, "samples": 8 * step, "loss": 0.5}) + "\n" for step in range(6)]
    tail = MetricsTail(file, spool)
    tail.copy()  # there is no such file yet
    file.write_text("".join(lines[:4]))
    tail.copy()
    file.write_text("".join(lines[:2]))
    tail.copy()
    file.write_text("".join(lines) + '{"step": 6, ')
    tail.copy()
    steps = [event["step"] for event, _ in spool.read() if event["kind"] == "metrics"]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_versions_of_the_data_stand_side_by_side_in_one_run(workspace: Path) -> None:
    for number, (version, rows) in enumerate((("v1", 10.0), ("v2", 20.0), ("v1", 11.0), ("v3", 30.0))):
        pipeline, run = spool_run(f"p{number}"), spool_run(f"p{number}/1-check")
        run.trend("check", version=version, values={"tables.dialogues.rows": rows})
        run.status("FINISHED")
        ship(pipeline)
    trend = sent_runs()["check: trend over data versions"]
    history = MlflowClient().get_metric_history(trend.info.run_id, "tables.dialogues.rows")
    assert sorted((item.step, item.value) for item in history) == [(1, 10.0), (1, 11.0), (2, 20.0), (3, 30.0)]
    versions = {key: value for key, value in trend.data.tags.items() if key.startswith("data.version.")}
    assert versions == {"data.version.0001": "v1", "data.version.0002": "v2", "data.version.0003": "v3"}


def test_one_sender_serves_all_stages_of_a_run(workspace: Path) -> None:
    pipeline = spool_run("p")
    for number, status in enumerate(("FINISHED", "FAILED")):
        metrics_file = workspace / f"{number}.jsonl"
        run = Spool(SPOOL / f"p/{number}-stage")
        owner = Owner.of(os.getpid())
        run.start(name=f"stage {number}", owner=owner, params={}, tags={}, metrics_file=metrics_file)
        sending.start(pipeline)
        metrics_file.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')
        sending.finish_run(run, pipeline, status, wait=True)
        assert not run.folder.exists()
    sending.finish(pipeline)
    assert not pipeline.folder.exists()
    runs = sent_runs()
    assert {name: run.info.status for name, run in runs.items()} == {
        "p": "FAILED",
        "stage 0": "FINISHED",
        "stage 1": "FAILED",
    }
    assert [runs[f"stage {number}"].data.metrics["loss"] for number in range(2)] == [0.25, 0.25]


def test_the_sender_closes_what_was_killed_with_its_last_metrics(workspace: Path) -> None:
    pipeline = spool_run("p")
    with subprocess.Popen(["sleep", "60"]) as stage:
        run = Spool(SPOOL / "p/1-stage")
        owner = Owner.of(stage.pid)
        run.start(name="stage", owner=owner, params={}, tags={}, metrics_file=workspace / "metrics.jsonl")
        sending.start(pipeline)
        (workspace / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
        stage.kill()
    sending.finish(pipeline)
    found = sent_runs()["stage"]
    assert (found.info.status, found.data.metrics) == ("KILLED", {"loss": 0.5})


def test_a_stage_does_not_wait_for_a_server_that_is_away(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = spool_run("p")
    run = spool_run("p/1-stage")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        away.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        sending.start(pipeline)
        sending.finish_run(run, pipeline, "FINISHED", wait=True)
        sending.finish(pipeline)
    assert sending.remarks(pipeline).count("make sync") == 1
    assert send_remaining() == 1
    assert sent_runs()["p/1-stage"].info.status == "FINISHED"


def test_a_run_closes_although_its_sender_died(workspace: Path) -> None:
    pipeline, run = spool_run("p"), spool_run("p/1-stage")
    sending.finish_run(run, pipeline, "FINISHED", wait=True)
    assert (run.last_status(), pipeline.last_status()) == ("FINISHED", "FINISHED")
    assert not run.ending.exists()
