from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from miras.dialogue.records import Region
from miras.errors import DataError
from miras.evaluate.asking import AskingPlan, passes
from miras.evaluate.benchmarks import own_benchmarks
from miras.evaluate.models import StageModel
from miras.evaluate.records import Prediction
from miras.evaluate.stage import fingerprint
from miras.files import read_records, write_records
from miras.paths import Paths

from .conftest import evaluate, make_config, scripted_models


def test_the_stage_writes_all_that_the_graph_promises(evaluated: Paths) -> None:
    folder = Path(evaluated.evaluate)
    scores = json.loads(evaluated.scores.read_text())
    assert (scores["dialogues_own_ciou"], scores["dialogues_stage1_ciou"]) == (100.0, 0.0)
    assert {(row["model"], row["history"]) for row in scores["tables"]["masks"]} >= {
        (step.model, step.history)
        for step in passes(own_benchmarks(evaluated, make_config()), scripted_models(), make_config())
    }
    galleries = sorted(file.name for file in (folder / "galleries").iterdir())
    assert "dialogues_stage2_turns.png" in galleries
    assert {
        f"dialogues_{m}_{c}.png" for m in ("stage1", "stage2") for c in ("best", "median", "worst", "random")
    } <= set(galleries)
    for name in galleries:
        with Image.open(folder / "galleries" / name) as picture:
            assert picture.width > 600
    assert len(list(read_records(evaluated.predictions, Prediction))) == (
        sum((12, 12, 4, 12) * 2) + 12 + 12 + 12 + 3 * 16
    )


def test_curves_have_one_column_per_model_and_history(evaluated: Paths) -> None:
    curves = Path(evaluated.evaluate) / "curves"
    with (curves / "iou_at_least.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 19
    assert {"threshold", "stage1_own", "stage2_reference", "no_picture_own", "whole_image_any"} <= rows[0].keys()
    with (curves / "training_stage1.csv").open() as lines:
        assert [row["total"] for row in csv.DictReader(lines)] == ["3.0", "1.5", "1.0", "0.75", "0.5"]
    with (curves / "validation_stage2.csv").open() as lines:
        assert [row["val_ciou"] for row in csv.DictReader(lines)] == ["41.0"]


def test_two_runs_write_the_same_bytes(evaluated: Paths) -> None:
    def published() -> dict[str, bytes]:
        files = [file for file in sorted(Path(evaluated.evaluate).rglob("*")) if file.is_file()]
        return {str(file): file.read_bytes() for file in files}

    first = published()
    evaluate(evaluated, scripted_models())
    assert published() == first


def test_a_run_that_stopped_before_scoring_asks_nothing_again(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr("miras.evaluate.stage.scores_document", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(paths, scripted_models(), gallery_examples=1)
    models = scripted_models()
    evaluate(paths, models, gallery_examples=1)
    assert all(not model.requests for model in models.values())
    assert paths.scores.exists()


def test_changed_weights_change_the_fingerprint(paths: Paths) -> None:
    model = StageModel(backbones=paths.backbones, weights=paths.stage2)
    plan = AskingPlan(paths=paths, config=make_config(), public="", models={"stage2": model}, passes=())
    before = fingerprint(plan)
    (Path(paths.stage2) / "weights.safetensors").write_bytes(b"other")
    after = fingerprint(plan)
    assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_a_source_without_masks_is_refused_with_the_reason(paths: Paths) -> None:
    regions = [region.model_copy(update={"mask": None}) for region in read_records(paths.checked_regions, Region)]
    write_records(paths.checked_regions, regions)
    lines = paths.split_dialogues("test").read_text().splitlines()
    paths.split_dialogues("test").write_text("".join(line + "\n" for line in lines if '"prist"' in line))
    with pytest.raises(DataError, match="none of the chosen questions points at a region with a mask"):
        evaluate(paths, scripted_models())
