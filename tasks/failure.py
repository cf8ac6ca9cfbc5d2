"""Why a stage failed, in a file: DVC turns every failure into one exit code."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from miras.errors import MirasError
from miras.files import write_json
from tasks.environment import redacted


class Failure(BaseModel):
    """What stopped a stage."""

    stage: str
    kind: str
    """Name of the error's class."""
    message: str
    can_retry: bool
    """Whether running the same again can help."""


def failure_file(stage: str) -> Path:
    """Where a stage says why it failed; absent when it did not."""
    return Path("work") / stage / "failure.json"


def clear(stage: str) -> None:
    """Forgets an earlier failure."""
    failure_file(stage).unlink(missing_ok=True)


def record(stage: str, error: BaseException) -> None:
    """Writes down what stopped the stage."""
    kind = type(error).__name__
    if isinstance(error, MirasError):
        failure = Failure(stage=stage, kind=kind, message=str(error), can_retry=error.can_retry)
    else:
        message = "interrupted" if isinstance(error, KeyboardInterrupt) else redacted(f"{kind}: {error}")
        failure = Failure(stage=stage, kind=kind, message=message, can_retry=False)
    write_json(failure_file(stage), failure.model_dump())


def read(stage: str) -> Failure | None:
    """Why the stage failed, or None if it left no word (then DVC itself failed, or it was killed)."""
    try:
        return Failure.model_validate_json(failure_file(stage).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None
