"""What the parameters of a flow may name, and the form that Prefect makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from miras.errors import ConfigError
from miras.launch import profiles
from tasks import choices

ROOT = Path(__file__).parents[3]
FLOWS = ("train_miras", "build_prist", "evaluate", "reproduce")
SCHEMAS = """\
import importlib, json
from prefect.utilities.callables import parameter_schema
names = {'train_miras', 'build_prist', 'evaluate', 'reproduce'}
flows = {name: getattr(importlib.import_module(f'flows.{name}'), name) for name in names}
print(json.dumps({name: parameter_schema(flow).model_dump()['properties'] for name, flow in flows.items()}))
"""


@pytest.fixture(scope="module")
def forms() -> dict[str, dict[str, Any]]:
    """Flow -> parameter -> its field in the form, as `prefect deploy` makes it in this repository."""
    done = subprocess.run([sys.executable, "-c", SCHEMAS], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_every_parameter_is_described_and_none_has_to_be_given(forms: dict[str, dict[str, Any]]) -> None:
    for name in FLOWS:
        for parameter, field in forms[name].items():
            assert field.get("description"), f"{name}: {parameter}"
            assert "default" in field, f"{name}: {parameter}"


def test_presets_profiles_stages_and_tables_are_choices(forms: dict[str, dict[str, Any]]) -> None:
    train = forms["train_miras"]
    assert train["preset"]["enum"][0] == train["preset"]["default"] == "params.yaml"
    assert {"tiny", "smoke", "tiny+segllm"} <= set(train["preset"]["enum"])
    assert {file.stem for file in (ROOT / "infra" / "launch").glob("*.yaml")} == set(train["launch"]["enum"])
    assert train["until_stage"]["enum"][:2] == ["all", "ingest"]
    assert train["until_stage"]["enum"][-1] == "register"
    assert forms["build_prist"]["until_stage"]["enum"] == ["ingest", "generate", "annotate", "check"]
    assert "miras-6" in forms["reproduce"]["table"]["enum"]


def test_the_default_of_a_choice_is_one_of_them(forms: dict[str, dict[str, Any]]) -> None:
    for fields in forms.values():
        for field in fields.values():
            assert "enum" not in field or field["default"] in field["enum"]


def test_a_launch_profile_is_told_to_what_this_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(profiles.VARIABLE, "another")
    choices.use_launch("local")
    assert os.environ[profiles.VARIABLE] == "local"


def test_an_unknown_launch_profile_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(profiles.VARIABLE, "local")
    with pytest.raises(ConfigError, match="local"):
        choices.use_launch("mars")
    assert os.environ[profiles.VARIABLE] == "local"


def test_where_there_is_no_dvc_yaml_there_are_no_stages(workspace: Path) -> None:
    assert choices.stages() == []
