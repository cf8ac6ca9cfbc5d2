"""Scores documents (`scores.json` of an evaluation): reading them, and finding the row that a column means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miras.errors import DataError
from miras.evaluate.judge.rows import judge_rows
from miras.reproduce.records import Column

Scores = Mapping[str, Any]
HISTORIES = ("own", "none")  # which is meant where a column names none


def find(scores: Scores, column: Column, model: str | None) -> dict[str, Any] | str:
    """The row of a scores document that a column means, or why there is none.

    Args:
        scores: the document.
        column: what is looked for.
        model: which model; None: the document holds one, whatever its name.
    """
    rows = scores.get("tables", {}).get(column.table)
    if not rows:
        return f"the scores hold no table {column.table}" + (
            ": no language model has judged these dialogues" if column.table == "judge" else ""
        )
    wanted: dict[str, Any] = {"benchmark": column.benchmark, **({"model": model} if model else {}), **column.where}
    found = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    if "history" not in wanted and len(found) > 1:
        histories = next((h for h in HISTORIES if any(row.get("history") == h for row in found)), None)
        found = [row for row in found if row.get("history") == histories]
    told = ", ".join(f"{key} {value}" for key, value in wanted.items())
    if len(found) != 1:
        return f"the scores hold {len(found) or 'no'} {'rows' if len(found) > 1 else 'row'} of {told}"
    value = found[0].get(column.metric)
    if not isinstance(value, int | float) or isinstance(value, bool):
        missing = found[0].get("missing") or {}
        return missing.get(column.metric) or f"{column.metric} was not measured"
    return dict(found[0])


def read_scores(file: Path) -> dict[str, Any]:
    """A scores document.

    Raises:
        DataError: it is missing, or is none.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; expected the scores.json of an evaluation.") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Name the scores.json of an evaluation.") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not JSON: {error}. Expected the scores.json of an evaluation.") from None
    if not isinstance(found, dict) or not isinstance(found.get("tables"), dict):
        raise DataError(f"{file}: holds no `tables`; expected the scores.json of an evaluation.")
    found["tables"].setdefault("judge", judge_rows(file.parent))
    return found
