"""Stage `report`: one HTML page that opens offline, and a short Markdown file, from what `evaluate` wrote.

Nothing in them depends on when or where they were made: the same inputs give the same bytes.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import random
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from miras.dialogue.masks import SIZE_CLASSES
from miras.dialogue.records import TARGET_SLOT
from miras.dialogue.rendering import plain_text, split_groups
from miras.errors import DataError
from miras.evaluate.baselines import BASELINES
from miras.evaluate.charts import Series, bar_chart, line_chart
from miras.evaluate.config import ReportConfig
from miras.evaluate.curves import IOU_AT_LEAST, read_csv, training_file, validation_file
from miras.evaluate.data_facts import data_facts
from miras.evaluate.galleries import PictureShelf, Turns, panels, turns_of
from miras.evaluate.records import Prediction
from miras.evaluate.tables import OUTCOMES, Row, Scored, outcome, score_masks
from miras.files import finished_folder, read_records
from miras.paths import Paths

log = logging.getLogger(__name__)

PANEL_PX = 300
MARKDOWN = "report.md"
MODEL_NAMES = {
    "stage1": "stage 1",
    "stage2": "stage 2",
    "no-picture": "stage 2, no picture",
    "whole-image": "whole image",
    "random-object": "random other object",
    "largest-object": "largest object",
}
HISTORY_NAMES = {
    "own": "its own",
    "reference": "reference",
    "none": "none",
    "any": "–",
}
COLOURS = {
    "stage2": "#2563eb",
    "stage1": "#94a3b8",
    "reference": "#0f766e",
    "trivial": "#d97706",
    "other": "#a855f7",
}
OUTCOME_NAMES = {
    "found": "found",
    "wrong_place": "right phrase, wrong place",
    "other_phrase": "named something else",
    "no_mask": "no mask",
}
# The order of table rows: what the model does by itself comes first, trivial baselines last.
ROW_ORDER = [
    *[(model, history) for model in ("stage2", "stage1") for history in ("own", "reference", "none")],
    ("no-picture", "own"),
    ("no-picture", "none"),
    *[(name, "any") for name in BASELINES],
]


def run(*, paths: Paths, work: Path, report: ReportConfig) -> None:
    """Writes the report folder.

    Raises:
        DataError: an input is missing; the message names the stage that makes it.
    """
    context = report_context(paths, report)
    with finished_folder(Path(paths.report)) as folder:
        (folder / paths.report_page.name).write_text(render("report.html.j2", context), encoding="utf-8")
        (folder / MARKDOWN).write_text(render("report.md.j2", context), encoding="utf-8")
    log.info("reported page=%s", paths.report_page)


def render(template: str, context: dict[str, Any]) -> str:
    """A template of this package filled in; a name that is not in the context is an error."""
    folder = files("miras.evaluate") / "templates"
    environment = Environment(
        autoescape=template.endswith(".html.j2"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    context = {**context, "style": Markup((folder / "report.css").read_text(encoding="utf-8"))}
    return environment.from_string((folder / template).read_text(encoding="utf-8")).render(context)


def report_context(paths: Paths, config: ReportConfig) -> dict[str, Any]:
    """Everything the templates show."""
    scores = read_scores(paths.scores)
    tables: dict[str, list[Row]] = scores["tables"]
    predictions = list(read_records(paths.predictions, Prediction))
    told = [
        item
        for item in score_masks(predictions)
        if item.group == {"benchmark": "dialogues", "model": "stage2", "history": "own"}
    ]
    chosen = choose_examples(told, config)
    turns, shelf = turns_of(predictions), PictureShelf(paths)
    return {
        "title": config.title,
        "scores": scores,
        "facts": data_facts(paths),
        "dialogue_rows": ordered(tables["masks"], "dialogues"),
        "query_rows": ordered(tables["masks"], "queries"),
        "question_rows": question_rows(tables),
        "size_rows": ordered(tables["masks_by_size"], "dialogues"),
        "outcome_rows": ordered(tables["outcomes"], "dialogues"),
        "text_rows": ordered(tables["text"]),
        "best_trivial": best_trivial(tables["masks"]),
        "charts": charts(tables, Path(paths.evaluate) / "curves"),
        "examples": [card(item, turns, shelf) for item in chosen["random"]],
        "failures": [card(item, turns, shelf) for item in chosen["worst"]],
        "model_names": MODEL_NAMES,
        "history_names": HISTORY_NAMES,
        "outcome_names": OUTCOME_NAMES,
        "outcomes": OUTCOMES,
    }


def read_scores(path: Path) -> dict[str, Any]:
    """The document that the stage `evaluate` wrote.

    Raises:
        DataError: it is not there.
    """
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage evaluate (`dvc repro evaluate`).") from None
    return loaded


def ordered(rows: Sequence[Row], benchmark: str | None = None) -> list[Row]:
    """Rows of a benchmark (of all, if None) in `ROW_ORDER`."""
    kept = [row for row in rows if benchmark is None or row["benchmark"] == benchmark]
    return sorted(kept, key=lambda row: ROW_ORDER.index((row["model"], row["history"])))


def question_rows(tables: dict[str, list[Row]]) -> list[dict[str, Any]]:
    """Scores by kind of single question, one column per model."""
    kinds: list[tuple[str, list[Row], str, str]] = [
        ("names its target (referring), cIoU", _of_kind(tables, "referring"), "ciou", "samples"),
        ("names a class (semantic), cIoU", _of_kind(tables, "semantic"), "ciou", "samples"),
        (
            "names something that is not there: answered without a mask",
            [row for row in tables["masks"] if row["benchmark"] == "queries" and "no_target" in row],
            "no_target_accuracy",
            "no_target",
        ),
        (
            "points at a mask and asks for the other of two: share found with IoU of at least 0.5 (needs mask memory)",
            ordered(tables["masks"], "hard"),
            "precision_at_50",
            "samples",
        ),
    ]
    return [
        {"name": name, "samples": rows[0][count], "scores": {row["model"]: row[column] for row in rows}}
        for name, rows, column, count in kinds
        if rows
    ]


def _of_kind(tables: dict[str, list[Row]], kind: str) -> list[Row]:
    return [row for row in tables["masks_by_kind"] if row["kind"] == kind]


def best_trivial(rows: Sequence[Row]) -> Row | None:
    """The best baseline on the dialogues that needs no model; None when there are no dialogues."""
    found = [row for row in rows if row["benchmark"] == "dialogues" and row["model"] in BASELINES]
    return max(found, key=lambda row: float(row["ciou"])) if found else None


def choose_examples(items: Sequence[Scored], config: ReportConfig) -> dict[str, list[Scored]]:
    """Random dialogues, and the worst of the rest: lowest IoU, of those the largest targets (easiest to judge)."""
    pool = sorted((item for item in items if item.sample.target_px), key=lambda item: item.prediction.dialogue_id)
    drawn = random.Random(config.seed).sample(pool, min(config.num_examples, len(pool)))
    rest = [item for item in pool if item not in drawn and outcome(item) != "found"]
    rest.sort(key=lambda item: (item.sample.iou, -item.sample.target_px))
    return {"random": drawn, "worst": rest[: config.num_failures]}


def card(item: Scored, turns: Turns, shelf: PictureShelf) -> dict[str, Any]:
    """One dialogue as the page shows it: bubbles, three pictures, and what became of it."""
    prediction = item.prediction
    told = turns[prediction.model, prediction.history, prediction.dialogue_id]
    return {
        "dialogue_id": prediction.dialogue_id,
        "targets": ", ".join(prediction.targets),
        "iou": 100 * item.sample.iou,
        "outcome": outcome(item),
        "size_class": item.sample.size_class,
        "turns": [
            {
                "question": turn.question,
                "answer": answer_pieces(turn.answer),
                "reference": plain_text(turn.reference),
                "is_same": plain_text(turn.answer) == plain_text(turn.reference),
            }
            for turn in told
        ],
        "panels": [data_uri(panel) for panel in panels(item, shelf, side_px=PANEL_PX)],
    }


def answer_pieces(answer: str) -> list[dict[str, Any]]:
    """The answer in pieces of text; phrases with a mask are marked `is_phrase`."""
    text, phrases = split_groups(answer)
    pieces = []
    for number, part in enumerate(text.split(TARGET_SLOT)):
        if number:
            pieces.append({"text": phrases[number - 1], "is_phrase": True})
        pieces.append({"text": part, "is_phrase": False})
    return [piece for piece in pieces if piece["text"]]


def data_uri(picture: Image.Image) -> str:
    """The picture inside the page."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def charts(tables: dict[str, list[Row]], curves: Path) -> dict[str, Markup]:
    """Charts by name; one that has no data is absent."""
    drawn: dict[str, Markup] = {}
    sizes = [
        Series(
            MODEL_NAMES[model],
            COLOURS[model],
            [
                (SIZE_CLASSES.index(row["size_class"]), row["ciou"])
                for row in ordered(tables["masks_by_size"], "dialogues")
                if row["model"] == model and row["history"] == "own"
            ],
        )
        for model in ("stage1", "stage2")
    ]
    if any(line.points for line in sizes):
        drawn["sizes"] = bar_chart(sizes, categories=SIZE_CLASSES, y_label="cIoU, %")
    thresholds = _columns(
        read_csv(curves / IOU_AT_LEAST),
        index="threshold",
        names={
            "stage2_reference": ("stage 2, reference history", COLOURS["reference"]),
            "stage2_own": ("stage 2, own history", COLOURS["stage2"]),
            "stage1_own": ("stage 1, own history", COLOURS["stage1"]),
            "largest_object_any": ("largest object", COLOURS["trivial"]),
        },
    )
    if thresholds:
        drawn["thresholds"] = line_chart(thresholds, x_label="IoU at least", y_label="share of dialogues, %", y_max=100)
    for stage in ("stage1", "stage2"):
        drawn |= _training_charts(curves, stage)
    return drawn


