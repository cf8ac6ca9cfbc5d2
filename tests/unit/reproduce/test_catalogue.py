"""The papers' tables: they are all there, whole, and can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miras.config import parse_sections
from miras.errors import ConfigError
from miras.reproduce import catalogue
from miras.reproduce.requests import request
from tasks import params
from tests.unit.reproduce.conftest import TABLE


def test_every_table_of_the_two_papers_is_there() -> None:
    assert catalogue.names() == [
        *(f"miras-{number}" for number in (3, 4, 5, 6, 10)),
        *(f"segllm-{number}" for number in (1, 3, 6, 7, 8)),
    ]


@pytest.mark.parametrize("name", catalogue.names())
def test_every_row_can_be_trained_with_valid_settings(
    name: str, preset: dict[str, Any], networks: dict[str, Any]
) -> None:
    found = request(name, catalogue.read(name), preset="smoke", values=preset, networks=networks, seeds=2)
    classes = {section: params.load_object(where) for section, where in params.SECTIONS.items()}
    assert found.runs
    for run in found.runs:
        parse_sections(run.params, classes, source=run.name)
    settings = [run.params["network"] | run.params["stage1"] for run in found.runs if run.seed == 0]
    assert all(settings.count(one) == 1 for one in settings), "two arms would train the same"


def test_figures_are_the_papers() -> None:
    ablation = {row.name: row.paper for row in catalogue.read("segllm-8").rows}
    assert ablation["mask, box and reference loss"] == [83.8, 72.5, 76.7, 74.0, 70.1, 65.8, 69.6, 69.4, 63.7]
    dialogues = {(row.section, row.name): row.paper for row in catalogue.read("miras-3").rows}
    assert dialogues["fine-tuned", "MIRAS (stage 2)"] == [
        14.72,
        24.22,
        40.61,
        30.34,
        8.51,
        15.7,
        49.2,
        30.82,
        40.06,
        88.47,
    ]


@pytest.mark.parametrize("name", ["miras-3", "miras-10"])
def test_most_f1_figures_are_the_harmonic_means_they_should_be(name: str) -> None:
    """A figure in the wrong column would break this; the paper itself is off for LISA and PixelLM."""
    table = catalogue.read(name)
    names = [column.name for column in table.columns]
    for row in table.rows:
        figures = dict(zip(names, row.paper, strict=True))
        precision, recall = float(figures["Precision"] or 0), float(figures["Recall"] or 0)
        harmonic = 2 * precision * recall / (precision + recall)
        if not row.name.startswith(("LISA", "PixelLM", "v1.5")):
            assert figures["F1"] == pytest.approx(harmonic, abs=0.15), row.name


def test_the_papers_gains_over_lisa_are_the_differences_that_it_prints() -> None:
    rows = {row.name: row.paper for row in catalogue.read("segllm-6").rows}
    printed = [20.2, 27.0, 19.1, 21.7, 20.0, 19.7, 34.2, 19.6, 20.7, 21.4]
    gains = [float(ours or 0) - float(base or 0) for ours, base in zip(rows["SegLLM"], rows["LISA"], strict=True)]
    assert gains == pytest.approx(printed, abs=0.11)


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no table 'mirs-6'; did you mean miras-6\? known: miras-3"):
        catalogue.read("mirs-6")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("paper: [70.0, 72]", "paper: [70.0]", "row 'with': 1 figures for 2 columns"),
        ('arm: "off"', "arm: of", "there is no arm 'of'"),
        ("absent: no key", 'absent: no key, arm: "on"', "needs an arm, or why it is absent"),
        ("compare_with: with", "compare_with: none", "there is no row 'none'"),
        ("name: without", "name: with", "two rows have one name"),
        ('arm: "off"', 'arm: "on"', "no row needs the arms off"),
        ("title:", "titel:", "unknown key; did you mean title"),
    ],
)
def test_a_broken_table_says_what_is_wrong(tmp_path: Path, before: str, after: str, message: str) -> None:
    file = tmp_path / "table.yaml"
    assert before in TABLE
    file.write_text(TABLE.replace(before, after))
    with pytest.raises(ConfigError, match=message):
        catalogue.read_file(file)
