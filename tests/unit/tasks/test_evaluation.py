"""Evaluating a registered model: which version, which folder, what is said of a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from tasks import evaluation
from tasks.stage import StageFailedError


def test_an_alias_is_the_version_it_means_now(workspace: Path) -> None:
    client = MlflowClient()
    client.create_registered_model("miras")
    for _ in range(2):
        client.create_model_version("miras", source=workspace.as_uri(), run_id=None)
    client.set_registered_model_alias("miras", "champion", "2")
    assert evaluation._resolved("models:/miras@champion") == "models:/miras/2"
    assert evaluation._resolved("models:/miras/1") == "models:/miras/1"
    assert evaluation._resolved("exported") == "exported"
    with pytest.raises(StageFailedError, match="has no such model"):
        evaluation._resolved("models:/miras@winner")


def test_an_interrupted_evaluation_of_the_same_model_goes_on(workspace: Path) -> None:
    new = evaluation._folder_of("models:/miras/2")
    assert new.parent == evaluation.FOLDER
    assert new.name.startswith("miras-2-")
    (evaluation.FOLDER / ".miras-2-20260101-010101.work").mkdir(parents=True)
    assert evaluation._folder_of("models:/miras/2").name == "miras-2-20260101-010101"
    assert evaluation._folder_of("models:/miras/3").name.startswith("miras-3-")
    assert evaluation._folder_of("../some where/exported").name.startswith("some-where-exported-")


def test_the_message_of_a_failed_evaluation_is_the_commands_own() -> None:
    said = ["loading", "miras: exported: no such directory.", "Name another."]
    error = evaluation._explain(said, 1)
    assert str(error) == "evaluate: exported: no such directory.\nName another."
    assert error.is_shown
    killed = evaluation._explain(["answering 3 of 9"], -9)
    assert "exit code -9" in str(killed)
    assert "answering 3 of 9" in str(killed)
    assert not killed.is_shown


def test_an_unknown_model_ends_with_the_commands_message(workspace: Path) -> None:
    (workspace / "params.yaml").write_bytes((Path(__file__).parents[3] / "presets" / "smoke.yaml").read_bytes())
    (workspace / "infra").symlink_to(Path(__file__).parents[3] / "infra")
    with pytest.raises(StageFailedError, match="model 'nowhere': no such directory"):
        evaluation.evaluate_registered.fn("nowhere")
