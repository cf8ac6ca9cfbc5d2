"""A flow run that waits for people: suspended where Prefect can start it again, ended with a message elsewhere."""

from __future__ import annotations

import uuid

from prefect import get_run_logger, runtime
from prefect.flow_runs import suspend_flow_run

from miras.annotate.errors import WaitingForPeopleError
from tasks import failure
from tasks.stage import StageFailedError

EXIT_CODE = 3
"""Of a command that ends because it is the people's turn: neither done (0) nor failed (1)."""


def is_waiting(error: StageFailedError) -> bool:
    """Whether the stage failed only because people are not done."""
    recorded = failure.read(error.stage)
    return recorded is not None and recorded.kind == WaitingForPeopleError.__name__


def wait_for_people(error: StageFailedError) -> None:
    """Suspends the flow run, without a limit of time, if the stage waits for people; else does nothing.

    A suspended run holds no process and no lock on the workspace. When it is resumed, Prefect starts the flow from
    the top: DVC skips what is done, and the stage looks again at what people have handed in. A run without a
    deployment cannot be started again by Prefect; it ends, and the same command goes on.

    Raises:
        Pause: Prefect's own, which ends a suspended run's process.
        WaitingForPeopleError: there is no deployment.
    """
    if not is_waiting(error):
        return
    if runtime.deployment.id is None:
        raise WaitingForPeopleError(str(error)) from None
    get_run_logger().info(
        "Suspended until people are done. Then resume this run: the button on its page in Prefect, or "
        "`prefect api POST /flow_runs/%s/resume`.",
        runtime.flow_run.id,
    )
    # A key of its own each time: Prefect lets every key suspend a run only once, and people may need several rounds.
    suspend_flow_run(key=f"{error.stage}-{uuid.uuid4()}")
