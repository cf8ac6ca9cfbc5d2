"""What a version must hold to become the champion: section `promote` of params.yaml, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from miras.config import Section
from tasks.registry.lineage import BenchmarkData, Lineage, Score

Better = Literal["higher", "lower"]

UNMEASURED = "not measured on the candidate"
UNMEASURED_CHAMPION = "not measured on the champion"
OTHER_TEST = "other test data"
WORSE = "worse"


class Gate(Section):
    """What a metric must hold."""

    better: Better
    """Which direction is better."""
    tolerance: float = Field(ge=0, allow_inf_nan=False)
    """How much worse than the champion's it may be, in the metric's own unit (percent points for scores)."""


class PromoteConfig(Section):
    """When a version may become the champion."""

    alias: str = Field(pattern=r"^[A-Za-z_][\w-]*$")
    """Alias that moves."""
    gates: dict[str, Gate] = Field(min_length=1)
    """Headline metric of scores.json -> what it must hold."""


@dataclass(frozen=True)
class GateResult:
    """One metric of both versions."""

    metric: str
    candidate: float | None
    """None: not measured."""
    champion: float | None
    """None: not measured, or there is no champion."""
    is_passed: bool
    verdict: str
    """In words."""


def judge(gates: Mapping[str, Gate], *, candidate: Lineage | None, champion: Lineage | None) -> tuple[GateResult, ...]:
    """The verdict of every gate on two versions, in the order of params.yaml.

    Args:
        gates: headline metric -> what it must hold.
        candidate: None: nothing is known of it.
        champion: None: nothing is known of it.
    """
    return tuple(_result(name, gate, candidate, champion) for name, gate in gates.items())


def first(gates: Mapping[str, Gate], *, candidate: Lineage | None) -> tuple[GateResult, ...]:
    """The same where there is no champion: every metric must be measured."""
    scores = candidate.scores if candidate else {}
    return tuple(
        GateResult(name, scores[name].value, None, True, "measured; there is no champion")
        if name in scores
        else GateResult(name, None, None, False, UNMEASURED)
        for name in gates
    )


def _result(name: str, gate: Gate, candidate: Lineage | None, champion: Lineage | None) -> GateResult:
    ours, theirs = _score(name, candidate), _score(name, champion)
    is_same_test = _test_of(ours, candidate) == _test_of(theirs, champion)
    is_passed, verdict = _verdict(gate, ours, theirs, is_same_test=is_same_test)
    return GateResult(name, ours.value if ours else None, theirs.value if theirs else None, is_passed, verdict)


def _verdict(gate: Gate, ours: Score | None, theirs: Score | None, *, is_same_test: bool) -> tuple[bool, str]:
    """Whether the gate is passed, and why."""
    if ours is None:
        return False, UNMEASURED
    if theirs is None:
        return False, UNMEASURED_CHAMPION
    if not is_same_test:
        return False, f"{OTHER_TEST} ({ours.benchmark})"
    loss = round((theirs.value - ours.value) * (1 if gate.better == "higher" else -1), 9)  # 40.2 - 40.1 is not 0.1
    if loss > gate.tolerance:
        return False, f"{WORSE} by {loss:.4g}, allowed {gate.tolerance:g}"
    return True, "better" if loss < 0 else "equal" if loss == 0 else f"{WORSE} by {loss:.4g}, within {gate.tolerance:g}"


def _score(name: str, lineage: Lineage | None) -> Score | None:
    return lineage.scores.get(name) if lineage else None


def _test_of(score: Score | None, lineage: Lineage | None) -> BenchmarkData | None:
    return lineage.test_data.get(score.benchmark) if score and lineage else None
