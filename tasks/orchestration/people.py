"""A flow run that waits for people: suspended where Prefect can start it again, ended with a message elsewhere."""

from __future__ import annotations

import uuid

from prefect import get_run_logger, runtime
from prefect.flow_runs import suspend_flow_run

from miras.annotate.errors import WaitingForPeopleError

EXIT_CODE = 3
"""Of a command that ends because it is the people's turn: neither done (0) nor failed (1)."""


def wait_for_people(stage: str, message: str) -> None:
    """Suspends the flow run, without a limit of time.

    A suspended run holds no process and no lock on the workspace. When it is resumed, Prefect starts the flow from
    the top: DVC skips what is done, and the stage looks again at what people have handed in. A run without a
    deployment cannot be started again by Prefect; it ends, and the same command goes on.

    Args:
        stage: where people are needed.
        message: what the stage says of it.

    Raises:
        Pause: Prefect's own, which ends a suspended run's process.
        WaitingForPeopleError: there is no deployment.
    """
    if runtime.deployment.id is None:
        raise WaitingForPeopleError(message)
    get_run_logger().info(
        "%s\nSuspended until people are done. Then resume this run: the button on its page in Prefect, or "
        "`prefect api POST /flow_runs/%s/resume`.",
        message,
        runtime.flow_run.id,
    )
    # A key of its own each time: Prefect lets every key suspend a run only once, and people may need several rounds.
    suspend_flow_run(key=f"{stage}-{uuid.uuid4()}")
