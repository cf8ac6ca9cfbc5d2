"""The whole pipeline, small, in a copy of this repository: flow, DVC, MLflow and the registered model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking.client import MlflowClient

from benchmarks.workspace import STATE, copy_repository
from miras.stages import STAGES

ASK = """\
import base64, json, sys
from pathlib import Path
import mlflow, pandas
picture = sorted(Path(sys.argv[1]).iterdir())[0]
row = {
    "image": base64.b64encode(picture.read_bytes()).decode(),
    "questions": json.dumps(["What do you see?", "Show me the largest one."]),
}
model = mlflow.pyfunc.load_model("models:/miras@candidate")
print(json.dumps(model.predict(pandas.DataFrame([row])).to_dict("records")))
"""


@dataclass(frozen=True)
class Workspace:
    """A copy of the repository that has been run once."""

    folder: Path
    output: str
    """What the run printed."""

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in the copy, with this Python's tools."""
        return _run(self.folder, *command, **variables)

    def mlflow(self) -> MlflowClient:
        """Its records."""
        return MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def runs(self) -> list[Run]:
        """All its runs, oldest first."""
        experiment = self.mlflow().get_experiment_by_name("miras")
        assert experiment is not None
        return list(self.mlflow().search_runs([experiment.experiment_id], order_by=["start_time ASC"]))


def _run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    path = os.pathsep.join([str(Path(sys.executable).parent), plain["PATH"]])
    quiet = {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env={**plain, **quiet, "PATH": path, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One run of the flow for all tests here; they go on from it in the order they stand in."""
    folder = tmp_path_factory.mktemp("workspace with a blank")
    copy_repository(folder)
    done = _run(folder, "python", "-m", "flows.train_miras")
    assert done.returncode == 0, done.stdout[-5000:]
    return Workspace(folder, done.stdout)


def test_the_run_says_what_came_out_and_where_to_look(workspace: Workspace) -> None:
    for words in ("ingest: done", "register: done", "Scores", "report.html", "make ui"):
        assert words in workspace.output
    for noise in ("Traceback", "Beginning flow run", "temporary server", "git add"):
        assert noise not in workspace.output


def test_after_the_flow_dvc_has_nothing_to_do(workspace: Workspace) -> None:
    assert "up to date" in workspace.run("dvc", "status").stdout
    assert "Running stage" not in workspace.run("dvc", "repro").stdout


def test_mlflow_has_the_pipeline_and_a_child_for_every_stage(workspace: Workspace) -> None:
    parent, *others = workspace.runs()
    children = [run for run in others if "mlflow.parentRunId" in run.data.tags]
    assert [run.info.run_name for run in others if run not in children] == ["check: trend over data versions"]
    assert {run.info.run_name for run in children} == set(STAGES)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert "dialogues_own_ciou" in parent.data.metrics


def test_a_training_run_holds_curves_settings_and_what_it_read(workspace: Workspace) -> None:
    run = next(run for run in workspace.runs() if run.info.run_name == "stage1")
    assert workspace.mlflow().get_metric_history(run.info.run_id, "total")
    assert {"network.dual_encoder", "stage1.steps"} <= set(run.data.params)
    assert {"git.commit", "data.data/features"} <= set(run.data.tags)


def test_an_evaluation_holds_galleries_and_tables(workspace: Workspace) -> None:
    run = next(run for run in workspace.runs() if run.info.run_name == "evaluate")
    client = workspace.mlflow()
    assert client.list_artifacts(run.info.run_id, "galleries")
    assert client.list_artifacts(run.info.run_id, "tables")


def test_the_registered_model_answers_in_a_fresh_process(workspace: Workspace, tmp_path: Path) -> None:
    answered = _run(
        tmp_path,
        "python",
        "-W",
        "ignore",
        "-c",
        ASK,
        str(workspace.folder / "data" / "ingest" / "pictures"),
        MLFLOW_TRACKING_URI=f"sqlite:///{workspace.folder / 'mlflow.db'}",
    )
    assert answered.returncode == 0, answered.stdout[-3000:]
    (row,) = json.loads(answered.stdout.splitlines()[-1])
    answers, masks = json.loads(row["answers"]), json.loads(row["masks"])
    assert len(answers) == len(masks) == 2
    assert not any("[SEG]" in answer for answer in answers)


def test_a_second_run_changes_nothing(workspace: Workspace) -> None:
    before = len(workspace.runs())
    done = workspace.run("python", "-m", "flows.train_miras")
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if line.endswith(": unchanged")] == [
        f"{stage}: unchanged" for stage in STAGES
    ]
    assert len(workspace.runs()) == before


def test_a_changed_key_runs_again_only_what_depends_on_it(workspace: Workspace) -> None:
    file = workspace.folder / "params.yaml"
    changed = file.read_text().replace("alias: candidate", "alias: other")
    file.write_text(changed)
    done = workspace.run("dvc", "repro")
    assert done.returncode == 0, done.stdout
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["register"]


def test_the_same_weights_are_not_registered_twice(workspace: Workspace) -> None:
    receipt: dict[str, Any] = json.loads((workspace.folder / "reports" / "register.json").read_text())
    assert (receipt["version"], receipt["alias"]) == (1, "other")
    assert len(workspace.mlflow().search_model_versions("name = 'miras'")) == 1


def test_a_mistake_in_the_parameters_gives_one_message(workspace: Workspace) -> None:
    file = workspace.folder / "params.yaml"
    kept = file.read_text()
    file.write_text(kept.replace("model_name:", "model_nme:"))
    done = workspace.run("python", "-m", "flows.train_miras")
    file.write_text(kept)
    assert done.returncode == 1
    assert "params.yaml: register.model_nme: unknown key; did you mean model_name?" in done.stdout
    assert "Traceback" not in done.stdout
