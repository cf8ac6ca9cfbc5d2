"""From candidate to champion, where nothing gets worse: the flow `promote`.

    miras promote                              compare, ask, move the alias; in this process, without a server
    miras promote --version 3 --yes            a certain version, without asking
    prefect deployment run promote             the same, by a worker; a person approves on the run's page

What must hold stands in params.yaml (section promote). `miras rollback` puts the champion before back.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.states import Completed

from tasks.beforehand import run_checked
from tasks.flow import begin
from tasks.registry.approval import ask, check_terminal, publish, said_beforehand
from tasks.registry.promotion import already, check_gates, compare_as_params_say
from tasks.registry.promotion import promote as move_alias
from tasks.stage import say


@flow(name="promote", persist_result=False)
def promote(model: str = "", version: int = 0, approval: bool = True, force_reason: str = "") -> Any:
    """Moves the alias of the champion to a version that is not worse.

    1. Compares the candidate with the champion, by every gate of params.yaml.
    2. Shows both as a table on the run's page.
    3. Ends here if a gate is not passed, unless there is a reason to go on all the same.
    4. Waits for a person's yes: suspended where Prefect can start this run again, else asked on the terminal.
    5. Moves the alias, if nobody else has meanwhile, and records who did it, when and why.

    Args:
        model: Name in the registry. Empty: that of params.yaml.
        version: Number of the version to promote. 0: the one that stage register made last.
        approval: Whether a person has to say yes.
        force_reason: Why to promote although a gate is not passed; it is recorded.
    """
    begin()
    comparison = compare_as_params_say(model=model or None, version=version or None, is_forced=bool(force_reason))
    publish(comparison)
    if comparison.is_champion:
        say(already(comparison))
        return Completed(message=already(comparison))
    check_gates(comparison, force_reason=force_reason)
    answer = ask(comparison) if approval else said_beforehand()
    if not answer.approve:
        say(f"Not promoted: {answer.your_name} said no ({answer.reason}).")
        return Completed(name="Declined", message=f"{answer.your_name} said no: {answer.reason}")
    move = move_alias(comparison, by=answer.your_name, reason=answer.reason, force_reason=force_reason)
    say(f"{comparison.text()}\n\n{comparison.ledger.address} is now version {move.to_version}.")
    return Completed(message=f"Version {move.to_version} is the champion.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the flow in this process; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.promote", description=__doc__.splitlines()[0])
    parser.add_argument("--version", type=int, help="the version to promote (default: the newest candidate)")
    parser.add_argument("--model", help="name in the registry (default: that of params.yaml)")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", default="", metavar="REASON", help="promote although a gate is not passed")
    options = parser.parse_args(arguments)
    chosen = (options.model or "", options.version or 0, not options.yes, options.force)
    return run_checked(lambda: _can_be_promoted(options), lambda: promote(*chosen))


def _can_be_promoted(options: argparse.Namespace) -> bool:
    """Whether there is anything to promote; raises what stops it."""
    comparison = compare_as_params_say(model=options.model, version=options.version, is_forced=bool(options.force))
    if comparison.is_champion:
        say(already(comparison))
        return False
    check_gates(comparison, force_reason=options.force)
    if not options.yes:
        check_terminal()
    return True


if __name__ == "__main__":
    sys.exit(main())
