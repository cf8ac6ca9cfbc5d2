"""Passwords never go where an address or a message is shown."""

from __future__ import annotations

import os

import pytest

from tasks import environment


@pytest.mark.parametrize(
    ("given", "left", "variables"),
    [
        (
            "http://ann:s3cr%40t@mlflow.example:5000/base",
            "http://mlflow.example:5000/base",
            {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "s3cr@t"},
        ),
        (
            "postgresql+psycopg2://ann:word@db.example:5432/mlflow",
            "postgresql+psycopg2://ann@db.example:5432/mlflow",
            {"PGPASSWORD": "word"},
        ),
        ("https://mlflow.example", "https://mlflow.example", {}),
        ("sqlite:////tmp/a@b:c.db", "sqlite:////tmp/a@b:c.db", {}),
    ],
)
def test_a_password_in_the_tracking_address_becomes_a_variable(
    monkeypatch: pytest.MonkeyPatch, given: str, left: str, variables: dict[str, str]
) -> None:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD")
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    environment.prepare()
    assert os.environ["MLFLOW_TRACKING_URI"] == left
    assert {name: os.environ[name] for name in names if name in os.environ} == variables


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mysql://ann:word@db/mlflow", "mysql://db/mlflow"),
        ("no server at http://a:b@host:1/x?y=z@w (refused)", "no server at http://host:1/x?y=z@w (refused)"),
        ("s3://bucket/dvc", "s3://bucket/dvc"),
        ("ann@host:/folder", "ann@host:/folder"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert environment.shown_address(address) == shown


def test_secrets_of_the_environment_are_taken_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-aws-secret")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "miras:planted-prefect-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("SOME_PASSWORD", "short")
    said = environment.redacted("a planted-aws-secret b planted-prefect-secret c short http://u:pw@h/")
    assert said == "a *** b *** c short http://h/"
