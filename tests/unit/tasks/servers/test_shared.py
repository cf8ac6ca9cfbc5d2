"""The shared servers' settings: strong, private, and never on a command line; the compose file asks for the same."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from miras.errors import ConfigError, ServiceUnavailableError
from tasks.servers import postgres, shared

ROOT = Path(__file__).parents[4]
COMPOSE = ROOT / "infra" / "compose.yaml"
STORE_ON_NO_PORT = "http://127.0.0.1:9"


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    file = tmp_path / "servers.env"
    shared.make_secrets(file)
    return file


def change(file: Path, name: str, value: str) -> None:
    lines = [f"{name}={value}" if line.startswith(f"{name}=") else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")


def test_made_passwords_are_strong_different_and_private(settings_file: Path) -> None:
    values = dotenv_values(settings_file)
    made = [str(values[name]) for name in shared.MADE]
    assert all(len(secret) >= 32 for secret in made)
    assert len(set(made)) == len(made)
    assert stat.S_IMODE(settings_file.stat().st_mode) == 0o600


def test_passwords_that_are_there_are_not_replaced(settings_file: Path) -> None:
    before = settings_file.read_text()
    with pytest.raises(ConfigError, match="left as it is"):
        shared.make_secrets(settings_file)
    assert settings_file.read_text() == before


def test_a_file_that_others_can_read_is_refused(settings_file: Path) -> None:
    settings_file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        shared.read_settings(settings_file)


def test_an_empty_setting_is_named(settings_file: Path) -> None:
    change(settings_file, "PREFECT_SERVER_API_AUTH_STRING", "")
    with pytest.raises(ConfigError, match="PREFECT_SERVER_API_AUTH_STRING is empty"):
        shared.prefect_variables(shared.read_settings(settings_file))


def test_no_password_stands_on_a_command_line_or_in_a_log_of_ours(settings_file: Path) -> None:
    settings = shared.read_settings(settings_file)
    words = " ".join(
        word
        for service in (
            shared.database_server(settings),
            shared.mlflow_server(settings),
            shared.prefect_server(settings),
        )
        for word in service.command
    )
    assert not [name for name in shared.MADE if settings[name] in words]


def test_a_store_that_is_away_is_told_with_its_address(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    change(settings_file, "AWS_ENDPOINT_URL", STORE_ON_NO_PORT)
    with pytest.raises(ServiceUnavailableError, match=re.escape(STORE_ON_NO_PORT)):
        shared.make_bucket(shared.read_settings(settings_file))


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    with pytest.raises(ConfigError, match="too long"):
        postgres.make_folder(folder)
    assert not folder.exists()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_images_are_pinned_and_services_watched(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"]), name
        assert "healthcheck" in service or service["restart"] == "no", name
        for needed in service.get("depends_on", {}):
            assert needed in compose["services"]


def test_volumes_and_texts_that_services_use_are_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in compose["volumes"]
        for text in service.get("configs", ()):
            assert text["source"] in compose["configs"]


def test_every_variable_of_the_compose_file_has_its_line_in_the_example(compose: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    known = set(dotenv_values(ROOT / shared.EXAMPLE))
    assert used - known == set()


def test_every_password_is_asked_for_and_none_is_written_down(compose: dict[str, Any]) -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    for name in shared.MADE:
        assert f"${{{name}:?" in text, name
    example = dotenv_values(ROOT / shared.EXAMPLE)
    assert not any(example[name] for name in shared.MADE)


def test_servers_ask_for_passwords_and_call_nobody(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert "basic-auth" in services["mlflow"]["command"]
    assert "PREFECT_SERVER_API_AUTH_STRING" in services["prefect"]["environment"]
    for name in ("mlflow", "prefect"):
        quiet = services[name]["environment"]
        assert (quiet["DO_NOT_TRACK"], quiet["MLFLOW_DISABLE_TELEMETRY"]) == ("true", "true")
        assert quiet["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "ports" not in services["postgres"]


def test_the_image_takes_our_versions() -> None:
    image = (ROOT / "infra" / "docker" / "servers.Dockerfile").read_text(encoding="utf-8")
    assert "-c /tmp/constraints.txt" in image
    assert re.search(r"^FROM [\w.-]+:\d+\.\d+\.\d+", image, re.MULTILINE)
