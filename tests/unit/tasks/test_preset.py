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
    monkeypatch.setattr(params, "SECTIONS", {"register": "tasks.registry.register:RegisterConfig"})
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny+segl", r"^presets/network/segl\.yaml: there is no network 'segl'; did you mean segllm\?$"),
        ("tiny+", r"there is no network ''; known: segllm\.$"),
        ("tinny+segllm", r"^presets/tinny\.yaml: there is no preset 'tinny'; did you mean tiny\?$"),
    ],
)
def test_of_a_preset_and_a_network_the_wrong_one_is_named(project: Path, name: str, message: str) -> None:
    (project / "presets" / "network").mkdir()
    (project / "presets" / "network" / "segllm.yaml").write_text("register: {model_name: segllm}\n")
    with pytest.raises(ConfigError, match=message):
        preset.apply(name)


def test_a_check_writes_nothing_and_gives_what_would_be_written(project: Path) -> None:
    before = sorted(path for path in project.rglob("*") if path.is_file())
    assert preset.check(preset.KEEP) is None
    text = preset.check("smoke")
    assert sorted(path for path in project.rglob("*") if path.is_file()) == before
    assert "tiny" in (project / "params.yaml").read_text()
    preset.apply("smoke")
    assert (project / "params.yaml").read_bytes() == text


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["preset", "--help"])
    assert preset.main() == 2
    assert "usage: python -m tasks.preset NAME[+NETWORK]" in capsys.readouterr().err


def test_a_preset_with_a_mistake_is_refused(project: Path) -> None:
    (project / "presets" / "smoke.yaml").write_text("register: {model_name: m, alas: candidate}\n")
    with pytest.raises(ConfigError, match=r"preset smoke: register\.alas: .*did you mean alias"):
        preset.apply("smoke")
    assert "tiny" in (project / "params.yaml").read_text()


@pytest.fixture
def reading(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A preset that reads a folder, one that renders its pictures, and a folder of the user's own."""
    monkeypatch.setattr(params, "SECTIONS", {"ingest": "miras.sources.config:IngestConfig"})
    rest = "max_pictures: 9, max_megapixels: 9, ignore_categories: [], max_rejected_share: 0.1"
    own = "{reader: coco, annotations: my_pictures/annotations.json}"
    scenes = "{reader: scenes, count: 1, size_px: 128, seed: 0}"
    write = (project / "presets" / "coco.yaml").write_text
    write(f"ingest: {{sources: {{own: {own}, drawn: {scenes}}}, watched: my_pictures, {rest}}}  # kept\n")
    write = (project / "presets" / "scenes.yaml").write_text
    write(f"ingest: {{sources: {{drawn: {scenes}}}, watched: scenes.py, {rest}}}\n")
    (project / "street scenes").mkdir()
    (project / "params.yaml").write_bytes((project / "presets" / "scenes.yaml").read_bytes())
    return project


def test_a_source_takes_the_place_of_the_presets_folder(reading: Path) -> None:
    preset.apply("coco", "street scenes/")
    text = (reading / "params.yaml").read_text()
    assert "street scenes/annotations.json" in text
    assert "my_pictures" not in text
    assert "# kept" in text


def test_what_a_run_wrote_is_not_taken_for_a_change_of_the_users(reading: Path) -> None:
    preset.apply("coco", "street scenes")
    preset.apply("coco", "street scenes")
    preset.apply("coco")
    assert "my_pictures" in (reading / "params.yaml").read_text()


def test_a_change_after_that_is_the_users_own(reading: Path) -> None:
    preset.apply("coco", "street scenes")
    (reading / "params.yaml").write_text((reading / "params.yaml").read_text().replace("count: 1", "count: 2"))
    with pytest.raises(ConfigError, match="changes of yours"):
        preset.apply("coco")


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("coco", "nowhere", "'nowhere' is not there"),
        ("scenes", "street scenes", "renders its pictures"),
        (preset.KEEP, "street scenes", "no preset is named"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(reading: Path, name: str, source: str, message: str) -> None:
    before = (reading / "params.yaml").read_bytes()
    with pytest.raises(ConfigError, match=message):
        preset.apply(name, source)
    assert (reading / "params.yaml").read_bytes() == before


def test_no_preset_leaves_the_settings_as_they_are(project: Path) -> None:
    (project / "params.yaml").write_text("register: {model_name: mine, alias: candidate}\n")
    preset.apply(preset.KEEP)
    assert "mine" in (project / "params.yaml").read_text()
