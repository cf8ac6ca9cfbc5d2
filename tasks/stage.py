"""One DVC stage as one visible Prefect task.

Runs `dvc repro --single-item <stage>`: DVC decides whether there is anything to do and is the only cache.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.states import Cancelled

from miras.annotate.errors import WaitingForPeopleError
from miras.errors import MirasError
from tasks import failure
from tasks.dvc_process import DvcProcesses
from tasks.output import StageOutput

WAITING = "Waiting"
"""Name of the state of a stage that is the people's turn: neither done nor failed."""
_GRACE_S = 20.0
_BUSY = re.compile(r"is busy|Unable to acquire lock")
_MISSING = re.compile(
    r"failed to reproduce '[^']*': "
    r"(?:\[Errno 2\] No such file or directory: '([^']+)'|dependency '([^']+)' does not exist)"
)
_CHUNK_BYTES = 65536


class StageFailedError(MirasError):
    """A stage did not end well; the message is the stage's own."""

    def __init__(
        self, stage: str, message: str, *, can_retry: bool, is_shown: bool = False, is_waiting: bool = False
    ) -> None:
        """`is_shown`: the stage itself has printed the message; `is_waiting`: nothing is wrong, people are not done."""
        super().__init__(f"{stage}: {message}")
        self.stage = stage
        self.can_retry = can_retry
        self.is_shown = is_shown
        self.is_waiting = is_waiting


def can_retry(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Only what the stage itself calls temporary is tried again."""
    return isinstance(state.data, StageFailedError) and state.data.can_retry


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=can_retry,
    cache_policy=NO_CACHE,  # DVC is the only cache
    persist_result=False,
)
def run_stage(stage: str, *, dvc: DvcProcesses, again: bool = False) -> str | State[str]:
    """Brings one stage up to date; returns done, unchanged or restored, or the state `WAITING`.

    Args:
        stage: name in dvc.yaml.
        dvc: runs DVC, in the environment of the pipeline run that the stage is recorded under.
        again: run it even if nothing that it reads has changed.

    Raises:
        StageFailedError: with the message of the stage, or of DVC.
    """
    log = api_logger()
    say(f"── {stage} " + "─" * (76 - len(stage)))
    try:
        outcome = reproduce(stage, dvc=dvc, log=log, again=again)
    except StageFailedError as error:
        if error.is_waiting:
            return Cancelled(name=WAITING, message=str(error))
        raise
    message = {
        "done": f"{stage}: done",
        "unchanged": f"{stage}: unchanged",
        "restored": f"{stage}: restored from the cache of earlier runs",
    }[outcome]
    say(message)
    log(message)
    return outcome


def reproduce(stage: str, *, dvc: DvcProcesses, log: Callable[[str], None], again: bool = False) -> str:
    """Runs DVC for one stage; its output goes to the terminal and to `log`.

    Raises:
        StageFailedError: the stage or DVC failed.
    """
    failure.clear(stage)
    output, exit_code = _follow(dvc.start(stage, again=again), log)
    if exit_code:
        raise _explain(stage, output, exit_code)
    return output.outcome


def follow_command(command: Sequence[str], log: Callable[[str], None]) -> tuple[StageOutput, int]:
    """Runs a command in a process group of its own; returns what it said and its exit code.

    Whatever ends this call early (Ctrl-C, a cancelled flow run) ends the whole group.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return _follow(process, log)


def say(line: str) -> None:
    """One line on the terminal, in step with what stages print there."""
    _echo(f"{line}\n".encode(sys.stderr.encoding or "utf-8", errors="replace"))


def _follow(process: subprocess.Popen[bytes], log: Callable[[str], None]) -> tuple[StageOutput, int]:
    assert process.stdout is not None
    output = StageOutput(echo=_echo, log=log)
    try:
        while chunk := os.read(process.stdout.fileno(), _CHUNK_BYTES):
            output.feed(chunk)
        output.close()
        return output, process.wait()
    except BaseException:  # nothing of ours may go on writing
        _stop_group(process)
        raise


def _echo(chunk: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # a worker that was killed reads no more; the run goes on
        sys.stderr.flush()
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ends DVC and the stage's command together, politely first."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=_GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def _explain(stage: str, output: StageOutput, exit_code: int) -> StageFailedError:
    recorded = failure.read(stage)
    if recorded:
        is_waiting = recorded.kind == WaitingForPeopleError.__name__
        return StageFailedError(
            stage, recorded.message, can_retry=recorded.can_retry, is_shown=True, is_waiting=is_waiting
        )
    said = "\n".join(output.errors) or f"exit code {exit_code}"
    if _BUSY.search(said):
        return StageFailedError(
            stage,
            f"DVC is busy with another command in this workspace; wait for it to end.\n{said}",
            can_retry=True,
        )
    missing = _MISSING.search(said)
    if missing:
        return StageFailedError(
            stage,
            f"{missing[1] or missing[2]} is not there, and dvc.yaml says that {stage} reads it. If a stage makes it, "
            f"run `dvc repro {stage}`; else put it there, or name another in params.yaml (for your own pictures: "
            "ingest.watched, ingest.sources; for people: annotate.folder).",
            can_retry=False,
        )
    return StageFailedError(
        stage,
        f"the stage ended without a word (killed, or out of memory?).\n{said}\n"
        "Finished work is kept: run the same command again to go on.",
        can_retry=False,
    )


def api_logger() -> Callable[[str], None]:
    """Logs lines to the task run in Prefect, and only there: the terminal has them already."""
    if TaskRunContext.get() is None:
        return logging.getLogger(__name__).debug
    logger = logging.getLogger("miras.stage_output")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(APILogHandler())
    return logger.info
