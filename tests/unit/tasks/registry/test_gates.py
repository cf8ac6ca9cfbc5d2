"""Which versions pass the gates, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from miras.config import parse_sections
from miras.errors import ConfigError
from tasks.registry.gates import Gate, PromoteConfig, first, judge
from tests.unit.tasks.registry.lineages import ABSENT, CIOU, PRECISION, lineage

UP, DOWN = Gate(better="higher", tolerance=0.0), Gate(better="lower", tolerance=0.0)
SCORES = {CIOU: 40.0, PRECISION: 30.0, ABSENT: 80.0}


def verdict(gate: Gate, ours: float, theirs: float) -> tuple[bool, str]:
    (result,) = judge({CIOU: gate}, candidate=lineage({CIOU: ours}), champion=lineage({CIOU: theirs}))
    return result.is_passed, result.verdict


@pytest.mark.parametrize(
    ("gate", "ours", "theirs", "expected"),
    [
        (UP, 41.0, 40.0, (True, "better")),
        (UP, 40.0, 40.0, (True, "equal")),
        (UP, 39.99, 40.0, (False, "worse by 0.01, allowed 0")),
        (DOWN, 39.0, 40.0, (True, "better")),
        (DOWN, 40.5, 40.0, (False, "worse by 0.5, allowed 0")),
        (Gate(better="higher", tolerance=0.1), 40.1, 40.2, (True, "worse by 0.1, within 0.1")),
        (Gate(better="higher", tolerance=0.1), 40.0, 40.2, (False, "worse by 0.2, allowed 0.1")),
        (UP, 0.0, 0.0, (True, "equal")),
    ],
)
def test_not_worse_passes_in_the_metrics_own_direction(
    gate: Gate, ours: float, theirs: float, expected: tuple[bool, str]
) -> None:
    assert verdict(gate, ours, theirs) == expected


def test_every_gate_has_its_own_verdict() -> None:
    gates = {CIOU: UP, PRECISION: UP, ABSENT: UP}
    ours = lineage({CIOU: 50.0, ABSENT: 70.0})
    results = {result.metric: result for result in judge(gates, candidate=ours, champion=lineage(SCORES))}
    assert [result.is_passed for result in results.values()] == [True, False, False]
    assert results[PRECISION].verdict == "not measured on the candidate"
    assert (results[PRECISION].candidate, results[PRECISION].champion) == (None, 30.0)


def test_a_zero_is_a_measurement() -> None:
    (result,) = first({CIOU: UP}, candidate=lineage({CIOU: 0.0}))
    assert (result.is_passed, result.candidate) == (True, 0.0)


def test_what_the_champion_was_not_measured_on_cannot_be_compared() -> None:
    (result,) = judge({ABSENT: UP}, candidate=lineage(SCORES), champion=lineage({CIOU: 1.0}))
    assert (result.is_passed, result.verdict) == (False, "not measured on the champion")


def test_other_test_data_of_one_benchmark_closes_only_its_gates() -> None:
    results = judge(
        {CIOU: UP, ABSENT: UP}, candidate=lineage(SCORES, dialogues="other"), champion=lineage(SCORES, dialogues="d")
    )
    assert [(result.is_passed, result.verdict) for result in results] == [
        (False, "other test data (dialogues)"),
        (True, "equal"),
    ]


def test_nothing_known_of_a_version_passes_no_gate() -> None:
    assert not judge({CIOU: UP}, candidate=None, champion=lineage(SCORES))[0].is_passed
    assert not judge({CIOU: UP}, candidate=lineage(SCORES), champion=None)[0].is_passed
    assert not first({CIOU: UP}, candidate=None)[0].is_passed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alias": "champion", "gates": {}}, "promote.gates"),
        ({"alias": "cham/pion", "gates": {CIOU: {"better": "higher", "tolerance": 0.0}}}, "promote.alias"),
        ({"alias": "champion", "gates": {CIOU: {"better": "up", "tolerance": 0.0}}}, "better"),
        ({"alias": "champion", "gates": {CIOU: {"better": "higher", "tolerance": -1.0}}}, "tolerance"),
        ({"alias": "champion", "gates": {CIOU: {"beter": "higher", "tolerance": 1.0}}}, "did you mean better"),
    ],
)
def test_mistakes_in_the_section_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sections({"promote": values}, {"promote": PromoteConfig}, source="params.yaml")
