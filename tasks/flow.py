"""What the flows share: running the stages in DVC's order, and ending as a command."""

from __future__ import annotations

from collections.abc import Callable

from prefect.states import State

from miras.annotate.errors import WaitingForPeopleError
from miras.errors import MirasError
from tasks import environment
from tasks.graph import stages_until
from tasks.people import EXIT_CODE, wait_for_people
from tasks.pipeline_run import PipelineRun
from tasks.prefect_api import api_for_run, quiet_console
from tasks.stage import StageFailedError, run_stage, say
from tasks.sync import send_or_say


def run_stages(until_stage: str | None, pipeline: PipelineRun) -> set[str]:
    """Brings the stages until `until_stage` (None: all) up to date, each after what it reads; returns their names.

    Raises:
        StageFailedError: a stage failed; the later ones were not begun.
        WaitingForPeopleError: it is the people's turn, and Prefect cannot start this run again.
    """
    done: dict[str, State[str]] = {}
    try:
        for node in stages_until(until_stage):
            parents = [done[parent] for parent in node.parents]
            done[node.name] = run_stage(node.name, pipeline=pipeline, wait_for=parents, return_state=True)
            done[node.name].result()  # a failed stage ends the flow here
    except StageFailedError as error:
        wait_for_people(error)
        raise
    finally:
        send_or_say()
    return set(done)


def run_as_command(flow_run: Callable[[], None]) -> int:
    """Runs a flow in this process and says how it ended, without a traceback for a user's mistake; the exit code."""
    environment.prepare()
    quiet_console()
    try:
        with api_for_run():
            flow_run()
    except WaitingForPeopleError:
        say("\nIt is the people's turn: see the message above. The same command goes on when they are done.")
        return EXIT_CODE
    except StageFailedError as error:
        say(str(error) if not error.is_shown else f"\nStopped at {error.stage}: see the message above.")
        say("Finished stages are kept; the same command goes on from there.")
        return 1
    except MirasError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("\nInterrupted. Finished stages are kept; the same command goes on from there.")
        return 130
    return 0
