"""In Prefect's log a mistake of the user's is its message alone, as on the command line, and waiting is no error."""

from __future__ import annotations

import logging
import sys

from prefect.logging.handlers import PrefectConsoleHandler

from miras.errors import MirasError
from tasks.stage import WAITING

_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class _AsOnTheCommandLine(logging.Filter):
    """Takes the traceback from what has a message meant for the user; a fault of ours keeps it."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, MirasError):
            record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
        if record.levelno == logging.ERROR and record.getMessage().startswith(f"Finished in state {WAITING}("):
            record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        return True


_filter = _AsOnTheCommandLine()


def outlive_the_reader() -> None:
    """What this process logs to a pipe whose reader is gone (a killed worker) is lost there, and does no harm.

    Prefect's own handler ends the process then. Its log on the server has everything either way.
    """
    root = logging.getLogger()
    for handler in [found for found in root.handlers if isinstance(found, PrefectConsoleHandler)]:
        plain = logging.StreamHandler(sys.stderr)
        plain.setLevel(handler.level)
        plain.setFormatter(handler.formatter)
        root.removeHandler(handler)
        root.addHandler(plain)


def show_messages_alone() -> None:
    """From now on in this process; a second call changes nothing."""
    for name in _RUN_LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # a filter that is there already is not added twice
