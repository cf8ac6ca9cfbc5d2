"""`make sync`: sends to MLflow what was recorded while it was away."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends, and says what was sent; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.tracking.sync", description="Sends to MLflow what waits.")
    parser.parse_args(arguments)
    environment.prepare()
    try:
        count = send_remaining()
    except ServiceUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    sent = f"{count} pipeline run{'s' * (count > 1)} sent to MLflow."
    print(sent if count else "Nothing waits: MLflow has everything.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
