"""A workspace of its own for each test: the code under test works in the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, no pipeline run, and MLflow's store in the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIRAS_PIPELINE_RUN", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "miras")
    return tmp_path
