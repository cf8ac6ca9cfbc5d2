"""One MLflow run per stage, child of one run per pipeline run, whoever started it.

Everything is spooled to files first (`tasks.tracking.spool`) and sent by a process beside the stages
(`tasks.tracking.sending`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from miras.annotate.errors import WaitingForPeopleError
from miras.paths import Paths
from tasks import environment
from tasks.params import flatten
from tasks.pipeline_run import Owner, PipelineRun
from tasks.tracking import sending
from tasks.tracking.results import headline, spool_results, spool_trend
from tasks.tracking.spool import SPOOL, Spool, close_dead_runs

_current: ContextVar[tuple[Spool, Spool] | None] = ContextVar("current_run", default=None)


@contextmanager
def record_stage(
    stage: str,
    *,
    params: Mapping[str, BaseModel],
    sections: tuple[str, ...],
    hashes: Mapping[str, str],
    work: Path,
) -> Iterator[None]:
    """Records what happens inside as one run.

    Args:
        params: every section of params.yaml; the pipeline's run shows them all.
        sections: those that the stage reads.
        hashes: what the stage reads, path -> content identity.
        work: holds the `metrics.jsonl` that training writes.
    """
    close_dead_runs()
    paths: Paths = params["paths"]  # type: ignore[assignment]
    started_by = PipelineRun.of_stage()
    pipeline = _open_pipeline(started_by, params)
    run = _open_run(pipeline, stage, {name: params[name] for name in sections}, hashes, work / "metrics.jsonl")
    pipeline.status("RUNNING")  # after the run is there: see spool.close
    told = len(sending.remarks(pipeline))
    sending.start(pipeline)
    token = _current.set((pipeline, run))
    status = "FAILED"
    try:
        yield
        spool_results(stage, paths, run)
        spool_trend(stage, paths, run, hashes=hashes)
        if stage == "evaluate":
            pipeline.metrics(headline(paths))
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except WaitingForPeopleError:
        status = "SCHEDULED"  # MLflow's word for what is still to come: nothing failed, people are at work
        raise
    finally:
        _current.reset(token)
        sending.finish_run(run, pipeline, status, wait=not started_by.is_flow)  # a flow waits once, at its end
        if started_by.owner.pid == os.getpid():
            sending.finish(pipeline)
        print(sending.remarks(pipeline)[told:], end="", file=sys.stderr)


def current_run_id() -> str | None:
    """MLflow's id of the run that records this stage; None outside of one.

    Raises:
        ServiceUnavailableError: MLflow does not answer.
    """
    current = _current.get()
    if current is None:
        return None
    from tasks.tracking.shipping import ship

    pipeline, run = current
    ship(pipeline)
    return run.sent().run_id


def git_tags() -> dict[str, str]:
    """Commit of the code, and whether tracked files differ from it; nothing outside of a repository."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    return {"git.commit": commit, "git.dirty": str(bool(changed)).lower(), "mlflow.source.git.commit": commit}


def _git(*words: str) -> str:
    where = os.environ.get(
        environment.WORKSPACE
    )  # else the current folder: `dvc exp run --temp` has commits of its own
    try:
        done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _open_pipeline(pipeline: PipelineRun, params: Mapping[str, BaseModel]) -> Spool:
    spool = Spool(SPOOL / pipeline.key)
    if not spool.events.exists():
        spool.start(
            name=pipeline.name,
            owner=pipeline.owner,
            params=_flat(params),
            tags={**git_tags(), "pipeline": pipeline.key, "mlflow.source.name": "dvc.yaml"},
        )
    return spool


def _open_run(
    pipeline: Spool, stage: str, sections: Mapping[str, BaseModel], hashes: Mapping[str, str], metrics_file: Path
) -> Spool:
    spool = Spool(pipeline.folder / f"{time.time_ns()}-{stage}")
    data = {f"data.{path}": identity for path, identity in hashes.items()}
    spool.start(
        name=stage,
        owner=Owner.of(os.getpid()),
        params=_flat(sections),
        tags={**git_tags(), **data, "stage": stage, "mlflow.source.name": f"python -m tasks.run {stage}"},
        metrics_file=metrics_file,
    )
    return spool


def _flat(sections: Mapping[str, BaseModel]) -> dict[str, Any]:
    return flatten({name: section.model_dump() for name, section in sections.items()})