def _training_charts(curves: Path, stage: str) -> dict[str, Markup]:
    drawn = {}
    losses = _columns(
        read_csv(curves / training_file(stage)),
        index="samples",
        names={
            "total": ("total", COLOURS["stage2"]),
            "text": ("text", COLOURS["trivial"]),
            "bce": ("mask, cross-entropy", COLOURS["reference"]),
            "dice": ("mask, Dice", COLOURS["other"]),
        },
    )
    if losses:
        drawn[f"loss_{stage}"] = line_chart(losses, x_label="samples seen", y_label="loss")
    watched = _columns(
        read_csv(curves / validation_file(stage)),
        index="samples",
        names={"val_ciou": ("validation cIoU", COLOURS["stage2"])},
    )
    if watched:
        drawn[f"validation_{stage}"] = line_chart(
            watched, x_label="samples seen", y_label="cIoU, %, reference answers", y_max=100
        )
    return drawn


def _columns(rows: Sequence[dict[str, str]], *, index: str, names: dict[str, tuple[str, str]]) -> list[Series]:
    """Columns of a CSV file as lines (name, colour); blanks are left out, and so are lines without points."""
    lines = [
        Series(name, colour, [(float(row[index]), float(row[column])) for row in rows if row.get(column)])
        for column, (name, colour) in names.items()
    ]
    return [line for line in lines if line.points]
