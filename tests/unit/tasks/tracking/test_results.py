"""What of a stage's result goes to MLflow."""

from __future__ import annotations

import json
import os
from pathlib import Path

from miras.paths import Paths
from tasks.pipeline_run import Owner
from tasks.tracking.results import numbers_of, spool_trend, tables_of
from tasks.tracking.spool import SPOOL, Spool

SCORES = {"dialogues_ciou": 55.5, "ok": True, "tables": {"masks": [{"model": "a", "ciou": 1.0}, {"model": "b"}]}}


def test_numbers_are_found_at_every_depth_and_truth_is_no_number() -> None:
    assert numbers_of({"a": {"b": 1, "c": "x"}, **SCORES}) == {"a.b": 1.0, "dialogues_ciou": 55.5}


def test_lists_of_records_are_tables() -> None:
    assert list(tables_of(SCORES)) == ["tables.masks"]


def test_a_copied_artifact_keeps_its_content_when_the_original_changes(workspace: Path) -> None:
    spool = Spool(SPOOL / "p")
    spool.start(name="p", owner=Owner.of(os.getpid()), params={}, tags={})
    original = workspace / "scores.json"
    original.write_text(json.dumps(SCORES))
    spool.artifact(original, ".")
    original.write_text("{}")
    assert json.loads((spool.artifacts / "scores.json").read_text()) == SCORES


def versions_of(workspace: Path, *hashes: dict[str, str]) -> list[str]:
    """The versions under which the figures of `check` are spooled for these inputs."""
    paths = Paths(**{name: f"data/{name}" for name in Paths.model_fields})
    paths.check_summary.parent.mkdir(parents=True)
    paths.check_summary.write_text('{"tables": {"dialogues": {"rows": 3}}}')
    spool = Spool(SPOOL / "p")
    spool.start(name="p", owner=Owner.of(os.getpid()), params={}, tags={})
    for each in hashes:
        spool_trend("check", paths, spool, hashes=each)
        spool_trend("split", paths, spool, hashes=each)
    _, *events = [event for event, _ in spool.read()]
    assert all(event["values"] == {"tables.dialogues.rows": 3.0} for event in events)
    return [event["version"] for event in events]


def test_the_data_alone_makes_a_version(workspace: Path) -> None:
    before = {"data/annotate": "1", "data/ingest": "1", "miras/quality": "1"}
    first, other_code, other_data = versions_of(
        workspace, before, {**before, "miras/quality": "2"}, {**before, "data/ingest": "2"}
    )
    assert first == other_code != other_data
