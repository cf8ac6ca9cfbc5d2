"""Pages of evaluations: one HTML file that opens offline, from what stands in an evaluation's folder.

Stage `report` writes the same page with training curves, data set and public benchmarks, and a short Markdown file.
Nothing in them depends on when or where they were made: the same inputs give the same bytes.
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from miras.card.gallery import answer_pieces, data_uri
from miras.card.section import data_set_section
from miras.errors import DataError
from miras.evaluate.cases import CHOICES, OUTCOME_NAMES, Card, Dealer, choose_cases
from miras.evaluate.charts import Series, line_chart
from miras.evaluate.config import ReportConfig
from miras.evaluate.curves import read_csv, training_file, validation_file
from miras.evaluate.data_facts import data_facts
from miras.evaluate.galleries import PictureShelf
from miras.evaluate.judge.rows import judge_rows
from miras.evaluate.lineup import COLOURS, Lineup, Row, history_name, model_name
from miras.evaluate.records import Prediction, Question
from miras.evaluate.scoring import MISSING, Answered, Problems, pair, score_masks
from miras.evaluate.sections import FAULT_NAMES, Section, failure_messages, faults, sections, tiles
from miras.evaluate.tables import OUTCOMES
from miras.files import finished_file, finished_folder, read_records
from miras.paths import Paths

log = logging.getLogger(__name__)

PAGE = "report.html"
MARKDOWN = "report.md"
STAGES = {"stage1": "Stage 1", "stage2": "Stage 2"}
TEXT_COLUMNS = {
    "bleu4": "BLEU-4",
    "sentence_bleu4": "sentence BLEU-4",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "dist1": "Dist-1",
    "dist2": "Dist-2",
    "bert_score": "BERTScore",
}
NOT_CHOSEN = {"bert_score": "no encoder is named (evaluate.bert_score)."}


@dataclass(frozen=True)
class Evaluation:
    """What the folder of an evaluation holds."""

    scores: dict[str, Any]
    questions: list[Question]
    answered: list[Answered]


def run(*, paths: Paths, work: Path, report: ReportConfig) -> None:
    """Writes the report folder.

    Raises:
        DataError: an input is missing; the message names the stage that makes it.
    """
    context = pipeline_context(paths, report)
    with finished_folder(Path(paths.report)) as folder:
        (folder / paths.report_page.name).write_text(render("report.html.j2", context), encoding="utf-8")
        (folder / MARKDOWN).write_text(render("report.md.j2", context), encoding="utf-8")
    log.info("reported page=%s", paths.report_page)


def write_evaluation_page(
    folder: Path,
    pictures: PictureShelf | None,
    *,
    title: str,
    num_examples: int,
    num_failures: int,
    seed: int,
) -> Path:
    """Writes `report.html` beside the scores of an evaluation: of any models, benchmarks and histories.

    Args:
        folder: holds questions.jsonl, predictions.jsonl and scores.json.
        pictures: to draw the masks on; None: the gallery shows the dialogues alone and says so.
        title: heading of the page.
        num_examples: best and median cases of the first benchmark, and as many random ones; the others show half.
        num_failures: worst cases, likewise.
        seed: of the random cases.

    Raises:
        DataError: a file is missing or damaged, or they do not fit.
    """
    context = evaluation_context(
        folder, pictures, title=title, num_examples=num_examples, num_failures=num_failures, seed=seed
    )
    with finished_file(folder / PAGE) as aside:
        aside.write_text(render("evaluation.html.j2", context), encoding="utf-8")
    return folder / PAGE


def render(template: str, context: Mapping[str, Any]) -> str:
    """A template of this package filled in; a name that is not in the context is an error."""
    environment = Environment(
        loader=PackageLoader("miras.evaluate"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "pieces": answer_pieces,
        "uri": data_uri,
        "model": model_name,
        "history": history_name,
        "cell": _markdown_cell,
    }
    style = (files("miras.evaluate") / "templates" / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render({**context, "style": Markup(style)})


def _markdown_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def evaluation_context(
    folder: Path, pictures: PictureShelf | None, *, title: str, num_examples: int, num_failures: int, seed: int
) -> dict[str, Any]:
    """What the page of an evaluation shows; arguments and errors as of `write_evaluation_page`."""
    found = read_evaluation(folder)
    tables: dict[str, list[dict[str, Any]]] = found.scores["tables"]
    lineup = Lineup.of(tables["masks"])
    parts = sections(tables, lineup, _kinds(found.questions))
    messages, num_failed = failure_messages(found.answered)
    text_rows = lineup.sorted(tables.get("text", ()))
    counts = {"num_examples": num_examples, "num_failures": num_failures, "seed": seed}
    return {
        "title": title,
        "scores": found.scores,
        "sections": parts,
        "models": lineup.asked,
        "num_pictures": len({question.image_id for question in found.questions} - {""}),
        "tiles": tiles(parts[0], lineup, {model: model_name(model) for model in lineup.models}),
        "gallery": galleries(found, parts, pictures, **counts),
        "choice_names": CHOICES,
        "text_rows": text_rows,
        "text_columns": TEXT_COLUMNS,
        "missing_texts": missing_texts(text_rows),
        "judge_rows": tables.get("judge") or judge_rows(folder),
        "faults": faults(tables, lineup),
        "fault_names": FAULT_NAMES,
        "messages": messages,
        "num_failed": num_failed,
        "num_cut": sum(item.prediction.is_cut for item in found.answered),
        "num_unscored": sum(question.asks_for_mask and not question.is_scorable for question in found.questions),
        "outcome_names": OUTCOME_NAMES,
        "outcomes": OUTCOMES,
    }


def pipeline_context(paths: Paths, config: ReportConfig) -> dict[str, Any]:
    """What the stage's page shows: the evaluation, how the model was trained, on what, and public benchmarks."""
    folder = Path(paths.evaluate)
    if not paths.scores.exists():
        raise DataError(f"{paths.scores}: no such file; run the stage evaluate (`dvc repro evaluate`).")
    shelf = PictureShelf.of_data_set(paths)
    settings = config.model_dump(include={"num_examples", "num_failures", "seed"})
    context = evaluation_context(folder, shelf, title=config.title, **settings)
    return context | {
        "facts": data_facts(paths),
        "data_set": data_set_section(paths, num_examples=config.num_examples),
        "training": training_charts(folder / "curves"),
        "public": public_sections(paths.public_evaluations),
    }


