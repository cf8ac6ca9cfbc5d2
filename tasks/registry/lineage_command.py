"""`miras lineage models:/miras@champion`: all that made a registered version, and how its aliases moved."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from mlflow.tracking.client import MlflowClient

from miras.errors import MirasError
from miras.registry_address import parse
from tasks import environment
from tasks.registry.lineage import Lineage
from tasks.registry.moves import Ledger, Move
from tasks.registry.versions import LEDGER, Version, find
from tasks.servers.services import mlflow_server
from tasks.tracking.shipping import service_errors

_SHORT = 12


def describe(address: str) -> dict[str, Any]:
    """The lineage of a version and the moves of its model's aliases, as plain values.

    Raises:
        ConfigError: no address of a model.
        DataError: the registry has no such version, or it carries no lineage.
        ServiceUnavailableError: the registry does not answer.
    """
    parse(address)  # before MLflow is opened, which may make its database
    with service_errors():
        client = MlflowClient()
        version = find(address, client)
        lineage = version.known_lineage()
        moves = {alias: Ledger(client, model=version.model, alias=alias).read() for alias in _moved(version, client)}
        run = _run_address(version, client)
    return {
        "address": version.address,
        "model": version.model,
        "version": version.number,
        "aliases": list(version.aliases),
        "run": run,
        "lineage": lineage.model_dump(mode="json"),
        "moves": {
            alias: [_move(move) for move in state.moves if version.number in (move.from_version, move.to_version)]
            for alias, state in moves.items()
        },
        "is_settled": {alias: state.is_settled for alias, state in moves.items()},
    }


def _moved(version: Version, client: MlflowClient) -> list[str]:
    """Aliases of the model that have a ledger."""
    start = f"{version.model}."
    found = client.search_registered_models(f"name LIKE '{start}%{LEDGER}'")
    return [one.name.removeprefix(start).removesuffix(LEDGER) for one in found]


def _run_address(version: Version, client: MlflowClient) -> str:
    """Page of the run that registered it; empty where it has none."""
    if not version.run_id:
        return ""
    experiment = client.get_run(version.run_id).info.experiment_id
    uri = os.environ["MLFLOW_TRACKING_URI"]
    base = uri.rstrip("/") if uri.startswith("http") else mlflow_server().url
    return f"{base}/#/experiments/{experiment}/runs/{version.run_id}"


def _move(move: Move) -> dict[str, Any]:
    return {
        "kind": move.kind,
        "from": move.from_version,
        "to": move.to_version,
        "by": move.by,
        "when": move.when,
        "reason": move.reason,
        "forced": move.is_forced,
    }


def as_text(described: dict[str, Any]) -> str:
    """For people."""
    lineage = Lineage.model_validate(described["lineage"])
    facts = {
        "version": f"{described['address']} ({', '.join(described['aliases']) or 'no alias'})",
        "commit": (lineage.commit or "not in a repository") + (" with changes of its own" if lineage.is_dirty else ""),
        "data": lineage.data,
        "checkpoint": lineage.checkpoint_sha256,
        "network": lineage.params.network or "settings of its own",
        "params": f"{lineage.params.preset}, {len(lineage.params.changes)} keys differ; file {lineage.params.sha256}",
        "run": described["run"] or "none",
    }
    blocks = [_columns(facts)]
    if lineage.params.changes:
        changes = {key: f"{before} -> {after}" for key, (before, after) in lineage.params.changes.items()}
        blocks.append("Parameters that differ from the preset\n" + _columns(changes))
    tests = {name: f"{data.sha256[:_SHORT]}  {data.questions} questions" for name, data in lineage.test_data.items()}
    blocks.append("Test data\n" + _columns(tests))
    blocks.append("Scores\n" + _columns({name: f"{score.value:8.2f}" for name, score in lineage.scores.items()}))
    blocks.append("Read on the way (DVC's hashes)\n" + _columns(lineage.inputs))
    blocks += [_moves(alias, moves, described["is_settled"][alias]) for alias, moves in described["moves"].items()]
    return "\n\n".join(blocks)


def _moves(alias: str, moves: list[dict[str, Any]], is_settled: bool) -> str:
    lines = [
        f"  {move['when']}  {move['kind']} {move['from'] or 'none'} -> {move['to']} by {move['by']}"
        f"{' (forced)' if move['forced'] else ''}: {move['reason']}"
        for move in moves
    ]
    note = (
        ""
        if is_settled
        else "\n  The alias stands elsewhere than its last move says: run `miras promote` to settle it."
    )
    return f"Moves of {alias}\n" + ("\n".join(lines) or "  none") + note


def _columns(facts: dict[str, str]) -> str:
    width = max(map(len, facts), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in facts.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.registry.lineage_command", description=__doc__.splitlines()[0]
    )
    parser.add_argument("address", help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    environment.prepare()
    try:
        described = describe(options.address)
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(described, indent=2, ensure_ascii=False) if options.json else as_text(described))
    return 0


if __name__ == "__main__":
    sys.exit(main())
