"""A preset never costs a user his own settings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from miras.errors import ConfigError
from tasks import params, preset


@pytest.fixture
def project(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two presets of one section each; params.yaml is one of them."""
    monkeypatch.setattr(params, "SECTIONS", {"register": "tasks.registry:RegisterConfig"})
    (workspace / "presets").mkdir()
    for name in ("tiny", "smoke"):
        (workspace / "presets" / f"{name}.yaml").write_text(f"register: {{model_name: {name}, alias: candidate}}\n")
    (workspace / "params.yaml").write_bytes((workspace / "presets" / "tiny.yaml").read_bytes())
    return workspace


def test_a_preset_takes_the_place_of_another(project: Path) -> None:
    preset.apply("smoke")
    assert "smoke" in (project / "params.yaml").read_text()


def test_own_changes_are_not_overwritten(project: Path) -> None:
    (project / "params.yaml").write_text("register: {model_name: mine, alias: candidate}\n")
    with pytest.raises(ConfigError, match="PRESET=mine"):
        preset.apply("smoke")
    assert "mine" in (project / "params.yaml").read_text()


def test_committed_changes_may_be_replaced(project: Path) -> None:
    (project / "params.yaml").write_text("register: {model_name: mine, alias: candidate}\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for words in (("init", "-q"), ("add", "params.yaml"), (*identity, "commit", "-qm", "mine")):
        subprocess.run(["git", *words], check=True)
    preset.apply("smoke")
    assert "smoke" in (project / "params.yaml").read_text()


def test_an_unknown_preset_names_the_nearest(project: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean smoke"):
        preset.apply("smok")


def test_a_preset_with_a_mistake_is_refused(project: Path) -> None:
    (project / "presets" / "smoke.yaml").write_text("register: {model_name: m, alas: candidate}\n")
    with pytest.raises(ConfigError, match="did you mean alias"):
        preset.apply("smoke")
    assert "tiny" in (project / "params.yaml").read_text()
