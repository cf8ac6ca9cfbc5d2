"""Test data and settings are told apart by what matters, and only by that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from miras.dialogue.records import Picture
from miras.errors import DataError
from miras.files import write_records
from tasks.registry.provenance import measured_on, settings

ROOT = Path(__file__).parents[4]


@pytest.fixture
def tables(workspace: Path) -> tuple[Path, Path]:
    """Questions of two benchmarks about two pictures, and the pictures' table."""
    questions, pictures = workspace / "questions.jsonl", workspace / "pictures.jsonl"
    lines = [("dialogues", "a"), ("dialogues", "a"), ("queries", "b"), ("queries", "")]
    questions.write_text("".join(json.dumps({"benchmark": name, "image_id": image}) + "\n" for name, image in lines))
    write_pictures(pictures, a="1", b="2", c="3")
    return questions, pictures


def write_pictures(file: Path, **hashes: str) -> None:
    write_records(
        file,
        [Picture(image_id=name, file_name=name, height=1, width=1, sha256=sha) for name, sha in hashes.items()],
    )


def test_a_benchmark_is_known_by_its_questions_and_pictures(tables: tuple[Path, Path]) -> None:
    questions, pictures = tables
    before = measured_on(questions, pictures)
    assert {name: data.questions for name, data in before.items()} == {"dialogues": 2, "queries": 2}
    write_pictures(pictures, a="1", b="other", c="3", d="4")
    after = measured_on(questions, pictures)
    assert before["dialogues"] == after["dialogues"]
    assert before["queries"] != after["queries"]
    questions.write_text(questions.read_text() + '{"benchmark": "dialogues", "image_id": "a"}\n')
    assert measured_on(questions, pictures)["dialogues"] != after["dialogues"]


def test_pictures_that_nobody_asks_about_do_not_count(tables: tuple[Path, Path]) -> None:
    before = measured_on(*tables)
    write_pictures(tables[1], a="1", b="2", c="changed")
    assert measured_on(*tables) == before


def test_a_question_about_an_unknown_picture_is_named(tables: tuple[Path, Path]) -> None:
    write_pictures(tables[1], a="1")
    with pytest.raises(DataError, match=r"1 pictures that are not in .*'b'"):
        measured_on(*tables)
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        measured_on(Path("nowhere.jsonl"), tables[1])


@pytest.fixture
def presets(workspace: Path) -> Path:
    """The presets of this repository, and tiny as params.yaml."""
    shutil.copytree(ROOT / "presets", workspace / "presets")
    shutil.copyfile(ROOT / "presets" / "tiny.yaml", workspace / "params.yaml")
    return workspace / "params.yaml"


def test_settings_are_told_by_the_preset_they_differ_least_from(presets: Path) -> None:
    found = settings(presets)
    assert (found.preset, found.changes, found.network) == ("tiny", {}, "miras")
    presets.write_text(presets.read_text().replace("title: miras, tiny preset", "title: mine"))
    changed = settings(presets)
    assert (changed.preset, changed.changes) == ("tiny", {"report.title": ("miras, tiny preset", "mine")})
    assert changed.sha256 != found.sha256


def test_a_network_laid_over_a_preset_is_found_again(presets: Path) -> None:
    from tasks.preset import compose

    presets.write_bytes(compose("smoke+segllm"))
    found = settings(presets)
    assert (found.preset, found.changes, found.network) == ("smoke+segllm", {}, "segllm")
    presets.write_text(presets.read_text().replace("reference_loss: true", "reference_loss: false"))
    assert settings(presets).network == ""
