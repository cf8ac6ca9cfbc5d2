"""The runs behind a paper's table: each the pipeline's own stages, in a workspace of its own that shares DVC's cache.

A run's workspace is a small DVC project below `reproductions/`, outside of git: a copy of the code as it is now, its
own params.yaml, and the main workspace's cache. So `dvc repro` there restores every stage whose inputs an earlier run
had, of whichever table or of `make run` itself, goes on with an interrupted one, and writes nothing to the user's
repository. DVC alone decides what has to run.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from prefect import allow_failure, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from pydantic import ValidationError
from ruamel.yaml import YAML

from miras.config import parse_sections, read_yaml
from miras.errors import ConfigError, MirasError, ServiceUnavailableError
from miras.files import finished_file, finished_folder, write_json
from miras.reproduce import catalogue, rendering, requests
from miras.reproduce.records import Request, Run, RunRecord
from miras.reproduce.results import Result, collect
from tasks import params, preset
from tasks.failure import Failure
from tasks.pipeline_run import PipelineRun
from tasks.servers import services
from tasks.stage import StageFailedError, can_retry, say
from tasks.tracking import sending
from tasks.tracking.record import git_tags
from tasks.tracking.spool import SPOOL, Spool

LAST_STAGE = "evaluate"
DATA_STAGE = "features"  # up to here, runs that differ in training alone do the same
CODE = ("miras", "tasks", "infra")
FILES = ("dvc.yaml", ".dvcignore")
LOG = "run.log"

_GRACE_S = 20.0
_BUSY = re.compile(r"is busy|Unable to acquire lock")
_OUTCOMES = (
    ("running", re.compile(r"Running stage '([^']+)'")),
    ("restored", re.compile(r"Stage '([^']+)' is cached - skipping run")),
    ("unchanged", re.compile(r"Stage '([^']+)' didn't change, skipping")),
)

_children: set[subprocess.Popen[bytes]] = set()
_children_lock = threading.Lock()


class RunsFailedError(MirasError):
    """Some runs of a table failed; the others are in it."""


def read_request(table: str, preset_name: str, seeds: int) -> Request:
    """What a table needs at a preset, with every run's settings checked.

    Raises:
        ConfigError: the table, the preset, or a run's settings have mistakes.
    """
    values = read_yaml(preset.find(preset_name, preset.PRESETS))
    networks = {file.stem: read_yaml(file) for file in sorted(preset.NETWORKS.glob("*.yaml"))}
    found = requests.request(
        table, catalogue.read(table), preset=preset_name, values=values, networks=networks, seeds=seeds
    )
    classes = {name: params.load_object(where) for name, where in params.SECTIONS.items()}
    for run in found.runs:
        parse_sections(run.params, classes, source=f"{table} at preset {preset_name}, {run.name}")
    return found


def make_runs(request: Request, *, jobs: int, given: Mapping[str, Path]) -> Result:
    """Brings every run up to date, `jobs` at a time, and writes the table after each; a run that fails stops no other.

    Raises:
        DataError: `given` has mistakes.
    """
    result = write_table(request, given)
    for run in request.runs:
        run.record.unlink(missing_ok=True)
    with _children_stopped():
        if jobs > 1:  # else each would do the data's part by itself
            _wait(_submit(_one_of_each_data_set(request), jobs, until=DATA_STAGE))
        for future in _submit(request.runs, jobs, until=LAST_STAGE):
            future.wait()
            result = write_table(request, given)
    return result


def write_table(request: Request, given: Mapping[str, Path]) -> Result:
    """Writes the table from the runs that have ended."""
    result = collect(request, given=given)
    rendering.write(result, request.folder)
    return result


def check_failures(result: Result) -> None:
    """Makes failed runs the command's failure.

    Raises:
        RunsFailedError: with the message of each.
    """
    if result.failures:
        told = "\n".join(f"  {record.arm}, seed {record.seed}: {record.message}" for record in result.failures)
        raise RunsFailedError(f"{len(result.failures)} of {len(result.runs)} runs failed:\n{told}")


def _submit(runs: Sequence[Run], jobs: int, *, until: str) -> list[PrefectFuture[None]]:
    """Starts a task for each run; each waits for the one `jobs` places before it, however that ends."""
    futures: list[PrefectFuture[None]] = []
    for number, run in enumerate(runs):
        before = [allow_failure(futures[number - jobs])] if number >= jobs else []
        futures.append(make_run.submit(run, until=until, wait_for=before, return_state=False))
    return futures


def _wait(futures: list[PrefectFuture[None]]) -> None:
    for future in futures:
        future.wait()


def _one_of_each_data_set(request: Request) -> list[Run]:
    trained = ("network", "stage1", "stage2", "evaluate", "report", "register")
    found: dict[str, Run] = {}
    for run in request.runs:
        found.setdefault(repr({name: part for name, part in run.params.items() if name not in trained}), run)
    return list(found.values())


@task(
    task_run_name="{run.name} until {until}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=can_retry,
    cache_policy=NO_CACHE,  # DVC is the only cache
    persist_result=False,
)
def make_run(run: Run, *, until: str = LAST_STAGE) -> None:
    """Brings one run up to date and keeps a record of how it ended.

    Raises:
        StageFailedError: with the message of the stage, or of DVC.
    """
    started, stages = time.monotonic(), dict[str, str]()
    tags = git_tags()
    commit = tags.get("git.commit", "")[:12] + ("-dirty" if tags.get("git.dirty") == "true" else "")

    def keep(*, is_done: bool, message: str = "", url: str | None = None) -> None:
        seconds = round(time.monotonic() - started, 1)
        record = RunRecord(
            arm=run.arm,
            seed=run.seed,
            is_done=is_done,
            message=message,
            stages=stages,
            seconds=seconds,
            commit=commit,
            mlflow_url=url,
        )
        write_json(run.record, record.model_dump())

    try:
        make_workspace(run, Path.cwd())
        reproduce(run, stages, until=until)
    except MirasError as error:
        keep(is_done=False, message=str(error))
        raise
    if until == LAST_STAGE:
        keep(is_done=True, url=mlflow_url(run))
        _remove_what_stages_went_on_from(run)


def make_workspace(run: Run, root: Path) -> None:
    """Makes or renews a run's workspace below the main one, `root`; what its stages have made stays.

    Raises:
        ConfigError: `root` is no workspace.
    """
    folder = root / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial"):  # by a copy that was killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    for name in CODE:
        with finished_folder(folder / name) as aside:
            shutil.copytree(root / name, aside, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for name in FILES:
        with finished_file(folder / name) as aside:
            shutil.copyfile(root / name, aside)
    with finished_file(folder / params.PARAMS) as aside:
        aside.write_bytes(_yaml(run.params))
    with finished_file(folder / ".dvc" / "config") as aside:
        aside.write_text(_dvc_config(root), encoding="utf-8")
    for place in requests.places_in(run.params, root):  # pictures, weights, what people have drawn
        if not os.path.lexists(folder / place):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).symlink_to(root / place)


def _yaml(values: Mapping[str, Any]) -> bytes:
    text = io.BytesIO()
    YAML(typ="safe").dump(dict(values), text)
    return text.getvalue()


def _dvc_config(root: Path) -> str:
    """Of a project outside of git, with the cache of the project at `root`; files are links where that is possible."""
    try:
        with Repo(str(root)) as repo:
            cache = repo.cache.local_cache_dir
    except DvcException as error:
        raise ConfigError(f"DVC: {error}. Run in the folder that holds dvc.yaml.") from error
    return (
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n    autostage = false\n"
        f"[cache]\n    dir = {cache}\n    type = reflink,hardlink,copy\n"
    )


def reproduce(run: Run, stages: dict[str, str], *, until: str) -> None:
    """Runs `dvc repro` in the run's workspace; its output goes to `run.log` there.

    Args:
        run: whose workspace is there.
        stages: filled as DVC goes: stage -> done, restored, unchanged or failed.
        until: the last stage.

    Raises:
        StageFailedError: with the message of the stage, or of DVC.
    """
    for file in run.folder.glob("work/*/failure.json"):
        file.unlink()
    pipeline = PipelineRun.of_flow(f"reproduce {run.table}: {run.name}")
    variables = {**os.environ, **pipeline.environment(), "MIRAS_WORKSPACE": str(Path.cwd()), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", until],
        cwd=run.folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with _children_lock:
        _children.add(process)
    try:
        errors = _follow(process, run, stages)
    finally:
        with _children_lock:
            _children.discard(process)
    has_failed = process.wait() != 0
    sending.finish(Spool(run.folder / SPOOL / pipeline.key), has_failed=has_failed)
    if has_failed:
        raise _explain(run, stages, errors, process.returncode)


def _follow(process: subprocess.Popen[bytes], run: Run, stages: dict[str, str]) -> list[str]:
    """Reads DVC's output to its end; returns its error lines."""
    errors, started = [], time.monotonic()
    assert process.stdout is not None
    with (run.folder / LOG).open("wb") as log:
        for raw in process.stdout:
            log.write(raw)
            log.flush()
            text = raw.split(b"\r")[-1].decode(errors="replace").rstrip()
            if text.startswith("ERROR:"):
                errors.append(text)
            for outcome, pattern in _OUTCOMES:
                if found := pattern.match(text):
                    _end_stage(run, stages, started)
                    stages[found[1]] = outcome
                    started = time.monotonic()
    if process.wait() == 0:
        _end_stage(run, stages, started)
    others = {outcome: [s for s, o in stages.items() if o == outcome] for outcome in ("restored", "unchanged")}
    for outcome, names in others.items():
        if names:
            say(f"{run.name}: {outcome}: {', '.join(names)}")
    return errors