def read_evaluation(folder: Path) -> Evaluation:
    """Questions, answers and scores of an evaluation.

    Raises:
        DataError: a file is missing or damaged, or they do not fit.
    """
    scores = read_scores(folder / "scores.json")
    questions = list(read_records(folder / "questions.jsonl", Question))
    problems = Problems()
    predictions = folder / "predictions.jsonl"
    answered = pair(questions, read_records(predictions, Prediction), problems)
    if len(problems.found.get(MISSING, ())) == scores.get("unanswered", 0):
        problems.found.pop(MISSING, None)
    if problems:
        raise DataError(f"{predictions}: does not fit the questions beside it. Score it again.\n{problems.text()}")
    scored = {tuple(item.group.values()) for item in answered if _is_scored(item)}
    stated = {(row["benchmark"], row["model"], row["history"]) for row in scores["tables"]["masks"]}
    if scored != stated:
        odd = ", ".join(f"{benchmark} / {model} / {history}" for benchmark, model, history in sorted(scored ^ stated))
        raise DataError(f"{folder / 'scores.json'}: is not of the predictions beside it ({odd}). Score them again.")
    return Evaluation(scores, questions, answered)


def _is_scored(item: Answered) -> bool:
    return item.question.asks_for_mask and item.question.is_scorable


