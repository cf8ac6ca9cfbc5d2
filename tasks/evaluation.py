"""Evaluating without training: the workspace's own model by its stages, any registered one by `miras evaluate`."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from miras.registry_address import PREFIX
from tasks.graph import Node, stages_until
from tasks.stage import StageFailedError, api_logger, can_retry, follow_command, say
from tasks.tracking.results import numbers_of

FOLDER = Path("reports") / "evaluations"
STAGES = ("evaluate", "report")
_BENCHMARK = "test"  # the data set's own test split
_COMMAND = (sys.executable, "-m", "miras.cli", "evaluate")
_SAID = "miras: "  # how the command begins the message of an error


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on the workspace's test split."""

    model: str
    scores: dict[str, float]
    """Headline scores in percent, by name."""
    places: dict[str, Path]
    """The page, the scores."""

    def text(self) -> str:
        """For the terminal."""
        width = max(map(len, self.scores), default=0)
        rows = [f"  {name:<{width}}  {value:8.2f}" for name, value in self.scores.items()]
        where = [f"  {name:<15} {place}" for name, place in self.places.items()]
        return "\n".join(["", f"Scores of {self.model} (percent)", *rows, "", "Where to look", *where])


def evaluation_stages() -> list[Node]:
    """The stages evaluate and report, without what they read: that is taken as it is."""
    return [node for node in stages_until(STAGES[-1]) if node.name in STAGES]


@task(
    task_run_name="evaluate {model}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_condition_fn=can_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate_registered(model: str) -> Evaluation:
    """Asks a model the questions of the test split and scores it; each evaluation has a folder of its own.

    An interrupted one goes on where it was.

    Args:
        model: models:/NAME@ALIAS, models:/NAME/VERSION or a folder that `miras export` wrote.

    Raises:
        StageFailedError: with the message of the command.
    """
    version = _resolved(model)
    into = _folder_of(version)
    into.parent.mkdir(parents=True, exist_ok=True)
    say(f"── evaluate {version} " + "─" * max(66 - len(version), 0))
    command = (*_COMMAND, version, "--into", str(into), "--benchmark", _BENCHMARK)
    said: list[str] = []
    log = api_logger()

    def keep(line: str) -> None:
        said.append(line)
        log(line)

    _, exit_code = follow_command(command, log=keep)
    if exit_code:
        raise _explain(said, exit_code)
    folder = into / _BENCHMARK
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    scores = {name: value for name, value in numbers_of(content).items() if name.endswith("_ciou")}
    return Evaluation(version, scores, {"report": folder / "report.html", "scores": folder / "scores.json"})


def _resolved(model: str) -> str:
    """The version that an alias means now: an interrupted evaluation must not go on with another model."""
    name, at, alias = model.removeprefix(PREFIX).partition("@")
    if not model.startswith(PREFIX) or not at:
        return model
    from mlflow.exceptions import MlflowException  # a second to import: only here
    from mlflow.tracking.client import MlflowClient

    try:
        version = MlflowClient().get_model_version_by_alias(name, alias).version
    except MlflowException as error:
        message = f"{model}: the registry has no such model ({error.message}). `make ui` shows what is registered."
        raise StageFailedError("evaluate", message, can_retry=False) from None
    return f"{PREFIX}{name}/{version}"


def _folder_of(model: str) -> Path:
    """Where this evaluation goes: the unfinished one of the same model, or a new folder."""
    name = re.sub(r"[^\w.-]+", "-", model.removeprefix(PREFIX)).strip("-.")
    unfinished = sorted(FOLDER.glob(f".{name}-????????-??????.work"))
    if unfinished:
        return FOLDER / unfinished[-1].name.removeprefix(".").removesuffix(".work")
    return FOLDER / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _explain(said: list[str], exit_code: int) -> StageFailedError:
    told = next((number for number, line in enumerate(said) if line.startswith(_SAID)), None)
    if told is None:
        tail = "\n".join(said[-10:])
        message = f"the command ended with exit code {exit_code} (killed, or out of memory?).\n{tail}"
        return StageFailedError("evaluate", message, can_retry=False)
    message = "\n".join(said[told:]).removeprefix(_SAID)
    return StageFailedError("evaluate", message, can_retry=False, is_shown=True)
