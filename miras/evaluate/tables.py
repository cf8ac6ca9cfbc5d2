"""From predictions to tables: one row per benchmark, model and history. All scores are percent, 0 to 100."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from miras.dialogue.masks import SIZE_CLASSES, canvas_area_px, decode, size_class, union
from miras.dialogue.rendering import phrases_in
from miras.evaluate.baselines import BASELINES
from miras.evaluate.mask_metrics import MaskSample, bootstrap, compare, share_at_least, summarize
from miras.evaluate.records import Prediction
from miras.evaluate.text_metrics import same_phrases, score_texts

Row = dict[str, Any]
COUNTS = {"samples", "pictures", "missing_masks", "no_target"}
CURVE_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
GOOD_IOU = 0.5


@dataclass(frozen=True)
class Scored:
    """A prediction of a last turn with its pixel counts."""

    prediction: Prediction
    sample: MaskSample

    @property
    def group(self) -> Row:
        """The columns that name a table row."""
        return {
            "benchmark": self.prediction.benchmark,
            "model": self.prediction.model,
            "history": self.prediction.history,
        }


def score_masks(predictions: Iterable[Prediction]) -> list[Scored]:
    """Pixel counts of every last turn that asks for a mask; targets without a stored mask are left out."""
    return [
        Scored(prediction, _compare(prediction))
        for prediction in predictions
        if prediction.is_last and not _unscorable(prediction)
    ]


def _unscorable(prediction: Prediction) -> bool:
    return bool(prediction.targets) and prediction.target is None


def _compare(prediction: Prediction) -> MaskSample:
    """Union of the predicted groups against the union of the targets."""
    codes = [group.mask for group in prediction.groups]
    predicted = decode(union(codes)) if codes else None
    target = decode(prediction.target) if prediction.target else None
    shape = next((mask.shape for mask in (target, predicted) if mask is not None), (0, 0))
    empty = np.zeros(shape, dtype=bool)
    return compare(
        predicted=empty if predicted is None else predicted,
        target=empty if target is None else target,
        image_id=prediction.image_id,
        size_class=size_class(canvas_area_px(prediction.target)) if prediction.target else "",
    )


def mask_rows(scored: Sequence[Scored], predictions: Sequence[Prediction], *, rounds: int, seed: int) -> list[Row]:
    """One row per benchmark, model and history, with 95 % intervals of cIoU and gIoU."""
    rows = []
    for name, group in _grouped(scored, lambda item: item.group):
        samples = [item.sample for item in group]
        ciou, giou = bootstrap(samples, rounds=rounds, seed=seed)
        row = {**name, **percent(summarize(samples))}
        row |= percent({"ciou_low": ciou.low, "ciou_high": ciou.high})
        row |= percent({"giou_low": giou.low, "giou_high": giou.high})
        row["unscored"] = sum(_unscorable(p) and p.is_last and _is_in(p, name) for p in predictions)
        if name["model"] not in BASELINES:
            row |= _answer_columns([item.prediction for item in group])
        rows.append(row)
    return rows


def _answer_columns(predictions: Sequence[Prediction]) -> Row:
    """What the answers' words say: right phrases, and time per answer."""
    with_target = [prediction for prediction in predictions if prediction.targets]
    seconds = sum(prediction.seconds for prediction in predictions) / len(predictions)
    columns: Row = {"seconds_per_answer": round(seconds, 3)}
    if with_target:
        same = [same_phrases(answer=p.answer, targets=p.targets) for p in with_target]
        columns["phrase_match"] = round(100 * sum(same) / len(same), 2)
    return columns


def size_rows(scored: Sequence[Scored]) -> list[Row]:
    """Rows by the target's size class, smallest class first."""
    rows = []
    for name, group in _grouped(scored, lambda item: item.group):
        for size in SIZE_CLASSES:
            samples = [item.sample for item in group if item.sample.size_class == size]
            if samples:
                rows.append({**name, "size_class": size, **_short(samples)})
    return rows


def kind_rows(scored: Sequence[Scored]) -> list[Row]:
    """Rows by kind of question (semantic, referring) of the benchmark `queries`."""
    queries = [item for item in scored if item.prediction.benchmark == "queries"]
    return [
        {**name, **_short([item.sample for item in group])}
        for name, group in _grouped(queries, lambda item: {**item.group, "kind": item.prediction.kind})
    ]


def _short(samples: Sequence[MaskSample]) -> Row:
    full = percent(summarize(samples))
    return {key: full[key] for key in ("samples", "ciou", "giou", "precision_at_50") if key in full}


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
    for name, group in _grouped(
        [item for item in scored if item.prediction.targets and item.prediction.model not in BASELINES],
        lambda item: item.group,
    ):
        counted = Counter(outcome(item) for item in group)
        rows.append({**name, "samples": len(group), **{kind: counted[kind] for kind in OUTCOMES}})
    return rows


