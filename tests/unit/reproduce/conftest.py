"""A small table, a preset for it, and the folders its runs leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from miras.config import read_yaml
from miras.reproduce.catalogue import read_file
from miras.reproduce.records import PaperTable, Request, Run, RunRecord
from miras.reproduce.requests import request

ROOT = Path(__file__).parents[3]

TABLE = """\
paper: a paper
number: Table 9
title: What a switch does
arms:
  "on": {network: miras}
  "off": {network: miras, settings: {network.dual_encoder: false}}
  public: {llava: some/llava}
columns:
  - {group: RefCOCO, name: val, benchmark: refcoco-val, metric: ciou}
  - {group: RefCOCO, name: testA, benchmark: refcoco-testA, metric: ciou}
own:
  - {group: dialogues, name: cIoU, benchmark: dialogues, metric: ciou}
  - {group: dialogues, name: METEOR, benchmark: dialogues, table: text, metric: meteor}
  - {group: dialogues, name: PR, benchmark: dialogues, table: judge, metric: progression}
rows:
  - {name: with, paper: [70.0, 72], arm: "on"}
  - {name: without, paper: [68.5, null], arm: "off"}
  - {name: large, section: public, paper: [80, 81], arm: public}
  - {name: GPT, paper: [1, 2], absent: no key}
compare_with: with
notes: [a note & more]
"""


@pytest.fixture
def table(tmp_path: Path) -> PaperTable:
    """Rows that are trained, one that needs public weights, one that is another's."""
    file = tmp_path / "table.yaml"
    file.write_text(TABLE)
    return read_file(file)


@pytest.fixture
def preset() -> dict[str, Any]:
    """The smoke preset as read."""
    return read_yaml(ROOT / "presets" / "smoke.yaml")


@pytest.fixture
def networks() -> dict[str, Any]:
    """presets/network as read."""
    return {file.stem: read_yaml(file) for file in (ROOT / "presets" / "network").glob("*.yaml")}


@pytest.fixture
def asked(table: PaperTable, preset: dict[str, Any], networks: dict[str, Any]) -> Callable[[int], Request]:
    """The request for so many seeds; the preset names one of the two public benchmarks."""
    preset["evaluate"]["benchmarks"] = {"refcoco-val": {"reader": "refer", "pictures": "train2014"}}

    def make(seeds: int) -> Request:
        return request("toy-9", table, preset="smoke", values=preset, networks=networks, seeds=seeds)

    return make


def mask_row(ciou: float, *, benchmark: str = "dialogues", **more: Any) -> dict[str, Any]:
    """A row of `tables.masks`."""
    row = {"benchmark": benchmark, "model": "stage2", "history": "own", "samples": 50, "pictures": 40}
    return {**row, "ciou": ciou, "ciou_low": ciou - 4, "ciou_high": ciou + 5, **more}


def leave(
    root: Path, run: Run, rows: list[dict[str, Any]], *, message: str = "", tables: Mapping[str, Any] | None = None
) -> None:
    """What a run leaves: its record and its scores."""
    folder = root / run.evaluation
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps({"tables": {"masks": rows, **(tables or {})}}))
    url = f"http://127.0.0.1:5000/#/experiments/1/runs/{run.arm}{run.seed}"
    record = RunRecord(arm=run.arm, seed=run.seed, is_done=not message, message=message, mlflow_url=url)
    (root / run.record).write_text(record.model_dump_json())
