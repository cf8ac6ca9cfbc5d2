"""What of a stage's result goes to MLflow."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.results import numbers_of, tables_of
from tasks.spool import SPOOL, Spool

SCORES = {"dialogues_ciou": 55.5, "ok": True, "tables": {"masks": [{"model": "a", "ciou": 1.0}, {"model": "b"}]}}


def test_numbers_are_found_at_every_depth_and_truth_is_no_number() -> None:
    assert numbers_of({"a": {"b": 1, "c": "x"}, **SCORES}) == {"a.b": 1.0, "dialogues_ciou": 55.5}


def test_lists_of_records_are_tables() -> None:
    assert list(tables_of(SCORES)) == ["tables.masks"]


def test_a_copied_artifact_keeps_its_content_when_the_original_changes(workspace: Path) -> None:
    spool = Spool(SPOOL / "p")
    spool.folder.mkdir(parents=True)
    original = workspace / "scores.json"
    original.write_text(json.dumps(SCORES))
    spool.artifact(original, ".")
    original.write_text("{}")
    assert json.loads((spool.artifacts / "scores.json").read_text()) == SCORES
