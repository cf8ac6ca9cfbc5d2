"""The flow `build-prist`: it waits for people, suspended under a server, ended with a message without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.flow_runs import resume_flow_run
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from tests.flows.conftest import ROOT

STAGE = """\
import sys
from pathlib import Path
from miras.annotate.errors import WaitingForPeopleError
from tasks import failure

name = sys.argv[1]
if name == "annotate" and not Path("answers.txt").exists():
    failure.record(name, WaitingForPeopleError("of 2 answers 2 are open"))
    print("of 2 answers 2 are open")
    sys.exit(1)
Path(f"{name}.txt").write_text(name)
"""

DVC = """\
stages:
  generate: {cmd: python stage.py generate, deps: [stage.py], outs: [generate.txt]}
  annotate: {cmd: python stage.py annotate, deps: [stage.py, generate.txt], outs: [annotate.txt]}
  check: {cmd: python stage.py check, deps: [stage.py, annotate.txt], outs: [check.txt]}
"""


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project whose stage annotate waits until answers.txt is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.yaml").write_text(DVC)
    shutil.copyfile(ROOT / "presets" / "smoke.yaml", tmp_path / "params.yaml")
    shutil.copyfile(ROOT / "prefect.toml", tmp_path / "prefect.toml")  # as every workspace has: time enough to start
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    return tmp_path


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def test_without_a_server_the_command_ends_and_the_same_command_goes_on(waiting: Path) -> None:
    first = python("-m", "flows.build_prist")
    assert first.returncode == 3, first.stdout
    assert "of 2 answers 2 are open" in first.stdout
    assert "people's turn" in first.stdout
    assert "Traceback" not in first.stdout
    assert not (waiting / "check.txt").exists()
    (waiting / "answers.txt").touch()
    second = python("-m", "flows.build_prist")
    assert second.returncode == 0, second.stdout
    assert "generate: unchanged" in second.stdout
    assert (waiting / "check.txt").exists()


def flow_run(run: FlowRun) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)


def task_states(run: FlowRun) -> dict[str, str | None]:
    """Name of the last state of each stage's task."""
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])), sort=TaskRunSort.EXPECTED_START_TIME_ASC
        )
        return {task.name: task.state_name for task in found}


def execute(run: FlowRun) -> str:
    """What a worker's process does with a scheduled run."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine", str(run.id)],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout


@pytest.mark.slow
def test_a_deployed_run_is_suspended_for_as_many_rounds_as_people_need(waiting: Path) -> None:
    from flows.build_prist import build_prist

    with prefect_test_harness(server_startup_timeout=180):
        deployment = build_prist.to_deployment("build-prist")
        deployment.entrypoint = f"{ROOT / 'flows' / 'build_prist.py'}:build_prist"
        deployment_id = deployment.apply()
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(deployment_id)
        for _ in range(2):  # resumed too early, it waits once more
            output = execute(run)
            state = flow_run(run).state
            assert state is not None
            assert state.name == "Suspended", output
            assert f"prefect api POST /flow_runs/{run.id}/resume" in output
            assert task_states(run)["annotate"] == "Waiting"  # neither done nor failed
            assert "Traceback" not in output
            resume_flow_run(run.id)
        (waiting / "answers.txt").touch()
        output = execute(run)
        state = flow_run(run).state
        assert state is not None
        assert state.is_completed(), output
    assert (waiting / "check.txt").exists()