OUTCOMES = ("found", "wrong_place", "other_phrase", "no_mask")


def outcome(item: Scored) -> str:
    """One of `OUTCOMES`; found means an IoU of at least 0.5, whatever the phrase."""
    if item.sample.iou >= GOOD_IOU:
        return "found"
    if not item.sample.predicted_px:
        return "no_mask"
    same = same_phrases(answer=item.prediction.answer, targets=item.prediction.targets)
    return "wrong_place" if same else "other_phrase"


def text_rows(predictions: Sequence[Prediction]) -> list[Row]:
    """Text scores of the dialogues' turns before the last, for histories in which they are generated."""
    turns = [
        prediction
        for prediction in predictions
        if prediction.benchmark == "dialogues" and not prediction.is_last and prediction.model not in BASELINES
    ]
    rows = []
    for name, group in _grouped(turns, lambda p: {"model": p.model, "history": p.history}):
        scores = asdict(
            score_texts(
                answers=[prediction.answer for prediction in group],
                references=[prediction.reference for prediction in group],
            )
        )
        stray = sum(bool(phrases_in(prediction.answer)) for prediction in group)
        rounded = {key: round(v, 2) if isinstance(v, float) else v for key, v in scores.items()}
        rows.append({**name, **rounded, "stray_masks": stray})
    return rows


# Headline name -> (table, what names its row, column). Absent rows give no headline.
HEADLINES: dict[str, tuple[str, dict[str, str], str]] = {
    **{
        f"dialogues_{history}_{column}": (
            "masks",
            {"benchmark": "dialogues", "model": "stage2", "history": history},
            column,
        )
        for history in ("own", "reference", "none")
        for column in ("ciou", "giou", "f1", "precision_at_50", "phrase_match")
    },
    **{
        f"dialogues_own_{column}": ("text", {"model": "stage2", "history": "own"}, column)
        for column in ("bleu4", "rouge_l", "dist1", "dist2")
    },
    **{
        f"dialogues_{model.replace('-', '_')}_ciou": (
            "masks",
            {"benchmark": "dialogues", "model": model, "history": history},
            "ciou",
        )
        for model, history in [
            ("stage1", "own"),
            ("no-picture", "own"),
            *((name, "any") for name in BASELINES),
        ]
    },
    **{
        f"queries_{column}": ("masks", {"benchmark": "queries", "model": "stage2"}, column)
        for column in ("ciou", "giou", "no_target_accuracy")
    },
    "hard_precision_at_50": ("masks", {"benchmark": "hard", "model": "stage2"}, "precision_at_50"),
    "queries_stage1_ciou": ("masks", {"benchmark": "queries", "model": "stage1"}, "ciou"),
}


def headlines(tables: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """The numbers to look at first, by name; what was not measured is absent."""
    found: dict[str, float] = {}
    for key, (table, name, column) in HEADLINES.items():
        row = find_row(tables[table], **name)
        if row is not None and column in row:
            found[key] = row[column]
    return found


def find_row(rows: Sequence[Row], **name: str) -> Row | None:
    """The first row whose columns have these values."""
    return next((row for row in rows if all(row.get(key) == value for key, value in name.items())), None)


def scores_document(
    scored: Sequence[Scored], predictions: Sequence[Prediction], *, rounds: int, seed: int
) -> dict[str, Any]:
    """What scores.json holds: headlines first, then `tables` (lists of rows, which DVC does not list)."""
    tables: dict[str, list[Row]] = {
        "masks": mask_rows(scored, predictions, rounds=rounds, seed=seed),
        "masks_by_size": size_rows(scored),
        "masks_by_kind": kind_rows(scored),
        "precision_at_threshold": threshold_rows(scored),
        "outcomes": outcome_rows(scored),
        "text": text_rows(predictions),
    }
    return {**headlines(tables), "tables": tables}


def percent(shares: Mapping[str, float | int]) -> Row:
    """Shares as percent with 2 decimals; counts as they are."""
    return {key: int(value) if key in COUNTS else round(100 * float(value), 2) for key, value in shares.items()}


def _is_in(prediction: Prediction, name: Row) -> bool:
    return all(getattr(prediction, column) == value for column, value in name.items())


def _grouped(items: Sequence[Any], name_of: Callable[[Any], Row]) -> list[tuple[Row, list[Any]]]:
    """Items by name, in order of first appearance."""
    groups: dict[tuple[tuple[str, Any], ...], list[Any]] = {}
    for item in items:
        groups.setdefault(tuple(name_of(item).items()), []).append(item)
    return [(dict(name), group) for name, group in groups.items()]
