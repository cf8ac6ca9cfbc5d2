"""Where a flow started by hand records: this workspace's Prefect server if it runs, else an API of its own.

prefect.toml names the server of `make deploy`, so that `prefect ...` on the command line finds it. `make run`
must work without any server: it then starts a temporary one over the same database.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from miras.errors import ServiceUnavailableError
from tasks.environment import shown_address
from tasks.orchestration import temporary_server
from tasks.orchestration.access import check_prefect_access
from tasks.servers import services


@contextmanager
def api_for_run() -> Iterator[None]:
    """Chooses the API for the flow runs inside.

    Raises:
        ServiceUnavailableError: PREFECT_API_URL is set, and nothing answers there; or the temporary server does not
            start.
        ConfigError: the server there does not take our password.
    """
    chosen = os.environ.get("PREFECT_API_URL")
    if chosen and not services.answers(f"{chosen}/health"):
        raise ServiceUnavailableError(
            f"No Prefect server answers at {shown_address(chosen)} (PREFECT_API_URL). Start it with `make deploy`, "
            "or `unset PREFECT_API_URL` to run without a server."
        )
    if chosen:
        check_prefect_access(chosen)
    if chosen or services.is_prefect_running():
        yield
        return
    # Heartbeats are for a server's automations, and Prefect sleeps for up to a second to end them.
    with temporary_settings(
        {PREFECT_API_URL: temporary_server.start()}, restore_defaults={PREFECT_FLOWS_HEARTBEAT_FREQUENCY}
    ):
        yield


class _OnlyTrouble(logging.Filter):
    """Lets warnings through, but no report of a run: stages and the flow say on the terminal how they end."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(("prefect.flow_runs", "prefect.task_runs")):
            return False
        if record.name.endswith("EventsWorker") or record.getMessage().startswith("Service 'EventsWorker' failed"):
            return False  # at the end it counts what it still sends; without a server it prints whole events
        return not record.name.startswith("prefect") or record.levelno >= logging.WARNING


def quiet_console() -> None:
    """Keeps Prefect's own remarks off the terminal of this process: the flow says what happens."""
    only_trouble = _OnlyTrouble()
    for handler in logging.getLogger().handlers:  # Prefect's loggers end here
        handler.addFilter(only_trouble)
