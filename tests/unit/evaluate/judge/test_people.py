"""People's scores: good files, broken ones, and agreement against scipy-free sums."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miras.errors import DataError
from miras.evaluate.judge.people import agreement, read_peoples_scores
from miras.evaluate.judge.records import DIMENSIONS, Dimension

HEADER = "dialogue_id,progression,logical_coherence,content_consistency,target_relevance"


def write(folder: Path, text: str, name: str = "human.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def four(value: float) -> dict[Dimension, float]:
    return dict.fromkeys(DIMENSIONS, value)


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    csv_file = write(tmp_path, f"\ufeff{HEADER},comment\r\na,1,2,3,4.5,good\r\nb, 0,0,5,5,\r\n")
    rows = [
        {"dialogue_id": "a", **dict(zip(DIMENSIONS, (1, 2, 3, 4.5), strict=True))},
        {"dialogue_id": "b", **dict(zip(DIMENSIONS, (0, 0, 5, 5), strict=True))},
    ]
    json_file = write(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "human.jsonl")
    found = read_peoples_scores(csv_file)
    assert found.scores == read_peoples_scores(json_file).scores
    assert found.scores["a"] == dict(zip(DIMENSIONS, (1, 2, 3, 4.5), strict=True))


def test_several_people_are_averaged_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},rater\na,1,1,1,1,ann\na,4,2,1,1,bob\nb,5,5,5,5,ann\n")
    found = read_peoples_scores(path)
    assert found.scores["a"]["progression"] == 2.5
    assert found.people == {"ann": 2, "bob": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("human.txt", "", r"expected a file .csv or .jsonl"),
        ("human.csv", "", r"the header lacks dialogue_id, progression.*found nothing"),
        ("human.csv", "dialogue_id,progression\n", r"the header lacks logical_coherence"),
        ("human.csv", f"{HEADER}\n", r"no row"),
        ("human.jsonl", "", r"no row"),
        ("human.csv", f"{HEADER}\na,1,2,3,six\n", r"1 faulty rows: line 2: target_relevance is 'six'"),
        ("human.csv", f"{HEADER}\na,1,2,3\n", r"line 2: target_relevance is None"),
        ("human.csv", f"{HEADER}\na,1,2,3,5.5\nb,-1,0,0,0\n", r"2 faulty rows: line 2: .*'5.5'.*line 3: .*'-1'"),
        ("human.csv", f"{HEADER}\na,nan,2,3,4\n", r"progression is 'nan'"),
        ("human.csv", f"{HEADER}\n,1,2,3,4\n", r"dialogue_id is ''"),
        ("human.csv", f"{HEADER}\na,1,2,3,4\na,1,2,3,4\n", r"line 3: dialogue 'a' is there twice.*`rater`"),
        ("human.jsonl", '{"dialogue_id": "a", "progression": 1', r"line 1: not a JSON object"),
        ("human.jsonl", "[1]\n", r"line 1: not a JSON object"),
        ("human.jsonl", '{"dialogue_id": "a", "progression": true}', r"progression is True"),
        ("human.csv", f"{HEADER}\n" + "a,9,9,9,9\n" * 8, r"8 faulty rows: .*; and 3 more"),
    ],
)
def test_a_broken_file_is_one_message(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_peoples_scores(write(tmp_path, text, name))


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: No such file"):
        read_peoples_scores(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"not text in UTF-8"):
        read_peoples_scores(tmp_path / "latin.csv")


def test_agreement_is_over_dialogues_that_both_scored(tmp_path: Path) -> None:
    rows = "a,1,1,1,1\nb,2,1,2,2\nc,4,1,3,3\nx,5,5,5,5\n"
    people = read_peoples_scores(write(tmp_path, f"{HEADER}\n{rows}"))
    judge = {"a": four(1), "b": four(3), "c": four(4), "y": four(0)}
    found = agreement(people, judge)
    assert (found.dialogues, found.only_people, found.only_judge) == (3, 1, 1)
    progression = found.dimensions["progression"]
    # people 1 2 4, judge 1 3 4: covariance 13/3, variances 14/3
    assert progression.pearson == pytest.approx(13 / 14)
    assert progression.spearman == pytest.approx(1)
    assert progression.mean_absolute_difference == pytest.approx(1 / 3)
    constant = found.dimensions["logical_coherence"]
    assert (constant.pearson, constant.spearman) == (None, None)
    assert constant.mean_absolute_difference == pytest.approx(5 / 3)


def test_no_common_dialogue_gives_no_figure(tmp_path: Path) -> None:
    people = read_peoples_scores(write(tmp_path, f"{HEADER}\na,1,1,1,1\n"))
    found = agreement(people, {"b": four(1)})
    assert found.dialogues == 0
    assert found.mean.pearson is found.mean.spearman is found.mean.mean_absolute_difference is None
