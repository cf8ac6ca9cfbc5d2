"""A secret in the environment is found in nothing that is written: not in records, not in messages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from miras.errors import MirasError, ServiceUnavailableError
from tasks import environment, failure, params
from tasks.pipeline_run import Owner
from tasks.tracking.record import record_stage
from tasks.tracking.shipping import service_errors, ship
from tasks.tracking.spool import Spool, pipelines
from tasks.tracking.sync import send_remaining

ROOT = Path(__file__).parents[3]
PLANTED = "planted-secret"
AWAY = f"http://ann:{PLANTED}-in-address@127.0.0.1:9"
VARIABLES = {
    "AWS_SECRET_ACCESS_KEY": f"{PLANTED}-of-aws",
    "MLFLOW_TRACKING_PASSWORD": f"{PLANTED}-of-mlflow",
    "PREFECT_API_AUTH_STRING": f"miras:{PLANTED}-of-prefect",
    "OPENAI_API_KEY": f"{PLANTED}-of-teacher",
    "MIRAS_API_KEY": f"{PLANTED}-of-serve",
}


@pytest.fixture
def planted(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose user has put secrets where users put them; MLflow is away."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the process beside the stage starts in this workspace
    shutil.copyfile(ROOT / "presets" / "smoke.yaml", workspace / "params.yaml")
    environment.prepare()
    return workspace


def files_with_secret(folder: Path) -> list[str]:
    return [str(file) for file in folder.rglob("*") if file.is_file() and PLANTED.encode() in file.read_bytes()]


def fail(settings: dict[str, object]) -> None:
    """A stage that fails with what a client says of a refused login."""
    work = Path("work/ingest")
    recorded = record_stage("ingest", params=settings, sections=("ingest",), hashes={}, work=work)  # type: ignore[arg-type]
    with recorded, service_errors():
        raise ConnectionError(f"refused for {AWAY} with {VARIABLES['MLFLOW_TRACKING_PASSWORD']}")


def test_no_secret_in_records_or_messages(
    planted: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ServiceUnavailableError) as raised:
        fail(params.load())
    failure.record("ingest", raised.value)
    (pipeline,) = pipelines()
    for attempt in (send_remaining, lambda: ship(pipeline)):
        with pytest.raises(MirasError) as refused:
            attempt()
        assert PLANTED not in str(refused.value)
        assert "127.0.0.1:9" in str(refused.value)
    assert PLANTED not in str(raised.value)
    said = capfd.readouterr()
    assert "127.0.0.1:9" in said.err  # the process beside the stage has said that MLflow is away
    assert PLANTED not in said.out + said.err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{planted / 'mlflow.db'}")
    ship(pipeline)
    assert MlflowClient().get_experiment_by_name("miras") is not None
    assert files_with_secret(planted) == []


def test_the_search_would_find_a_secret(planted: Path) -> None:
    Spool(planted / "work" / "x").start(name=PLANTED, owner=Owner(pid=1, started_ticks=1), params={}, tags={})
    assert files_with_secret(planted) == [str(planted / "work" / "x" / "events.jsonl")]