def read_scores(path: Path) -> dict[str, Any]:
    """A scores document.

    Raises:
        DataError: it is not there, is no such document, or has no scores.
    """
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        masks = loaded["tables"]["masks"]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Score the predictions (`miras score`).") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: no scores document (JSON with tables.masks). Score the predictions again.") from None
    if not masks:
        raise DataError(f"{path}: no scores of masks in it. Score the predictions again.")
    return loaded


def _kinds(questions: Sequence[Question]) -> dict[str, list[str]]:
    """Benchmark -> kinds of its dialogues."""
    kinds: dict[str, dict[str, None]] = defaultdict(dict)
    for question in questions:
        kinds[question.benchmark][question.kind] = None
    return {benchmark: list(found) for benchmark, found in kinds.items()}


def galleries(
    found: Evaluation,
    parts: Sequence[Section],
    pictures: PictureShelf | None,
    *,
    num_examples: int,
    num_failures: int,
    seed: int,
) -> dict[str, dict[str, list[Card]]]:
    """Anchor of a section -> choice -> cards of its leading model; random ones for the first section alone."""
    dealer = Dealer(found.questions, found.answered, pictures)
    dealt = {}
    for number, section in enumerate(parts):
        group = {key: section.leading[key] for key in ("benchmark", "model", "history")}
        items = score_masks(item for item in found.answered if item.group == group)
        part = 2 if number else 1
        chosen = choose_cases(
            items,
            num_examples=math.ceil(num_examples / part),
            num_failures=math.ceil(num_failures / part),
            num_random=0 if number else num_examples,
            seed=seed,
        )
        dealt[section.anchor] = {choice: [dealer.card(item) for item in cases] for choice, cases in chosen.items()}
    return dealt


def missing_texts(rows: Sequence[Row]) -> dict[str, str]:
    """Name of each text metric that some row lacks -> why."""
    found = {}
    for column, name in TEXT_COLUMNS.items():
        lacking = [row for row in rows if row.get(column) is None]
        stated = [row["missing"][column] for row in lacking if column in row.get("missing", {})]
        if lacking:
            found[name] = stated[0] if stated else NOT_CHOSEN.get(column, "not among these scores.")
    return found


def public_sections(folder: Path) -> list[tuple[str, int, list[Section]]]:
    """Of each evaluation in the folder, by name: name, records that could not be read, its sections."""
    found = []
    for place in sorted(folder.glob("*/scores.json")):
        scores = read_scores(place)
        tables = scores["tables"]
        found.append((place.parent.name, scores.get("left_out", 0), sections(tables, Lineup.of(tables["masks"]), {})))
    return found


def training_charts(curves: Path) -> dict[str, Markup]:
    """Title -> chart of each training curve that there is."""
    drawn = {}
    for stage, name in STAGES.items():
        losses = _columns(
            read_csv(curves / training_file(stage)),
            names={"total": "total", "text": "text", "bce": "mask, cross-entropy", "dice": "mask, Dice"},
        )
        if losses:
            drawn[f"{name}: training loss"] = line_chart(losses, x_label="samples seen", y_label="loss")
        watched = _columns(read_csv(curves / validation_file(stage)), names={"val_ciou": "validation cIoU"})
        if watched:
            drawn[f"{name}: validation"] = line_chart(
                watched, x_label="samples seen", y_label="cIoU, %, reference answers", y_max=100
            )
    return drawn


def _columns(rows: Sequence[Mapping[str, str]], *, names: Mapping[str, str]) -> list[Series]:
    """Columns of a CSV file over the samples seen; blanks are left out, and so are lines without points."""
    lines = []
    for (column, name), colour in zip(names.items(), COLOURS, strict=False):
        points = [(float(row["samples"]), float(row[column])) for row in rows if row.get(column)]
        lines.append(Series(name, colour, [point for point in points if math.isfinite(point[1])]))
    return [line for line in lines if line.points]
