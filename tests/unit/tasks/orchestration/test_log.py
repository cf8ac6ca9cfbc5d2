"""What Prefect's log shows of an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW, temporary_settings

from miras.errors import ConfigError
from tasks.orchestration.log import show_messages_alone
from tasks.stage import WAITING


class Records(logging.Handler):
    """Keeps what is logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.levels: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.levels.append(record.levelno)


@pytest.fixture
def records() -> Iterator[Records]:
    show_messages_alone()
    show_messages_alone()  # a second flow in one process changes nothing
    handler = Records()
    logging.getLogger("prefect.flow_runs").addHandler(handler)
    with temporary_settings({PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}):
        yield handler
    logging.getLogger("prefect.flow_runs").removeHandler(handler)


def log_exception(error: Exception) -> None:
    """As Prefect's engine does when a flow raises."""
    try:
        raise error
    except Exception as exc:
        logging.getLogger("prefect.flow_runs").exception("Encountered exception during execution: %r", exc)


def test_a_mistake_of_the_users_is_its_message_alone(records: Records) -> None:
    log_exception(ConfigError("params.yaml: 100 % wrong"))
    assert records.lines == ["params.yaml: 100 % wrong"]


def test_a_fault_of_ours_keeps_its_traceback(records: Records) -> None:
    log_exception(KeyError("ours"))
    assert "Traceback (most recent call last)" in records.lines[0]
    assert "KeyError" in records.lines[0]


def test_a_stage_that_waits_for_people_is_no_error_in_the_log(records: Records) -> None:
    log = logging.getLogger("prefect.flow_runs")
    log.log(logging.ERROR, f"Finished in state {WAITING}('annotate: 2 are open', type=CANCELLED)")
    log.log(logging.ERROR, "Finished in state Failed('no')")
    assert records.levels == [logging.INFO, logging.ERROR]
