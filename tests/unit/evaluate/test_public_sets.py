"""A public data set as a benchmark: RefCOCO's own files, made here."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from miras.errors import DataError
from miras.evaluate.commands import Settings, write_questions
from miras.evaluate.records import Question
from miras.files import read_records
from miras.paths import Paths
from tests.unit.sources.told_files import RIGHT, annotation, coco, save_json, save_picture

from .conftest import make_config, make_paths


def refcoco(folder: Path, *, names: tuple[str, ...] = ("1.png", "2.png")) -> dict[str, Any]:
    """Two pictures, of which some are on disk; three expressions of the split testA."""
    for number, name in enumerate(names):
        save_picture(folder / "train2014" / name, shade=40 * number)
    refs = [
        {
            "ref_id": number,
            "ann_id": number,
            "image_id": image_id,
            "category_id": 1,
            "split": "testA",
            "sentences": [{"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}],
        }
        for number, image_id, text in ((1, 1, "left mug"), (2, 1, "right mug"), (3, 2, "the mug"))
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    instances = coco(annotation(1), annotation(2, polygon=RIGHT), annotation(3, image_id=2), names=("1.png", "2.png"))
    return {
        "reader": "refer",
        "refs": str(folder / "refs(unc).p"),
        "instances": str(save_json(folder / "instances.json", instances)),
        "pictures": str(folder / "train2014"),
        "splits": ["testA"],
    }


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(**changes: object) -> Settings:
    paths: Paths = make_paths()
    return Settings(paths, make_config(**changes))


def test_every_sentence_is_a_question_in_every_wording(tmp_path: Path) -> None:
    source = refcoco(tmp_path / "refcoco")
    write_questions("refcoco-testA", Path("out"), settings(benchmarks={"refcoco-testA": source}))
    asked = list(read_records(Path("out/questions.jsonl"), Question))
    assert [question.benchmark for question in asked] == ["refcoco-testA"] * 3 + ["refcoco-testA-lisa"] * 3
    assert all(question.asks_for_mask and question.target and question.size == (20, 30) for question in asked)
    own, reworded = asked[:3], asked[3:]
    assert [question.targets for question in own] == [question.targets for question in reworded]
    assert all("the left mug" in question.question.lower() for question in (own[0], reworded[0]))
    assert own[0].question != reworded[0].question


def test_pictures_that_are_not_on_disk_are_named_and_counted(tmp_path: Path) -> None:
    source = refcoco(tmp_path / "refcoco", names=("1.png",))
    with pytest.raises(DataError, match=r"(?s)refcoco-testA: .*1 of 2 pictures.*evaluate.max_missing_share.*2\.png"):
        write_questions("refcoco-testA", Path("out"), settings(benchmarks={"refcoco-testA": source}))
    assert not Path("out").exists()
    borne = settings(benchmarks={"refcoco-testA": source}, max_missing_share=0.6)
    assert write_questions("refcoco-testA", Path("out"), borne) == 4


def test_a_benchmark_without_questions_is_refused(tmp_path: Path) -> None:
    refcoco(tmp_path / "refcoco")
    source = {"reader": "coco", "annotations": str(tmp_path / "refcoco" / "instances.json")}
    with pytest.raises(DataError, match=r"evaluate.benchmarks.mine: (empty|.*picture)"):
        write_questions("mine", Path("out"), settings(benchmarks={"mine": source}))
