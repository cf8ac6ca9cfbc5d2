"""`make sync`: sends to MLflow what was recorded while it was away."""

from __future__ import annotations

import sys

from miras.errors import ServiceUnavailableError
from tasks import environment
from tasks.tracking.spool import close_dead_runs, pipelines, remove_finished


def send_remaining() -> int:
    """Sends what waits in work/tracking; returns how many pipeline runs had something new.

    Raises:
        ServiceUnavailableError: MLflow still does not answer.
    """
    close_dead_runs()
    waiting = [pipeline for pipeline in pipelines() if pipeline.waits()]
    if waiting:
        from tasks.tracking.shipping import ship_all  # imports MLflow: only when there is something to send

        ship_all(waiting)
    remove_finished()
    return len(waiting)


def send_or_say() -> None:
    """Sends what waits; MLflow's absence is said, and no reason to stop."""
    try:
        send_remaining()
    except ServiceUnavailableError as error:
        print(error, file=sys.stderr)


def main() -> int:
    """Sends, and says what was sent."""
    environment.prepare()
    try:
        count = send_remaining()
    except ServiceUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{count} pipeline run(s) sent to MLflow." if count else "Nothing waits: MLflow has everything.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
