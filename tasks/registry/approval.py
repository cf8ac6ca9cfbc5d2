"""A person's yes before the champion changes: on the run's page where it is deployed, else asked on the terminal."""

from __future__ import annotations

import os
import sys

from prefect import runtime
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from miras.errors import ConfigError
from tasks.registry.moves import person
from tasks.registry.promotion import Comparison
from tasks.servers.services import mlflow_server
from tasks.stage import say


class Approval(RunInput):
    """The form on the page of a suspended run."""

    approve: bool = Field(title="Make it the champion", description="No ends the run; nothing is moved.")
    your_name: str = Field(min_length=1, description="Who decides; it is recorded with the move.")
    reason: str = Field(min_length=1, description="Why, in a few words; it is recorded, too.")


def publish(comparison: Comparison) -> None:
    """The comparison as a table on the run's page; nothing outside of a flow run."""
    if FlowRunContext.get() is None:
        return
    create_table_artifact(
        key="promotion",
        table=comparison.rows(),
        description=f"{_heading(comparison)}\n\n{_links(comparison)}",
    )


def ask(comparison: Comparison) -> Approval:
    """What a person says to this very comparison; suspends the flow run until then.

    A suspended run holds no process. When it is resumed, Prefect starts the flow from the top; if candidate, champion
    or scores have changed meanwhile it is another comparison, and is asked about anew.

    Raises:
        Pause: Prefect's own, which ends a suspended run's process.
        ConfigError: there is neither a deployment nor a terminal to ask on.
    """
    if runtime.deployment.id is not None:
        described = f"{_heading(comparison)}\n\n{_markdown(comparison)}\n\n{_links(comparison)}"
        return suspend_flow_run(
            wait_for_input=Approval.with_initial_data(description=described),
            key=f"promote-{comparison.key}",
        )
    check_terminal()
    say(f"\n{comparison.text()}\n")
    sys.stderr.write(f"Make {comparison.candidate.address} the champion? [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()
    return Approval(approve=answer in ("y", "yes"), your_name=person(), reason="answered on the terminal")


def check_terminal() -> None:
    """Raises a ConfigError where nobody sits at a terminal."""
    if not sys.stdin.isatty():
        raise ConfigError("Nobody can be asked: no terminal, no deployment. Say yes beforehand: `miras promote --yes`.")


def said_beforehand() -> Approval:
    """Where nobody has to be asked: the yes of whoever started this."""
    return Approval(approve=True, your_name=person(), reason="gates passed")


def _heading(comparison: Comparison) -> str:
    there = comparison.champion.address if comparison.champion else "none yet"
    return f"Candidate **{comparison.candidate.address}**, champion **{there}** (alias `{comparison.ledger.alias}`)."


def _markdown(comparison: Comparison) -> str:
    rows = [" | ".join(row.values()) for row in comparison.rows()]
    return "\n".join(["metric | candidate | champion | verdict", "---|---:|---:|---", *rows])


def _links(comparison: Comparison) -> str:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    base = uri.rstrip("/") if uri.startswith("http") else mlflow_server().url
    versions = [one for one in (comparison.candidate, comparison.champion) if one is not None]
    links = [f"[{one.address}]({base}/#/models/{one.model}/versions/{one.number})" for one in versions]
    return f"In MLflow: {', '.join(links)}"
