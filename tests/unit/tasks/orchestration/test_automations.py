"""Prefect's automations of infra/prefect, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.automations import AutomationCore
from ruamel.yaml import YAML

from miras.errors import ConfigError, ServiceUnavailableError
from tasks.orchestration import automations

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(automations.URL_VARIABLE, raising=False)


@pytest.mark.parametrize("file", sorted((ROOT / "infra" / "prefect").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_file_is_an_automation_that_is_on_and_holds_no_address(file: Path) -> None:
    content = YAML(typ="safe").load(file)
    for action in content["actions"]:
        if action["type"] == "call-webhook":
            assert "block_document_id" not in action
            action["block_document_id"] = "00000000-0000-0000-0000-000000000000"
    assert AutomationCore.model_validate(content).enabled


def test_an_unknown_automation_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known: failure-notification, lost-runs"):
        automations.apply("failures")


def test_without_an_address_it_is_said_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert automations.main(["failure-notification"]) == 1
    assert "MIRAS_NOTIFY_URL is not set" in capsys.readouterr().err


def test_a_server_that_is_away_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(away), pytest.raises(ServiceUnavailableError, match="No Prefect server answers"):
        automations.apply("lost-runs")


def test_an_automation_that_is_as_it_should_be_is_left_alone() -> None:
    wanted = AutomationCore.model_validate(YAML(typ="safe").load(ROOT / "infra" / "prefect" / "lost-runs.yaml"))
    assert automations._is_same(wanted.model_copy(update={"enabled": False}), wanted)  # a person switched it off
    assert not automations._is_same(wanted.model_copy(update={"description": "older"}), wanted)