def _end_stage(run: Run, stages: dict[str, str], started: float) -> None:
    for stage, outcome in stages.items():
        if outcome == "running":
            stages[stage] = "done"
            say(f"{run.name}: {stage} done in {time.monotonic() - started:.0f} s")


def _explain(run: Run, stages: dict[str, str], errors: list[str], exit_code: int) -> StageFailedError:
    stage = next((name for name, outcome in stages.items() if outcome == "running"), "")
    if stage:
        stages[stage] = "failed"
    try:
        text = (run.folder / "work" / stage / "failure.json").read_text(encoding="utf-8")
        recorded = Failure.model_validate_json(text)
        return StageFailedError(stage, recorded.message, can_retry=recorded.can_retry)
    except (FileNotFoundError, ValidationError):
        said = ("\n".join(errors) or f"exit code {exit_code}").replace(f"{run.folder.absolute()}/", "")
        if _BUSY.search(said):
            return StageFailedError(
                stage or "dvc", f"another command still works in {run.folder}: {said}", can_retry=True
            )
        if stage:
            message = f"ended without a word (killed, or out of memory?); see {run.folder / LOG}.\n{said}"
        else:  # such as an input that is not there
            message = f"{said}\nWhat a preset names has to be in this workspace (pictures, weights, word lists)."
        return StageFailedError(stage or "dvc", message, can_retry=False)


