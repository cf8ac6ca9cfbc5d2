"""What becomes of a stage, as a row of the table on a run's page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient
from prefect.states import Cancelled, Completed, Failed

from tasks.orchestration import artifacts
from tasks.orchestration.artifacts import StageResult
from tasks.pipeline_run import PipelineRun
from tasks.stage import WAITING
from tasks.tracking.shipping import ship
from tasks.tracking.spool import Sent, Spool


def test_a_row_says_what_became_of_a_stage() -> None:
    done = StageResult.of("ingest", Completed(data="restored"), seconds=61.4)
    assert done.row() == {"stage": "ingest", "outcome": "restored", "time": "1 min 01 s", "message": ""}
    waits = StageResult.of("annotate", Cancelled(name=WAITING, message="2 are open"), seconds=1)
    assert (waits.outcome, waits.message) == ("Waiting", "2 are open")
    failed = StageResult.of("stage1", Failed(message="wrong key"), seconds=1)
    assert (failed.outcome, failed.message) == ("Failed", "wrong key")


def test_jobs_of_this_run_are_named_and_older_ones_and_local_ones_are_not(workspace: Path) -> None:
    folder = workspace / "work" / "stage1" / "abc"
    folder.mkdir(parents=True)
    job = {
        "job": "7",
        "place": "slurm",
        "stage": "stage1",
        "since": "2026-01-02T10:00:00+00:00",
        "about": {"log": "/l"},
    }
    lines = [
        job | {"job": "5", "until": "2026-01-01T00:00:00+00:00", "ended": "done"},
        job | {"until": "2026-01-02T11:00:00+00:00", "ended": "failed OUT_OF_MEMORY"},
        job | {"place": "local", "until": "2026-01-02T11:00:00+00:00", "ended": "done"},
    ]
    (folder / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "job.json").write_text(json.dumps(job | {"job": "8", "since": "2026-01-02T12:00:00+00:00"}))
    rows = artifacts.job_rows(["ingest", "stage1"], since=datetime(2026, 1, 2, tzinfo=UTC))
    assert [(row["job"], row["end"], row["log"]) for row in rows] == [
        ("slurm 7", "failed OUT_OF_MEMORY", "/l"),
        ("slurm 8", "still runs", "/l"),
    ]


def test_outside_of_a_flow_run_nothing_is_published() -> None:
    artifacts.publish_scores({"ciou": 1.0}, {"report": Path("nowhere")})
    artifacts.publish_stages([StageResult("ingest", "unchanged", 1.0, "")], PipelineRun.of_flow("a run"), Sent(0, None))


def test_the_run_in_mlflow_is_linked_and_no_password_is_shown(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = PipelineRun.of_flow("train-miras red-fox")
    assert "`make sync` sends it" in artifacts._mlflow_text(pipeline, Sent(0, None))
    spool = Spool(Path("work") / "tracking" / pipeline.key)
    spool.start(name=pipeline.name, owner=pipeline.owner, params={}, tags={})
    ship(spool)
    (run,) = MlflowClient().search_runs([spool.sent().experiment_id])
    text = artifacts._mlflow_text(pipeline, spool.sent())
    page = f"http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert f"[train-miras red-fox]({page})" in text
    assert "make ui" in text
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret-word@127.0.0.1:9")
    assert "secret-word" not in artifacts._mlflow_text(pipeline, Sent(0, None))
    assert "secret-word" not in artifacts._mlflow_text(pipeline, spool.sent())
