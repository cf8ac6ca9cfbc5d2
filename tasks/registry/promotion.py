"""Which version is the champion: compares by the gates of params.yaml, moves the alias, moves it back.

The moving itself is in `tasks.registry.moves`, where two people at once are dealt with.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from mlflow.tracking.client import MlflowClient

from miras.errors import ConfigError, DataError, MirasError
from miras.registry_address import check_name
from tasks import params
from tasks.registry.gates import (
    OTHER_TEST,
    UNMEASURED,
    UNMEASURED_CHAMPION,
    WORSE,
    GateResult,
    PromoteConfig,
    first,
    judge,
)
from tasks.registry.lineage import Lineage
from tasks.registry.moves import Ledger, Move, State, person
from tasks.registry.versions import LEDGER, Version, find
from tasks.tracking.shipping import service_errors


class NotPromotedError(MirasError):
    """A gate is not passed."""


@dataclass(frozen=True)
class Comparison:
    """A candidate beside the champion, by every gate."""

    candidate: Version
    champion: Version | None
    gates: tuple[GateResult, ...]
    ledger: Ledger
    state: State
    """What the registry said when they were compared; a move only counts if it still does."""

    @property
    def is_passed(self) -> bool:
        """Whether every gate is."""
        return all(gate.is_passed for gate in self.gates)

    @property
    def is_champion(self) -> bool:
        """Whether there is nothing to do."""
        return self.champion is not None and self.champion.number == self.candidate.number and self.state.is_settled

    @property
    def key(self) -> str:
        """The same only for the same versions, scores and moves: what a person said yes to."""
        last = self.state.last.number if self.state.last else 0
        shown = [self.candidate.address, self.champion and self.champion.address, last, self.rows()]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]

    def rows(self) -> list[dict[str, str]]:
        """For tables: metric, candidate, champion, verdict."""
        return [
            {
                "metric": gate.metric,
                "candidate": _number(gate.candidate),
                "champion": _number(gate.champion),
                "verdict": gate.verdict,
            }
            for gate in self.gates
        ]

    def text(self) -> str:
        """For the terminal."""
        there = self.champion.address if self.champion else "none yet"
        return f"candidate  {self.candidate.address}\nchampion   {there}\n{table(self.rows())}"


def compare(config: PromoteConfig, *, model: str, candidate: str | int, is_forced: bool = False) -> Comparison:
    """The candidate beside the champion; first finishes a move that was interrupted.

    Args:
        config: the gates.
        model: name in the registry.
        candidate: a version's number, or an alias.
        is_forced: compare although the alias was set by other means than ours, or the lineage is not known.

    Raises:
        ConfigError: no name of a model, or that of a ledger.
        DataError: no such model, version or alias; the candidate or the champion has no lineage.
        MlflowException: the registry does not answer.
    """
    check_name(model)
    if model.endswith(LEDGER):
        raise ConfigError(f"models:/{model}: the record of an alias's moves, no model. Name the model itself.")
    client = MlflowClient()
    ledger = Ledger(client, model=model, alias=config.alias)
    ours = find(f"models:/{model}{'/' if isinstance(candidate, int) else '@'}{candidate}", client)
    state = ledger.read() if is_forced else ledger.settle()
    theirs = None if state.champion is None else find(f"models:/{model}/{state.champion}", client)
    mine = _lineage(ours, is_forced)
    if theirs is None:
        return Comparison(ours, None, first(config.gates, candidate=mine), ledger, state)
    gates = judge(config.gates, candidate=mine, champion=_lineage(theirs, is_forced))
    return Comparison(ours, theirs, gates, ledger, state)


def _lineage(version: Version, is_forced: bool) -> Lineage | None:
    return version.lineage if is_forced else version.known_lineage()


def compare_as_params_say(*, model: str | None, version: int | None, is_forced: bool) -> Comparison:
    """`compare` by params.yaml.

    Args:
        model: name in the registry; None: the one that stage `register` uses.
        version: its number; None: the one with that stage's alias.
        is_forced: as in `compare`.

    Raises:
        ConfigError: params.yaml has mistakes.
        DataError: as in `compare`.
        ServiceUnavailableError: the registry does not answer.
    """
    settings = params.load()
    register = settings["register"]
    with service_errors():
        return compare(
            settings["promote"],
            model=model or register.model_name,
            candidate=register.alias if version is None else version,
            is_forced=is_forced,
        )


def already(comparison: Comparison) -> str:
    """What is said where there is nothing to do."""
    return f"{comparison.candidate.address} is the champion already; nothing to do."


def check_gates(comparison: Comparison, *, force_reason: str) -> None:
    """Lets pass what passes, or what is forced.

    Raises:
        NotPromotedError: with every metric, both values, the verdict, and what to do.
    """
    if comparison.is_passed or force_reason:
        return
    verdicts = [gate.verdict for gate in comparison.gates if not gate.is_passed]
    advice = [text for start, text in _ADVICE.items() if any(verdict.startswith(start) for verdict in verdicts)]
    raise NotPromotedError(
        "\n".join(
            [
                f"Not promoted: {len(verdicts)} of {len(comparison.gates)} gates are not passed.",
                comparison.text(),
                *advice,
                "To promote all the same, with the reason on record: --force REASON.",
            ]
        )
    )


_ADVICE = {
    WORSE: "Worse: train on, or allow more by promote.gates.<metric>.tolerance in params.yaml.",
    UNMEASURED: "Not measured: let stage `evaluate` measure it (more dialogues or queries), then `dvc repro register`; "
    "or drop the gate from params.yaml.",
    UNMEASURED_CHAMPION: "Champion not measured: bring its commit back (`miras lineage` names it), `dvc repro "
    "register` with today's section evaluate, and promote again.",
    OTHER_TEST: "Other test data: numbers of different tests do not compare. Measure the champion on this data: its "
    "weights with today's data, `dvc repro register`; the registry finds the same weights and renews the scores.",
}


def promote(comparison: Comparison, *, by: str, reason: str, force_reason: str = "") -> Move:
    """Makes the candidate the champion.

    Args:
        comparison: what was decided upon.
        by: who said yes.
        reason: why, in a few words.
        force_reason: why in spite of the gates; empty: they must be passed.

    Raises:
        NotPromotedError: a gate is not passed.
        MoveLostError: meanwhile another version became the champion.
        ServiceUnavailableError: the registry does not answer; the same again finds out whether the move was made.
    """
    check_gates(comparison, force_reason=force_reason)
    with service_errors():
        return comparison.ledger.move(
            comparison.state,
            kind="promote",
            to=comparison.candidate.number,
            by=by,
            reason=force_reason or reason,
            is_forced=bool(force_reason) and not comparison.is_passed,
            comparison=table(comparison.rows()),
        )


def roll_back(*, model: str, alias: str, reason: str) -> Move:
    """Puts the champion before this one back; again: the one before that.

    Raises:
        ConfigError: no name of a model.
        DataError: there is no earlier champion, or it is no longer in the registry; the alias was set by other means.
        MoveLostError: meanwhile another version became the champion.
    """
    check_name(model)
    client = MlflowClient()
    ledger = Ledger(client, model=model, alias=alias)
    state = ledger.settle()
    champions = state.champions()
    if len(champions) < 2:
        now = f"version {champions[0]}, the first there was" if champions else "no version yet"
        raise DataError(f"{ledger.address} is {now}: there is none to go back to. `miras lineage` shows all moves.")
    find(f"models:/{model}/{champions[-2]}", client)
    return ledger.move(state, kind="rollback", to=champions[-2], by=person(), reason=reason)


def table(rows: list[dict[str, str]]) -> str:
    """Rows with the same keys as text in columns."""
    columns = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in columns}, *rows]
    return "\n".join("  ".join(f"{line[name]:<{width}}" for name, width in columns.items()).rstrip() for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