@contextmanager
def _children_stopped() -> Iterator[None]:
    """Ctrl-C or a cancelled flow run also ends what runs in other threads: nothing of ours may go on writing."""
    try:
        yield
    except BaseException:
        with _children_lock:
            running = list(_children)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for process in running:
                if process.poll() is None:
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + _GRACE_S
            while any(process.poll() is None for process in running) and time.monotonic() < deadline:
                time.sleep(0.1)
        raise


def _remove_what_stages_went_on_from(run: Run) -> None:
    """Checkpoints of a run that is done are several times larger than its results; records not yet sent stay."""
    for folder in (run.folder / "work").glob("*/"):
        if folder.name != SPOOL.name:
            shutil.rmtree(folder)


def mlflow_url(run: Run) -> str | None:
    """Address of the MLflow run of this run's evaluation: the newest one of the very same inputs and settings.

    So a restored evaluation is linked to the one that was made. None where MLflow holds none or does not answer.
    """
    from mlflow.tracking.client import MlflowClient

    from tasks.tracking.shipping import experiment_name, service_errors, ship

    try:
        for events in (run.folder / SPOOL).glob("*/events.jsonl"):
            ship(Spool(events.parent))  # what waited because MLflow was away
        with service_errors():
            client = MlflowClient()
            experiment = client.get_experiment_by_name(experiment_name())
            if experiment is None:
                return None
            conditions = [f"tags.`data.{path}` = '{identity}'" for path, identity in _inputs(run).items()]
            found = client.search_runs(
                [experiment.experiment_id],
                " and ".join([f"tags.stage = '{LAST_STAGE}'", "attributes.status = 'FINISHED'", *conditions]),
            )
    except ServiceUnavailableError as error:
        say(f"{run.name}: no link to MLflow: {error}")
        return None
    settings = {key: str(value) for key, value in params.flatten({LAST_STAGE: run.params[LAST_STAGE]}).items()}
    same = [one for one in found if settings.items() <= one.data.params.items()]
    if not same:
        return None
    uri = os.environ["MLFLOW_TRACKING_URI"]
    base = uri.rstrip("/") if uri.startswith("http") else services.mlflow_server().url
    return f"{base}/#/experiments/{experiment.experiment_id}/runs/{same[0].info.run_id}"


def _inputs(run: Run) -> dict[str, str]:
    """What the evaluation read, path -> DVC's content identity."""
    lock = read_yaml(run.folder / "dvc.lock")
    return {dep["path"]: dep["md5"] for dep in lock["stages"][LAST_STAGE]["deps"]}
