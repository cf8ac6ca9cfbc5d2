"""What a flow run leaves on its page in Prefect: what became of each stage, the scores, and where the rest lies.

A page cannot open files of the machine that ran (browsers refuse file:// links), so files are named as text; MLflow's
page of the run holds copies of the report and galleries, and is linked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError

from miras.launch.job import HISTORY, JOB
from tasks import workspace_name
from tasks.environment import shown_address
from tasks.pipeline_run import PipelineRun
from tasks.servers import services
from tasks.stage import say
from tasks.tracking.spool import Sent

NEVER = "9999-01-01T00:00:00+00:00"  # the end of a job that still runs


@dataclass(frozen=True)
class StageResult:
    """What became of one stage."""

    stage: str
    outcome: str
    """done, unchanged, restored; else the name of its state in Prefect."""
    seconds: float
    message: str
    """Empty where it went well."""

    @classmethod
    def of(cls, stage: str, state: State[Any], *, seconds: float) -> StageResult:
        """From the state that the stage's task ended in."""
        if state.is_completed():
            return cls(stage, str(state.result()), seconds, "")
        return cls(stage, state.name or state.type.value, seconds, state.message or "")

    def row(self) -> dict[str, str]:
        """Its row of the table."""
        minutes, seconds = divmod(round(self.seconds), 60)
        return {
            "stage": self.stage,
            "outcome": self.outcome,
            "time": f"{minutes} min {seconds:02} s",
            "message": self.message,
        }


def publish_stages(results: Sequence[StageResult], pipeline: PipelineRun, sent: Sent) -> None:
    """The table of stages, and a link to the run in MLflow if something ran. Nothing outside of a flow run.

    `sent`: what MLflow has of the run.
    """
    if not results:
        return
    rows = [result.row() for result in results]
    _publish(lambda key: create_table_artifact(rows, key=key, description="What became of each stage."), "stages")
    began = datetime.now(UTC) - timedelta(seconds=sum(result.seconds for result in results) + 1)
    if jobs := job_rows([result.stage for result in results], since=began):
        _publish(lambda key: create_table_artifact(jobs, key=key, description="Jobs elsewhere."), "jobs")
    if any(result.outcome not in ("unchanged", "restored") for result in results):
        text = _mlflow_text(pipeline, sent)
        _publish(lambda key: create_markdown_artifact(text, key=key, description="This run in MLflow."), "mlflow")


def job_rows(stages: Sequence[str], *, since: datetime) -> list[dict[str, str]]:
    """What the stages ran on a cluster or in the cloud and that ended after `since` or still runs, oldest first."""
    found = []
    for stage in stages:
        for history in (Path("work") / stage).glob(f"**/{HISTORY}"):
            found += [json.loads(line) for line in history.read_text("utf-8").splitlines()]
        for current in (Path("work") / stage).glob(f"**/{JOB}"):
            found.append(json.loads(current.read_text("utf-8")) | {"ended": "still runs"})
    elsewhere = [job for job in found if job["place"] != "local"]
    shown = [job for job in elsewhere if datetime.fromisoformat(job.get("until", NEVER)) >= since]
    return [
        {
            "stage": job["stage"],
            "job": f"{job['place']} {job['job']}",
            "since": job["since"],
            "end": job["ended"],
            **job["about"],
        }
        for job in sorted(shown, key=lambda job: str(job["since"]))
    ]


def publish_scores(scores: Mapping[str, float], places: Mapping[str, Path]) -> None:
    """A table of scores and where to look further. Nothing outside of a flow run.

    Args:
        scores: percent, by name.
        places: files and folders of this machine, by what they are; those that are not there are left out.
    """
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in scores.items())
    lines = "\n".join(f"- {name}: `{place.resolve()}`" for name, place in places.items() if place.exists())
    text = f"| score | percent |\n|---|---:|\n{rows}\n\nFiles on the machine `{os.uname().nodename}`:\n\n{lines}\n"
    _publish(lambda key: create_markdown_artifact(text, key=key, description="Headline scores of this run."), "scores")


def _publish(create: Callable[[str], object], what: str) -> None:
    """A run whose results are made does not fail because Prefect cannot be told of them."""
    context = FlowRunContext.get()
    if context is None or context.flow is None:
        return
    try:
        create(f"{context.flow.name}-{what}{workspace_name.suffix()}")
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        say(f"Prefect does not take the table of {what} ({error or type(error).__name__}); the results are made.")


def _mlflow_text(pipeline: PipelineRun, sent: Sent) -> str:
    """A link where MLflow has a page for the run; else how to get one."""
    uri = shown_address(os.environ["MLFLOW_TRACKING_URI"])
    if sent.run_id is None:
        return f"`{pipeline.name}` was not sent to MLflow (`{uri}`) yet; `make sync` sends it, once MLflow is there."
    is_server = uri.startswith(("http://", "https://"))
    server = uri.rstrip("/") if is_server else services.mlflow_server().url
    page = f"{server}/#/experiments/{sent.experiment_id}/runs/{sent.run_id}"
    return f"[{pipeline.name}]({page})" + ("" if is_server else f" (start the page with `make ui`; records: `{uri}`)")
