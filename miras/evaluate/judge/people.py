"""People's scores of the same dialogues, and how far the judge agrees with them.

The file is CSV with a header, or JSON Lines. Each row: `dialogue_id`, the four scores from 0 to 5 (`progression`,
`logical_coherence`, `content_consistency`, `target_relevance`) and, where several people scored, `rater`; the mean of
a dialogue's rows counts. Further columns are passed over.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from miras.errors import DataError
from miras.evaluate.judge.records import BEST_SCORE, DIMENSIONS, Agreement, Dimension, HumanAgreement
from miras.evaluate.judge.statistics import overall

MAX_NAMED = 5  # faulty rows named in the message


@dataclass(frozen=True)
class PeoplesScores:
    """Of one file."""

    file: Path
    scores: Mapping[str, Mapping[Dimension, float]]
    """Dialogue id -> mean over raters."""
    people: Mapping[str, int]
    """Rater -> dialogues."""


def read_peoples_scores(path: Path) -> PeoplesScores:
    """The scores in a file.

    Raises:
        DataError: it is missing, neither CSV nor JSON Lines, empty, or has faulty rows; the message names them.
    """
    found: dict[tuple[str, str], dict[Dimension, float]] = {}
    problems = []
    for place, row in _rows(path):
        try:
            key, scores = _read_row(row)
            if key in found:
                raise ValueError(f"dialogue {key[0]!r} is there twice; with several people, name each in `rater`")
            found[key] = scores
        except ValueError as error:
            problems.append(f"line {place}: {error}")
    if problems:
        more = f"; and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise DataError(f"{path}: {len(problems)} faulty rows: {'; '.join(problems[:MAX_NAMED])}{more}. Mend them.")
    if not found:
        raise DataError(f"{path}: no row. Expected dialogue_id and {', '.join(DIMENSIONS)} in each.")
    by_dialogue: dict[str, list[dict[Dimension, float]]] = defaultdict(list)
    for (dialogue_id, _), scores in found.items():
        by_dialogue[dialogue_id].append(scores)
    means = {
        dialogue_id: {dimension: fmean(scores[dimension] for scores in rows) for dimension in DIMENSIONS}
        for dialogue_id, rows in by_dialogue.items()
    }
    return PeoplesScores(path, means, dict(sorted(Counter(rater for _, rater in found).items())))


def agreement(people: PeoplesScores, judge: Mapping[str, Mapping[Dimension, float]]) -> HumanAgreement:
    """The judge's scores of the model's dialogues beside people's.

    Args:
        people: as read.
        judge: dialogue id -> mean of its readings.
    """
    common = sorted(people.scores.keys() & judge.keys())
    human_means, judge_means = overall(people.scores), overall(judge)
    return HumanAgreement(
        file=people.file.name,
        dialogues=len(common),
        only_people=len(people.scores) - len(common),
        only_judge=len(judge) - len(common),
        people=dict(people.people),
        dimensions={
            dimension: _agreement(
                [people.scores[key][dimension] for key in common], [judge[key][dimension] for key in common]
            )
            for dimension in DIMENSIONS
        },
        mean=_agreement([human_means[key] for key in common], [judge_means[key] for key in common]),
    )


def _agreement(people: Sequence[float], judge: Sequence[float]) -> Agreement:
    from scipy.stats import pearsonr, spearmanr  # takes a second, and few have such a file

    is_defined = len(set(people)) > 1 and len(set(judge)) > 1
    return Agreement(
        pearson=float(pearsonr(people, judge).statistic) if is_defined else None,
        spearman=float(spearmanr(people, judge).statistic) if is_defined else None,
        mean_absolute_difference=fmean(abs(one - other) for one, other in zip(people, judge, strict=True))
        if people
        else None,
    )


def _rows(path: Path) -> Iterator[tuple[int, object]]:
    """Line number and content of every row."""
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise DataError(f"{path}: expected a file .csv or .jsonl with people's scores.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}. Name the file of people's scores."
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8. Save it as UTF-8.") from None
    yield from _csv_rows(path, text) if path.suffix.lower() == ".csv" else _json_rows(text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [name for name in ("dialogue_id", *DIMENSIONS) if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path}: the header lacks {', '.join(missing)}; found {', '.join(reader.fieldnames or ()) or 'nothing'}. "
            "Name the columns so, separated by commas."
        )
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV: {error}. Export it again.") from None


def _json_rows(text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _read_row(row: object) -> tuple[tuple[str, str], dict[Dimension, float]]:
    """((dialogue id, rater), scores); raises ValueError with what is wrong."""
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    dialogue_id, rater = row.get("dialogue_id"), row.get("rater") or ""
    if not isinstance(dialogue_id, str) or not dialogue_id:
        raise ValueError(f"dialogue_id is {dialogue_id!r}; expected a name")
    return (dialogue_id, str(rater)), {dimension: _score(dimension, row.get(dimension)) for dimension in DIMENSIONS}


def _score(dimension: Dimension, found: Any) -> float:
    try:
        score = float("nan") if isinstance(found, bool) else float(found)
    except (TypeError, ValueError, OverflowError):
        score = float("nan")
    if not 0 <= score <= BEST_SCORE:
        raise ValueError(f"{dimension} is {found!r}; expected a number from 0 to {BEST_SCORE:g}")
    return score
