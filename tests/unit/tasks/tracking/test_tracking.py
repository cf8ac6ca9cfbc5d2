"""From the spool to MLflow: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run
from mlflow.tracking.client import MlflowClient

from miras.errors import DiskFullError, ServiceUnavailableError
from tasks.pipeline_run import Owner
from tasks.tracking import sending
from tasks.tracking.shipping import ship
from tasks.tracking.spool import SPOOL, MetricsTail, Sent, Spool, close_dead_runs
from tasks.tracking.sync import send_remaining

NOBODY = Owner(pid=2**22 + 1, started_ticks=1)  # above the largest process number


def spool_run(folder: str, *, owner: Owner | None = None, metrics_file: Path | None = None) -> Spool:
    spool = Spool(SPOOL / folder)
    facts = {"params": {"stage1.steps": 3}, "tags": {"stage": "stage1"}, "metrics_file": metrics_file}
    spool.start(name=folder, owner=owner or Owner.of(os.getpid()), **facts)  # type: ignore[arg-type]
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
    file = workspace / "metrics.jsonl"
    spool = spool_run("p", metrics_file=file)
    lines = [json.dumps({"step": step, "samples": 8 * step, "loss": 0.5}) + "\n" for step in range(6)]
    tail = MetricsTail(spool)
    tail.copy()  # there is no such file yet
    file.write_text("".join(lines[:4]))
    tail.copy()
    file.write_text("".join(lines[:2]))
    tail.copy()
    file.write_text("".join(lines) + '{"step": 6, ')
    tail.copy()
    MetricsTail(spool).copy()  # as who closes the run of a sender that died
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
    assert not pipeline.has_sender()
    assert sending.remarks(pipeline).count("make sync") == 1
    assert send_remaining() == 1
    assert sent_runs()["p/1-stage"].info.status == "FINISHED"


def test_a_sender_that_dies_is_replaced_and_nothing_is_lost_or_doubled(workspace: Path) -> None:
    metrics = workspace / "metrics.jsonl"
    pipeline, run = spool_run("p"), spool_run("p/1-stage1", metrics_file=metrics)
    metrics.write_text('{"step": 1, "loss": 0.5}\n')
    sending.start(pipeline)
    wait_for(lambda: any(event["kind"] == "metrics" for event, _ in run.read()))
    (sender,) = (
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and str(pipeline.folder) in child.cmdline()
    )
    sender.kill()
    sender.wait()
    metrics.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n')
    sending.finish_run(run, pipeline, "FINISHED", wait=True)
    sending.finish(pipeline)
    found = sent_runs()["p/1-stage1"]
    history = MlflowClient().get_metric_history(found.info.run_id, "loss")
    assert (found.info.status, [point.step for point in history]) == ("FINISHED", [1, 2])


def test_how_a_stage_ended_that_outlived_its_flow_is_sent(workspace: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as flow:
        pipeline, run = spool_run("p", owner=Owner.of(flow.pid)), spool_run("p/1-stage1")
        sending.start(pipeline)
        flow.kill()
    time.sleep(1)  # several looks of the sender
    sending.finish_run(run, pipeline, "FAILED", wait=True)
    wait_for(lambda: not pipeline.folder.exists())
    assert sent_runs()["p/1-stage1"].info.status == "FAILED"


def test_a_pipeline_whose_next_stage_could_not_begin_has_failed(workspace: Path) -> None:
    pipeline, run = spool_run("p"), spool_run("p/1-stage1")
    sending.start(pipeline)
    sending.finish_run(run, pipeline, "FINISHED", wait=False)
    sending.finish(pipeline, has_failed=True)
    assert {name: run.info.status for name, run in sent_runs().items()} == {"p": "FAILED", "p/1-stage1": "FINISHED"}


def test_a_line_for_which_the_disk_has_no_room_is_not_there_in_part(workspace: Path) -> None:
    spool = spool_run("p")
    before = spool.events.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))  # takes a part of a line, as a full disk
    try:
        with pytest.raises(DiskFullError):
            spool.metrics({"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert spool.events.read_bytes() == before


def test_a_run_that_mlflow_does_not_take_keeps_no_other_from_being_sent(workspace: Path) -> None:
    refused = spool_run("a", owner=NOBODY)
    ship(refused)
    MlflowClient().delete_run(refused.sent().run_id)
    refused.metrics({"loss": 1.0})
    spool_run("b", owner=NOBODY).status("FINISHED")
    with pytest.raises(ServiceUnavailableError, match="does not answer as it should"):
        send_remaining()
    assert sent_runs()["b"].info.status == "FINISHED"


def test_an_address_that_mlflow_does_not_know_is_told_in_its_words(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_run("a")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://here")
    with pytest.raises(ServiceUnavailableError, match="unsupported URI 'gopher://here'"):
        send_remaining()


def wait_for(is_true: Callable[[], object]) -> None:
    ends_s = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < ends_s
        time.sleep(0.1)
