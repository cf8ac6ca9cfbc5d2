"""Our figures beside the paper's: what is counted, what is missing and why."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from miras.errors import ConfigError, DataError
from miras.reproduce.cells import Cell
from miras.reproduce.records import Column, Request
from miras.reproduce.results import Result, collect, given_files, read_record
from miras.reproduce.scores import find, read_scores
from miras.reproduce.seeds import summarize
from tests.unit.reproduce.conftest import leave, mask_row


def own(result: Result, row: str) -> tuple[Cell, ...]:
    return next(found.own for found in result.rows if found.name == row)


def test_the_interval_over_seeds_is_students(asked: Callable[[int], Request]) -> None:
    values = [41.0, 44.5, 42.25]
    expected = stats.t.interval(0.95, 2, loc=statistics.fmean(values), scale=stats.sem(values))
    found = summarize(values)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.spread == pytest.approx(statistics.stdev(values))


def test_one_seed_has_the_interval_over_pictures(tmp_path: Path, asked: Callable[[int], Request]) -> None:
    found = asked(1)
    leave(tmp_path, found.runs[0], [mask_row(50.0)])
    cell = own(collect(found, root=tmp_path), "with")[0]
    assert (cell.mean, cell.spread) == (50.0, None)
    assert cell.interval is not None
    assert (cell.interval.low, cell.interval.high, cell.interval.over) == (46.0, 55.0, "pictures")
    assert cell.values[0].url is not None
    assert cell.values[0].url.endswith("on0")


def test_gains_are_counted_seed_by_seed(tmp_path: Path, asked: Callable[[int], Request]) -> None:
    found = asked(3)
    for run in found.runs:
        leave(tmp_path, run, [mask_row(50.0 + 10 * run.seed - (run.arm == "off") * (1 + run.seed))])
    result = collect(found, root=tmp_path)
    cell = own(result, "without")[0]
    assert cell.mean == pytest.approx(58.0)
    assert cell.gain is not None
    assert cell.gain.value == pytest.approx(-2.0)
    assert cell.gain.interval is not None
    assert cell.interval is not None
    assert cell.gain.interval.high - cell.gain.interval.low < cell.interval.high - cell.interval.low
    assert own(result, "with")[0].gain is None
    assert [row.paper_gain for row in result.rows][1] == (-1.5, None)


def test_a_failed_run_is_named_and_the_others_count(tmp_path: Path, asked: Callable[[int], Request]) -> None:
    found = asked(2)
    for run in found.runs:
        message = "stage1: loss is not finite" if (run.arm, run.seed) == ("off", 1) else ""
        leave(tmp_path, run, [mask_row(40.0)], message=message)
    result = collect(found, root=tmp_path)
    assert [record.message for record in result.failures] == ["stage1: loss is not finite"]
    row = next(row for row in result.rows if row.name == "without")
    assert row.failed == ("off, seed 1: stage1: loss is not finite",)
    assert [value.seed for value in row.own[0].values] == [0]
    assert len(own(result, "with")[0].values) == 2


def test_every_missing_number_has_its_reason(tmp_path: Path, asked: Callable[[int], Request]) -> None:
    found = asked(1)
    text = {"benchmark": "dialogues", "model": "stage2", "history": "own", "meteor": None}
    text["missing"] = {"meteor": "WordNet is not installed"}  # type: ignore[assignment]
    leave(tmp_path, found.runs[0], [mask_row(50.0)], tables={"text": [text]})
    result = collect(found, root=tmp_path)
    with_, without, large, gpt = result.rows
    assert with_.own[1].reason == "WordNet is not installed"
    assert "no language model has judged" in with_.own[2].reason
    assert with_.public[0].reason == "refcoco-val: no scores; evaluate.benchmarks says refer, train2014"
    assert "refcoco-testA: not in evaluate.benchmarks of preset smoke" in with_.public[1].reason
    assert without.own[0].reason == "not run yet"
    assert "public weights some/llava" in large.own[0].reason
    assert gpt.own[0].reason == "no key"
    assert result.open_runs == ("off, seed 0",)
    for row in result.rows:
        assert all(bool(cell.values) != bool(cell.reason) for cell in (*row.own, *row.public))


def test_a_public_benchmark_is_read_from_its_own_scores(tmp_path: Path, asked: Callable[[int], Request]) -> None:
    found = asked(1)
    leave(tmp_path, found.runs[0], [mask_row(50.0)])
    folder = tmp_path / found.runs[0].evaluation / "benchmarks" / "refcoco-val"
    folder.mkdir(parents=True)
    rows = [mask_row(61.0, benchmark="refcoco-val", history="none")]
    (folder / "scores.json").write_text(json.dumps({"tables": {"masks": rows}}))
    assert collect(found, root=tmp_path).rows[0].public[0].mean == 61.0


def test_scores_that_are_handed_in_fill_their_row(tmp_path: Path, asked: Callable[[int], Request]) -> None:
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps({"tables": {"masks": [mask_row(12.0, model="gpt")]}}))
    result = collect(asked(1), root=tmp_path, given={"GPT": file})
    assert own(result, "GPT")[0].mean == 12.0
    assert own(result, "GPT")[0].values[0].seed is None


@pytest.mark.parametrize(
    ("row", "content", "message"),
    [
        ("GTP", "{}", "there is no such row; rows: with, without, public: large, GPT"),
        ("with", "{}", "trained here"),
        ("GPT", "{", "not JSON"),
        ("GPT", "[]", "holds no `tables`"),
        ("GPT", None, "no such file"),
    ],
)
def test_bad_scores_that_are_handed_in_are_refused(
    tmp_path: Path, asked: Callable[[int], Request], row: str, content: str | None, message: str
) -> None:
    file = tmp_path / "theirs.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=message):
        collect(asked(1), root=tmp_path, given={row: file})


def test_scores_on_a_command_line_are_pairs_whatever_the_rows_name_holds() -> None:
    given = given_files(["GPT=a.json", "k = 1: x=b c.json"])
    assert given == {"GPT": Path("a.json"), "k = 1: x": Path("b c.json")}
    for words in (["GPT"], ["=a.json"], ["GPT="], [""]):
        with pytest.raises(ConfigError, match=r"expected ROW=SCORES\.json"):
            given_files(words)
    with pytest.raises(ConfigError, match=r"--given 'GPT': there twice \(a and b\)"):
        given_files(["GPT=a", "GPT=b"])


def test_a_folder_is_no_scores_document(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_scores(tmp_path)


def column(**more: Any) -> Column:
    return Column.model_validate({"name": "x", "benchmark": "dialogues", "metric": "ciou", **more})


def test_without_a_history_the_models_own_answers_are_meant() -> None:
    rows = [mask_row(1.0, history="reference"), mask_row(2.0), mask_row(3.0, history="none")]
    assert find({"tables": {"masks": rows}}, column(), "stage2")["ciou"] == 2.0  # type: ignore[index]
    assert find({"tables": {"masks": rows[::2]}}, column(), "stage2")["ciou"] == 3.0  # type: ignore[index]
    told = find({"tables": {"masks": rows}}, column(where={"history": "reference"}), "stage2")
    assert told["ciou"] == 1.0  # type: ignore[index]


def test_two_rows_that_fit_are_no_number() -> None:
    rows = [mask_row(1.0, model="a"), mask_row(2.0, model="b")]
    assert find({"tables": {"masks": rows}}, column(), None) == "the scores hold 2 rows of benchmark dialogues"


@pytest.mark.parametrize("value", [None, "41", True])
def test_what_is_no_number_is_not_shown_as_one(value: Any) -> None:
    found = find({"tables": {"masks": [{**mask_row(1.0), "ciou": value}]}}, column(), "stage2")
    assert isinstance(found, str)


def test_a_zero_is_a_number() -> None:
    assert find({"tables": {"masks": [mask_row(0.0)]}}, column(), "stage2")["ciou"] == 0.0  # type: ignore[index]


def test_a_broken_record_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"arm": "on"')
    with pytest.raises(DataError, match=r"run\.json: not the record of a run"):
        read_record(tmp_path / "run.json")
