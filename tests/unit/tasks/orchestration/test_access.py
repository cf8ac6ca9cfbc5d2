"""A wrong password is said as such: for Prefect before anything starts, for MLflow where records wait."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

from miras.errors import ConfigError
from tasks.orchestration.access import check_prefect_access
from tasks.tracking.shipping import AccessRefusedError, ship
from tests.unit.tasks.tracking.test_tracking import spool_run

RIGHT = "miras:planted-prefect-secret"


class _AsksForPassword(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # also of MLflow, which answers a wrong password in the same way
        expected = "Basic " + base64.b64encode(RIGHT.encode()).decode()
        self.send_response(200 if self.headers.get("Authorization") == expected else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api_url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _AsksForPassword)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def test_the_right_password_passes(api_url: str) -> None:
    with temporary_settings({PREFECT_API_AUTH_STRING: RIGHT}):
        check_prefect_access(api_url)


def test_a_wrong_password_is_refused_and_not_repeated(api_url: str) -> None:
    with (
        temporary_settings({PREFECT_API_AUTH_STRING: "miras:wrong-planted-secret"}),
        pytest.raises(ConfigError, match="does not take") as raised,
    ):
        check_prefect_access(api_url)
    assert "wrong-planted-secret" not in str(raised.value)


def test_a_missing_password_is_asked_for(api_url: str) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_AUTH_STRING}), pytest.raises(ConfigError, match="asks for"):
        check_prefect_access(api_url)


def test_a_server_that_is_away_is_left_to_others() -> None:
    check_prefect_access("http://127.0.0.1:9/api")


def test_a_wrong_password_for_mlflow_is_named_and_not_tried_again(
    workspace: Path, api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", api_url)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-planted-secret")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    pipeline = spool_run("p")
    with pytest.raises(AccessRefusedError, match=r"MLFLOW_TRACKING_PASSWORD.*make sync") as raised:
        ship(pipeline)
    assert not raised.value.can_retry
    assert "wrong-planted-secret" not in str(raised.value)
    assert not pipeline.is_all_sent()
