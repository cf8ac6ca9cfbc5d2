"""From scored answers to tables: one row per benchmark, model and history. All scores are percent, 0 to 100.

A row stands only where there is something to count; what could not be scored is counted beside, never as 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from miras.dialogue.masks import SIZE_CLASSES
from miras.dialogue.rendering import phrases_in
from miras.evaluate.baselines import BASELINES
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.mask_metrics import MaskSample, share_at_least, summarize
from miras.evaluate.records import BLIND, FINAL
from miras.evaluate.scoring import Answered, Scored
from miras.evaluate.statistics import Difference, bootstrap, paired
from miras.evaluate.text_metrics import same_phrases, score_texts
from miras.quality.focus_classes import focus_class

Row = dict[str, Any]
COUNTS = {"samples", "pictures", "missing_masks", "no_target"}
CURVE_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
GOOD_IOU = 0.5
MANY_TARGETS = 3
OUTCOMES = ("found", "wrong_place", "other_phrase", "no_mask")


def scores_document(answered: Sequence[Answered], scored: Sequence[Scored], config: EvaluateConfig) -> dict[str, Any]:
    """What scores.json holds: headlines first, then `tables` (lists of rows, which DVC does not list)."""
    tables: dict[str, list[Row]] = {
        "masks": mask_rows(scored, answered, config),
        "masks_by_size": rows_by(scored, "size_class", _size_of, order=SIZE_CLASSES),
        "masks_by_turn": rows_by([item for item in scored if _is_of_rounds(item)], "turn", _turn_of),
        "masks_by_focus": rows_by([item for item in scored if item.question.kind == "prist"], "focus", _focus_of),
        "masks_by_targets": rows_by(scored, "targets", _targets_of),
        "masks_by_kind": rows_by([item for item in scored if item.question.kind != "prist"], "kind", _kind_of),
        "masks_by_tag": tag_rows(scored),
        "precision_at_threshold": threshold_rows(scored),
        "outcomes": outcome_rows(scored),
        "templates": template_rows(scored, config),
        "differences": difference_rows(scored, config),
        "text": text_rows(answered, config),
    }
    return {**headlines(tables), "tables": tables}


def mask_rows(scored: Sequence[Scored], answered: Sequence[Answered], config: EvaluateConfig) -> list[Row]:
    """One row per benchmark, model and history, with 95 % intervals."""
    due = {tuple(name.values()): group for name, group in _grouped(answered, lambda item: item.group)}
    rows = []
    for name, group in _grouped(scored, lambda item: item.group):
        samples = [item.sample for item in group]
        row = {**name, **percent(summarize(samples))}
        for metric, interval in bootstrap(samples, rounds=config.bootstrap_rounds, seed=config.seed).items():
            if metric in row:
                row |= percent({f"{metric}_low": interval.low, f"{metric}_high": interval.high})
        asked = [item for item in due[tuple(name.values())] if item.question.asks_for_mask]
        row["unscored"] = len(asked) - len(group)
        row["failed"] = sum(bool(item.prediction.error) for item in asked)
        row["cut"] = sum(item.prediction.is_cut for item in asked)
        if name["model"] not in BASELINES:
            row |= _answer_columns(group)
        rows.append(row)
    return rows


def _answer_columns(group: Sequence[Scored]) -> Row:
    """What the answers' words say: right phrases, and time per answer."""
    with_target = [item for item in group if item.question.targets]
    seconds = sum(item.prediction.seconds for item in group) / len(group)
    columns: Row = {"seconds_per_answer": round(seconds, 3)}
    if with_target:
        columns["phrase_match"] = round(100 * sum(map(_says_the_phrase, with_target)) / len(with_target), 2)
    return columns


def _says_the_phrase(item: Scored) -> bool:
    return same_phrases(answer=item.prediction.answer, targets=item.question.targets)


def rows_by(
    scored: Sequence[Scored], column: str, value_of: Callable[[Scored], Any], *, order: Sequence[Any] = ()
) -> list[Row]:
    """Short rows by the value of a column; samples whose value is None are left out (they have none)."""
    rows = []
    for name, group in _grouped(scored, lambda item: item.group):
        values = {value for item in group if (value := value_of(item)) is not None}
        for value in [item for item in order if item in values] or sorted(values):
            rows.append({**name, column: value, **_short([i.sample for i in group if value_of(i) == value])})
    return rows


def _size_of(item: Scored) -> str | None:
    return item.sample.size_class or None


def _turn_of(item: Scored) -> int:
    return item.question.turn + 1


def _focus_of(item: Scored) -> str:
    return focus_class(item.question.focus)


def _targets_of(item: Scored) -> str:
    number = len(item.question.targets)
    return str(number) if number < MANY_TARGETS else f"{MANY_TARGETS} or more"


