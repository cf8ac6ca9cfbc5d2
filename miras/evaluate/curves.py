"""Curves as CSV files for `dvc plots` and for the report; one column per model and history.

`training_<stage>.csv` copies what the training loop wrote; the others are made from score tables.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miras.errors import DataError
from miras.evaluate.lineup import slug
from miras.evaluate.tables import Row
from miras.files import finished_file
from miras.paths import Paths

TRAINING_METRICS = "metrics.jsonl"  # in the folder of a training stage
IOU_AT_LEAST = "iou_at_least.csv"
IOU_BY_SIZE = "iou_by_size.csv"
IOU_BY_FOCUS = "iou_by_focus.csv"
IOU_BY_TURN = "iou_by_turn.csv"


def training_file(stage: str) -> str:
    """Name of a stage's training curve: step, samples and the losses."""
    return f"training_{stage}.csv"


def validation_file(stage: str) -> str:
    """Name of a stage's validation curve: step, samples and the columns `val_*`."""
    return f"validation_{stage}.csv"


def precision_recall_file(model: str, history: str) -> str:
    """Name of the file with a model's point: recall and precision, means over dialogues.

    A file each, because DVC tells points apart by file, and draws a blank in a shared one as 0.
    """
    return f"precision_recall_{slug(_name(model, history))}.csv"


def _name(model: str, history: str) -> str:
    return f"{model}_{history}".replace("-", "_")


def write_curves(folder: Path, tables: dict[str, list[Row]], *, paths: Paths) -> None:
    """Fills the folder of curves."""
    for stage, place in (("stage1", paths.stage1), ("stage2", paths.stage2)):
        source = Path(place) / TRAINING_METRICS
        if source.exists():
            training, validation = read_training(source)
            write_csv(folder / training_file(stage), training)
            if validation:
                write_csv(folder / validation_file(stage), validation)
    dialogues, rounds = _of(tables, "dialogues"), _of(tables, "multi-turn")
    at_least = wide(dialogues["precision_at_threshold"], index="threshold", value="share")
    write_csv(folder / IOU_AT_LEAST, at_least)
    write_csv(folder / IOU_BY_SIZE, wide(dialogues["masks_by_size"], index="size_class", value="ciou"))
    write_csv(folder / IOU_BY_FOCUS, wide(dialogues["masks_by_focus"], index="focus", value="ciou"))
    write_csv(folder / IOU_BY_TURN, wide(rounds["masks_by_turn"], index="turn", value="ciou"))
    for row in dialogues["masks"]:
        if "macro_recall" in row:
            point = {"recall": row["macro_recall"], "precision": row["macro_precision"]}
            write_csv(folder / precision_recall_file(row["model"], row["history"]), [point])


def _of(tables: Mapping[str, Sequence[Row]], benchmark: str) -> dict[str, list[Row]]:
    return {name: [row for row in rows if row.get("benchmark") == benchmark] for name, rows in tables.items()}


def read_training(path: Path) -> tuple[list[Row], list[Row]]:
    """Rows of a training log: those about training, and those about validation (columns `val_*`).

    Raises:
        DataError: a line is not JSON, or no line has `step` and figures.
    """
    training, validation = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg}). Run the training stage again.") from None
        place = {key: values[key] for key in ("step", "samples") if key in values}
        figures = {key: value for key, value in values.items() if key not in place}
        watched = {key: value for key, value in figures.items() if key.startswith("val_")}
        learned = {key: value for key, value in figures.items() if key not in watched}
        training += [place | learned] if learned else []
        validation += [place | watched] if watched else []
    if not training or "step" not in training[0]:
        raise DataError(f"{path}: no line with step and losses. Run the stage that writes it again.")
    return training, validation


def wide(rows: Sequence[Row], *, index: str, value: str) -> list[Row]:
    """One row per value of `index`, a column `<model>_<history>` per curve: DVC selects by column."""
    table: dict[Any, Row] = {}
    for row in rows:
        column = _name(row["model"], row["history"])
        line = table.setdefault(row[index], {index: row[index]})
        line |= {column: row[value]} if value in row else {}
    return list(table.values())


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows under the union of their columns; a value that a row lacks stays blank."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with finished_file(path) as aside, aside.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows as text; no rows when the file is absent (a model that was not trained here has no curve)."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
