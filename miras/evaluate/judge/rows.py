"""What a judge said of the models of an evaluation, as rows of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from miras.errors import DataError
from miras.evaluate.judge.records import DIMENSIONS, JudgeScores

FOLDER = "judge"  # of all judgements, in the folder of an evaluation
SCORES = "scores.json"


def judge_rows(evaluation: Path) -> list[dict[str, Any]]:
    """A row per judged model and history, by name; none where no judge was asked.

    Raises:
        DataError: a judgement is damaged.
    """
    return [_row(path) for path in sorted((evaluation / FOLDER).glob(f"*/{SCORES}"))]


def _row(path: Path) -> dict[str, Any]:
    try:
        scores = JudgeScores.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({error.errors()[0]['msg']}). Ask again with `miras judge`.") from None
    model, pairs = scores.sides["model"], scores.pairwise
    return {
        "benchmark": scores.benchmark,
        "model": scores.model,
        "history": scores.history,
        "dialogues": scores.dialogues,
        **{name: model.scores[name].value for name in DIMENSIONS},
        "win": pairs.wins,
        "tie": pairs.ties,
        "loss": pairs.losses,
        "win_rate": pairs.win_percent.value,
        "unanswered": sum(model.unanswered.values()) + sum(pairs.unanswered.values()),
        "judge": scores.judge,
        "prompt_version": scores.prompt_version[:8],
        "temperature": scores.temperature,
        "repeats": scores.repeats,
    }
