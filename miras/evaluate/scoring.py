"""From questions and predictions to pixel counts: who answered what, and what is wrong with a file of predictions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from miras.dialogue.masks import union
from miras.errors import DataError
from miras.evaluate.mask_metrics import MaskSample, compare
from miras.evaluate.mask_runs import check_rle
from miras.evaluate.records import Prediction, PredictionKey, Question, QuestionKey

EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class Answered:
    """A question and one model's answer to it."""

    question: Question
    prediction: Prediction

    @property
    def group(self) -> dict[str, Any]:
        """The columns that name a table row."""
        return {
            "benchmark": self.question.benchmark,
            "model": self.prediction.model,
            "history": self.prediction.history,
        }


@dataclass(frozen=True)
class Scored(Answered):
    """The same with pixel counts."""

    sample: MaskSample


@dataclass
class Problems:
    """What is wrong with predictions, by kind."""

    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Kind -> where, all of them."""

    def __bool__(self) -> bool:
        return any(self.found.values())

    def text(self) -> str:
        """A line per kind: how many, and the first few."""
        lines = []
        for kind, places in self.found.items():
            shown = "; ".join(places[:EXAMPLES_SHOWN]) + ("; ..." if len(places) > EXAMPLES_SHOWN else "")
            lines.append(f"  {kind}: {len(places)} ({shown})")
        return "\n".join(lines)


MISSING = "questions without prediction"


def read_predictions(path: Path, problems: Problems) -> list[Prediction]:
    """The lines of a file that are predictions; the others become problems.

    Raises:
        DataError: there is no such file.
    """
    found = []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Give a predictions.jsonl.") from None
    for number, line in enumerate(content.splitlines(), 1):
        try:
            found.append(Prediction.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            problems.found["lines that are no prediction"].append(f"line {number}: {place}: {first['msg']}".strip())
    return found


def pair(questions: Iterable[Question], predictions: Iterable[Prediction], problems: Problems) -> list[Answered]:
    """Each sound prediction with its question, in the order of the predictions; all else becomes a problem.

    A group (benchmark, model, history) has to answer every question of its benchmark that asks for a mask (without
    history: every last one), and either all or none of the turns before.
    """
    asked = {question.key: question for question in questions}
    seen: dict[PredictionKey, int] = Counter()
    answered: list[Answered] = []
    for prediction in predictions:
        where = _name(prediction)
        question = asked.get(prediction.question_key)
        seen[prediction.key] += 1
        if question is None:
            problems.found["predictions for unknown questions"].append(where)
        elif seen[prediction.key] > 1:
            problems.found["predictions given twice"].append(where)
        elif reason := _unusable(prediction, question):
            problems.found["unusable masks"].append(f"{where}: {reason}")
        else:
            answered.append(Answered(question, prediction))
    _find_missing(asked, answered, seen, problems)
    return answered


def _name(prediction: Prediction) -> str:
    parts = (prediction.benchmark, prediction.model, f"{prediction.history} history", prediction.dialogue_id)
    return f"{', '.join(parts)}, turn {prediction.turn}"


def _unusable(prediction: Prediction, question: Question) -> str:
    """Why a mask cannot be compared; empty: all can."""
    for number, predicted in enumerate(prediction.masks):
        try:
            check_rle(predicted.mask, size=question.size, where=f"masks[{number}]")
        except DataError as error:
            return str(error)
    return ""


def _find_missing(
    asked: Mapping[QuestionKey, Question],
    answered: Sequence[Answered],
    seen: Mapping[PredictionKey, int],
    problems: Problems,
) -> None:
    by_benchmark: dict[str, list[Question]] = defaultdict(list)
    for question in asked.values():
        by_benchmark[question.benchmark].append(question)
    told = {tuple(item.group.values()) for item in answered if not item.question.asks_for_mask}
    for group in dict.fromkeys((key[0], key[1], key[2]) for key in seen):
        benchmark, model, history = group
        for question in by_benchmark.get(benchmark, ()):
            is_due = question.is_last if history == "none" else question.asks_for_mask or group in told
            if is_due and (benchmark, model, history, question.dialogue_id, question.turn) not in seen:
                place = f"{benchmark}, {model}, {history} history, {question.dialogue_id}, turn {question.turn}"
                problems.found[MISSING].append(place)


def score_masks(answered: Iterable[Answered]) -> list[Scored]:
    """Pixel counts of every answer to a question that asks for a mask and whose truth is known."""
    return [
        Scored(item.question, item.prediction, _compare(item))
        for item in answered
        if item.question.asks_for_mask and item.question.is_scorable
    ]


def _compare(item: Answered) -> MaskSample:
    """Union of the predicted masks against the union of the targets."""
    codes = [predicted.mask for predicted in item.prediction.masks]
    return compare(
        predicted=union(codes) if codes else None,
        target=item.question.target,
        ignored=item.question.ignored,
        size=item.question.size,
        image_id=item.question.image_id,
    )