def _kind_of(item: Scored) -> str:
    return item.question.kind


def _is_of_rounds(item: Scored) -> bool:
    return item.question.kind == "mrseg" and not (item.question.turn == 0 and item.question.is_last)


def tag_rows(scored: Sequence[Scored]) -> list[Row]:
    """Rows by what a benchmark itself tells apart, such as ReasonSeg's short and long queries."""
    tags = sorted({tag for item in scored for tag in item.question.tags})
    rows: list[Row] = []
    for tag in tags:
        rows += [{"tag": tag, **row} for row in rows_by(scored, "value", partial(_tag_of, tag=tag))]
    return rows


def _tag_of(item: Scored, *, tag: str) -> str | None:
    return item.question.tags.get(tag)


def _short(samples: Sequence[MaskSample]) -> Row:
    full = percent(summarize(samples))
    return {
        key: full[key] for key in ("samples", "ciou", "giou", "precision_at_50", "no_target_accuracy") if key in full
    }


def threshold_rows(scored: Sequence[Scored]) -> list[Row]:
    """Share of samples whose IoU is at least each threshold: a curve per benchmark, model and history."""
    return [
        {**name, "threshold": threshold, "share": round(100 * share_at_least(samples, threshold), 2)}
        for name, group in _grouped(scored, lambda item: item.group)
        if (samples := [item.sample for item in group if item.sample.target_px])
        for threshold in CURVE_THRESHOLDS
    ]


def outcome_rows(scored: Sequence[Scored]) -> list[Row]:
    """How many were found, had no mask, another phrase, or the right phrase in the wrong place."""
    rows = []
    told = [item for item in scored if item.question.targets and item.prediction.model not in BASELINES]
    for name, group in _grouped(told, lambda item: item.group):
        counted = Counter(outcome(item) for item in group)
        rows.append({**name, "samples": len(group), **{kind: counted[kind] for kind in OUTCOMES}})
    return rows


def outcome(item: Scored) -> str:
    """One of `OUTCOMES`; found means an IoU of at least 0.5, whatever the phrase."""
    if item.sample.iou >= GOOD_IOU:
        return "found"
    if not item.sample.predicted_px:
        return "no_mask"
    return "wrong_place" if _says_the_phrase(item) else "other_phrase"


def template_rows(scored: Sequence[Scored], config: EvaluateConfig) -> list[Row]:
    """cIoU of single questions in our own and in each other family's wording, and their mean (SegLLM, table 7).

    Only dialogues that were asked in every wording count, so that the columns are of the same questions.
    """
    rows = []
    by_name = dict(_groups_by_key(scored))
    for (benchmark, model, history), own in by_name.items():
        wordings: dict[str, list[Scored]] = {"own": own}
        for family in config.templates:
            wordings[family] = by_name.get((f"{benchmark}-{family}", model, history), [])
        common = set.intersection(*({item.question.dialogue_id for item in group} for group in wordings.values()))
        if len(wordings) == 1 or not common:
            continue
        row: Row = {"benchmark": benchmark, "model": model, "history": history, "samples": len(common)}
        for wording, group in wordings.items():
            samples = [item.sample for item in group if item.question.dialogue_id in common]
            row[wording] = percent(summarize(samples)).get("ciou")
        found = [row[wording] for wording in wordings if row[wording] is not None]
        if len(found) == len(wordings):
            row["mean"] = round(sum(found) / len(found), 2)
        rows.append(row)
    return rows


def difference_rows(scored: Sequence[Scored], config: EvaluateConfig) -> list[Row]:
    """A model against each other one on the same questions: difference in points with its 95 % interval.

    The first is the final model of the pipeline; where it is not among them, each is compared with those after it.
    """
    rows = []
    groups = dict(_groups_by_key(scored))
    models = list(dict.fromkeys(model for _, model, _ in groups if model not in BASELINES))
    leading = [FINAL] if FINAL in models else models
    for (benchmark, model, history), first in groups.items():
        for (other_benchmark, other, other_history), second in groups.items():
            is_pair = benchmark == other_benchmark and other != model and other_history in (history, "any")
            is_turned = other in leading and leading.index(other) < (leading.index(model) if model in leading else 0)
            if model not in leading or not is_pair or is_turned:
                continue
            shared = {item.question.key for item in first} & {item.question.key for item in second}
            samples = [
                [i.sample for i in sorted(group, key=lambda item: item.question.key) if i.question.key in shared]
                for group in (first, second)
            ]
            if len({sample.image_id for sample in samples[0]}) < 2:
                continue  # no telling how sure it is
            found = paired(*samples, rounds=config.bootstrap_rounds, seed=config.seed)
            row: Row = {"benchmark": benchmark, "model": model, "against": other, "history": history}
            row |= {"samples": found.samples, "pictures": found.pictures}
            rows.append(row | _difference("ciou", found.ciou) | _difference("giou", found.giou))
    return rows


