"""What the flows share: how they begin, running the stages in DVC's order, and ending as a command."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect import get_run_logger, runtime
from prefect.states import State

from miras.annotate.errors import WaitingForPeopleError
from miras.errors import MirasError
from tasks import environment
from tasks.choices import use_launch
from tasks.dvc_process import DvcProcesses
from tasks.graph import Node
from tasks.orchestration.api import api_for_run, quiet_console
from tasks.orchestration.artifacts import StageResult, publish_stages
from tasks.orchestration.log import outlive_the_reader, show_messages_alone
from tasks.orchestration.people import EXIT_CODE, wait_for_people
from tasks.pipeline_run import PipelineRun
from tasks.stage import WAITING, StageFailedError, run_stage, say
from tasks.tracking import sending
from tasks.tracking.spool import SPOOL, Spool
from tasks.tracking.sync import send_or_say


def begin(launch: str | None = None) -> None:
    """What every flow does first: the environment, the log, and where its stages run.

    Args:
        launch: the launch profile; None for a flow that runs no stages.

    Raises:
        ConfigError: there is no such launch profile.
    """
    environment.prepare()
    show_messages_alone()
    if runtime.deployment.id:
        outlive_the_reader()
    if launch:
        use_launch(launch)


def on_wait() -> Callable[[str], object] | None:
    """For `workspace_lock`: a run that Prefect started waits and logs for whom; one that a person started does not."""
    return get_run_logger().info if runtime.deployment.id else None


def run_stages(nodes: Sequence[Node], pipeline: PipelineRun, *, again: bool = False) -> set[str]:
    """Brings stages up to date, in the order given; returns their names.

    Args:
        nodes: each after what it reads.
        pipeline: the run that they are recorded under.
        again: run them even if nothing that they read has changed.

    Raises:
        StageFailedError: a stage failed; the later ones were not begun.
        WaitingForPeopleError: it is the people's turn, and Prefect cannot start this run again.
    """
    done: dict[str, State[Any]] = {}
    results: list[StageResult] = []
    has_failed = False
    try:
        with DvcProcesses(pipeline.environment()) as dvc:
            for node in nodes:
                parents = [done[parent] for parent in node.parents if parent in done]
                started_s = time.monotonic()
                state = run_stage(node.name, dvc=dvc, again=again, wait_for=parents, return_state=True)
                results.append(StageResult.of(node.name, state, seconds=time.monotonic() - started_s))
                if state.name == WAITING:
                    wait_for_people(node.name, state.message or "")
                state.result()  # a failed stage ends the flow here
                done[node.name] = state
    except StageFailedError:
        has_failed = True
        raise
    finally:
        sent = sending.finish(Spool(SPOOL / pipeline.key), has_failed=has_failed)
        publish_stages(results, pipeline, sent)
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
