"""One MLflow run per stage, child of one run per pipeline run, whoever started it.

Everything is spooled to files first (`tasks.spool`) and sent by a process beside the stage (`tasks.live`).
"""

from __future__ import annotations

import logging
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
from tasks.results import headline, spool_results, spool_trend
from tasks.spool import SPOOL, Spool, close_dead_runs

log = logging.getLogger(__name__)

_LAST_SENDING_S = 120.0  # the wait at a stage's end for a slow server

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
    pipeline = _open_pipeline(PipelineRun.of_stage(), params)
    run = _open_run(pipeline, stage, {name: params[name] for name in sections}, hashes)
    shipper = _start_shipper(pipeline, run, work / "metrics.jsonl")
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
        _finish_shipper(shipper, status, spools=(run, pipeline))


def current_run_id() -> str | None:
    """MLflow's id of the run that records this stage; None outside of one.

    Raises:
        ServiceUnavailableError: MLflow does not answer.
    """
    current = _current.get()
    if current is None:
        return None
    from tasks.shipping import ship

    pipeline, run = current
    ship(pipeline)
    return run.sent().run_id


def _start_shipper(pipeline: Spool, run: Spool, metrics_file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.live", str(pipeline.folder), str(run.folder), str(metrics_file)],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C ends the stage; how it ended must still be sent
    )


def _finish_shipper(shipper: subprocess.Popen[str], status: str, *, spools: tuple[Spool, Spool]) -> None:
    try:
        shipper.communicate(status, timeout=_LAST_SENDING_S)
    except subprocess.TimeoutExpired:
        log.warning("tracking still sends, in the background; `make sync` sends what it does not manage")
    if shipper.returncode:
        log.warning("tracking ended early (exit code %d); `make sync` sends the rest", shipper.returncode)
        for spool in spools:
            if spool.folder.exists():
                spool.status(status)


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
    if not spool.folder.exists():
        spool.start(
            name=pipeline.name,
            owner=pipeline.owner,
            params=_flat(params),
            tags={**git_tags(), "pipeline": pipeline.key, "mlflow.source.name": "dvc.yaml"},
        )
    spool.status("RUNNING")
    return spool


def _open_run(pipeline: Spool, stage: str, sections: Mapping[str, BaseModel], hashes: Mapping[str, str]) -> Spool:
    spool = Spool(pipeline.folder / f"{time.time_ns()}-{stage}")
    data = {f"data.{path}": identity for path, identity in hashes.items()}
    spool.start(
        name=stage,
        owner=Owner.of(os.getpid()),
        params=_flat(sections),
        tags={**git_tags(), **data, "stage": stage, "mlflow.source.name": f"python -m tasks.run {stage}"},
    )
    return spool


def _flat(sections: Mapping[str, BaseModel]) -> dict[str, Any]:
    return flatten({name: section.model_dump() for name, section in sections.items()})
