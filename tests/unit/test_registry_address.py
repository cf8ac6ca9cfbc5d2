"""Registered models by their address, from a real MLflow registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from miras.errors import ConfigError, ServiceUnavailableError
from miras.registry_address import Address, check_name, fetch, parse

REGISTER = """\
import sys, mlflow
from mlflow.tracking.client import MlflowClient
folder, = sys.argv[1:]
client = MlflowClient()
client.create_registered_model("miras")
for content in ("first", "second"):
    with mlflow.start_run() as run:
        open(f"{folder}/miras.json", "w").write(content)
        mlflow.log_artifacts(folder, "model/artifacts/exported")
    version = client.create_model_version("miras", f"{run.info.artifact_uri}/model", run.info.run_id).version
client.set_registered_model_alias("miras", "champion", "1")
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a store with two versions; the first is the champion."""
    root = tmp_path_factory.mktemp("registry")
    (root / "exported").mkdir()
    address = f"sqlite:///{root}/mlflow.db"
    environment = os.environ | {"MLFLOW_TRACKING_URI": address, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", REGISTER, str(root / "exported")]
    subprocess.run(command, check=True, cwd=root, env=environment)
    return address


@pytest.fixture(autouse=True)
def _environment(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    monkeypatch.setenv("MIRAS_CACHE", str(tmp_path / "cache"))


def test_an_alias_and_a_version_give_the_exported_directory_fetched_once() -> None:
    champion = fetch("models:/miras@champion", holds="miras.json")
    assert (champion / "miras.json").read_text() == "first"
    assert (fetch("models:/miras/2", holds="miras.json") / "miras.json").read_text() == "second"
    (champion / "mine").touch()
    assert fetch("models:/miras/1", holds="miras.json") == champion
    assert (champion / "mine").exists()


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"models:/miras: no address of a model\. Write models:/NAME@ALIAS"):
        fetch("models:/miras", holds="miras.json")
    with pytest.raises(ServiceUnavailableError, match=r"(?s)models:/miras@none: .*none.* \(registry: sqlite") as told:
        fetch("models:/miras@none", holds="miras.json")
    assert "Exception" not in str(told.value)
    with pytest.raises(ServiceUnavailableError, match=r"^models:/lama/3: Registered Model with name=lama not found \("):
        fetch("models:/lama/3", holds="miras.json")
    with pytest.raises(ConfigError, match=r"holds no other\.json; it was not registered by miras"):
        fetch("models:/miras/1", holds="other.json")
    assert not any(Path(os.environ["MIRAS_CACHE"]).rglob("1"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceUnavailableError, match="Set MLFLOW_TRACKING_URI"):
        fetch("models:/miras@champion", holds="miras.json")


def test_a_message_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:planted-word@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceUnavailableError, match=r"registry: http://127\.0\.0\.1:9\)") as told:
        fetch("models:/miras@champion", holds="miras.json")
    assert "planted-word" not in str(told.value)


def test_an_address_is_an_alias_or_a_version() -> None:
    assert parse("models:/miras@champion") == Address("miras", "champion", None)
    assert parse("models:/a model/12") == Address("a model", None, 12)


@pytest.mark.parametrize("text", ["miras", "models:/miras", "models:/x:y", "models:/miras/new", "models:/a/b@c", ""])
def test_another_form_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match=r"no address of a model\. Write models:/NAME@ALIAS or models:/NAME/VERSION"):
        parse(text)


def test_an_address_is_no_name() -> None:
    check_name("a model's name-2.0")
    with pytest.raises(ConfigError, match=r"no name of a registered model; did you mean miras\?"):
        check_name("models:/miras@champion")
    for text in ("", "a/b", "a:b", "miras@champion"):
        with pytest.raises(ConfigError, match="expected a name as `miras`"):
            check_name(text)