def _difference(metric: str, found: Difference | None) -> Row:
    """Points, with `<metric>_low` and `<metric>_high`, and the p-value as it is."""
    if found is None:
        return {}
    low, high = found.interval.low, found.interval.high
    points = {metric: found.value, f"{metric}_low": low, f"{metric}_high": high}
    return {key: round(100 * value, 2) for key, value in points.items()} | {f"{metric}_p": round(found.p_value, 4)}


def text_rows(answered: Sequence[Answered], config: EvaluateConfig) -> list[Row]:
    """Text scores of the turns before the last, templated one, for histories in which they are generated."""
    turns = [
        item
        for item in answered
        if item.question.kind == "prist" and not item.question.is_last and item.prediction.model not in BASELINES
    ]
    rows = []
    for name, group in _grouped(turns, lambda item: item.group):
        answers = [item.prediction.answer for item in group]
        references = [item.question.reference for item in group]
        scores = asdict(score_texts(answers=answers, references=references))
        if config.bert_score:
            from miras.evaluate.bert_score import bert_score  # takes seconds: torch and transformers

            scores["bert_score"] = bert_score(
                answers=answers, references=references, model=config.bert_score.model, layer=config.bert_score.layer
            )
        stray = sum(bool(phrases_in(answer)) for answer in answers)
        rounded = {key: round(v, 2) if isinstance(v, float) else v for key, v in scores.items()}
        failed = sum(bool(item.prediction.error) for item in group)
        cut = sum(item.prediction.is_cut for item in group)
        rows.append({**name, **rounded, "stray_masks": stray, "failed": failed, "cut": cut})
    return rows


def _own(model: str, history: str = "own") -> dict[str, str]:
    return {"benchmark": "dialogues", "model": model, "history": history}


# Headline name -> (table, what names its row, column). Absent rows give no headline.
HEADLINES: dict[str, tuple[str, dict[str, str], str]] = {
    **{
        f"dialogues_{history}_{column}": ("masks", _own(FINAL, history), column)
        for history in ("own", "reference", "none")
        for column in ("ciou", "giou", "f1", "precision_at_50", "phrase_match")
    },
    **{
        f"dialogues_own_{column}": ("text", _own(FINAL), column)
        for column in ("bleu4", "rouge_l", "meteor", "dist1", "dist2", "bert_score")
    },
    **{
        f"dialogues_{model.replace('-', '_')}_ciou": ("masks", _own(model, history), "ciou")
        for model, history in [("stage1", "own"), (BLIND, "own"), *((name, "any") for name in BASELINES)]
    },
    **{
        f"multi_turn_{history}_{column}": (
            "masks",
            {"benchmark": "multi-turn", "model": FINAL, "history": history},
            column,
        )
        for history in ("own", "reference")
        for column in ("ciou", "giou")
    },
    **{
        f"queries_{column}": ("masks", {"benchmark": "queries", "model": FINAL}, column)
        for column in ("ciou", "giou", "no_target_accuracy")
    },
    "queries_templates_ciou": ("templates", {"benchmark": "queries", "model": FINAL}, "mean"),
    "hard_precision_at_50": ("masks", {"benchmark": "hard", "model": FINAL}, "precision_at_50"),
    "queries_stage1_ciou": ("masks", {"benchmark": "queries", "model": "stage1"}, "ciou"),
}


def headlines(tables: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """The numbers to look at first, by name; what was not measured is absent."""
    found: dict[str, float] = {}
    for key, (table, name, column) in HEADLINES.items():
        row = find_row(tables[table], **name)
        if row is not None and row.get(column) is not None:
            found[key] = row[column]
    return found


def find_row(rows: Sequence[Row], **name: str) -> Row | None:
    """The first row whose columns have these values."""
    return next((row for row in rows if all(row.get(key) == value for key, value in name.items())), None)


def percent(shares: Mapping[str, float | int]) -> Row:
    """Shares as percent with 2 decimals; counts as they are."""
    return {key: int(value) if key in COUNTS else round(100 * float(value), 2) for key, value in shares.items()}


def _groups_by_key(scored: Sequence[Scored]) -> list[tuple[tuple[str, str, str], list[Scored]]]:
    return [
        ((name["benchmark"], name["model"], name["history"]), group)
        for name, group in _grouped(scored, lambda item: item.group)
    ]


def _grouped(items: Sequence[Any], name_of: Callable[[Any], Row]) -> list[tuple[Row, list[Any]]]:
    """Items by name, in order of first appearance."""
    groups: dict[tuple[tuple[str, Any], ...], list[Any]] = {}
    for item in items:
        groups.setdefault(tuple(name_of(item).items()), []).append(item)
    return [(dict(name), group) for name, group in groups.items()]
