"""How a page names, orders and colours the models, histories and benchmarks it finds.

Names that the pipeline gives have words of their own; any other name is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miras.evaluate.baselines import BASELINES
from miras.evaluate.records import BLIND, FINAL

Row = Mapping[str, Any]

MODEL_NAMES = {
    "stage1": "stage 1",
    "stage2": "stage 2",
    BLIND: "stage 2, no picture",
    "whole-image": "whole image",
    "random-object": "random other object",
    "largest-object": "largest object",
}
HISTORY_NAMES = {"own": "own history", "reference": "reference history", "none": "no history", "any": "–"}
HISTORIES = tuple(HISTORY_NAMES)
SINGLE_HISTORIES = {"none", "any"}  # of a benchmark whose questions come alone
COLOURS = ("#2563eb", "#d97706", "#0f766e", "#a855f7", "#be123c", "#0e7490", "#4d7c0f", "#7c2d12")
BASELINE_COLOURS = ("#334155", "#94a3b8", "#b59b5b")


@dataclass(frozen=True)
class BenchmarkText:
    """What a page says about a benchmark."""

    title: str
    lead: str
    unit: str
    """What one sample is, in the plural."""


BENCHMARK_TEXTS = {
    "dialogues": BenchmarkText(
        "Dialogues",
        "A person and the model talk about a picture; the last question asks for the mask of what the dialogue led to. "
        "The gap between reference history and its own is what the model's words cost; the gap to no history is what "
        "the dialogue carries.",
        "dialogues",
    ),
    "multi-turn": BenchmarkText(
        "Multi-turn",
        "Every turn asks for a mask, and later turns speak of earlier masks. With its own history a mask that went "
        "wrong is what the next question builds on.",
        "turns",
    ),
    "queries": BenchmarkText(
        "Single questions",
        "Questions that name their target (referring), name a class (semantic, every instance counts), or name "
        "something that is not there.",
        "questions",
    ),
    "hard": BenchmarkText(
        "The other one",
        "The question points at a mask and asks for the other of two objects of a class: the words alone do not tell "
        "which, only a memory of masks does.",
        "questions",
    ),
}
_UNITS = {"prist": "dialogues", "mrseg": "turns"}


def benchmark_text(name: str, kinds: Sequence[str]) -> BenchmarkText:
    """What a page says about a benchmark of dialogues of these kinds."""
    known = BENCHMARK_TEXTS.get(name)
    if known:
        return known
    return BenchmarkText(name, "", next((_UNITS[kind] for kind in kinds if kind in _UNITS), "questions"))


def model_name(model: str) -> str:
    """As a reader sees it."""
    return MODEL_NAMES.get(model, model)


def history_name(history: str) -> str:
    """As a reader sees it."""
    return HISTORY_NAMES.get(history, history)


def series_name(row: Row, *, with_history: bool) -> str:
    """Model and, where it matters, history."""
    if not with_history or row["history"] == "any":
        return model_name(row["model"])
    return f"{model_name(row['model'])}, {history_name(row['history'])}"


def has_histories(rows: Sequence[Row]) -> bool:
    """Whether the rows differ in what the models had read before."""
    return not {row["history"] for row in rows} <= SINGLE_HISTORIES


def slug(name: str) -> str:
    """The name as part of a file name: letters, digits, `_`, `-` and `.`."""
    return re.sub(r"[^\w.-]+", "_", name)


@dataclass(frozen=True)
class Lineup:
    """The models of an evaluation in the order of tables.

    The final one first, then by the cIoU of the first benchmark, then the one without picture, then baselines.
    """

    models: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Lineup:
        """The models of the rows of `tables["masks"]`."""
        found = list(dict.fromkeys(row["model"] for row in rows))
        first = [row for row in rows if row["benchmark"] == rows[0]["benchmark"]]
        scores: dict[str, float] = {}
        for row in sorted(first, key=lambda row: HISTORIES.index(row["history"])):
            scores.setdefault(row["model"], float(row.get("ciou", 0.0)))

        def place(model: str) -> tuple[bool, bool, float]:
            return model == BLIND, model != FINAL, -scores.get(model, -1.0)

        baselines = [model for model in BASELINES if model in found]
        return cls((*sorted((model for model in found if model not in BASELINES), key=place), *baselines))

    @property
    def asked(self) -> tuple[str, ...]:
        """Those that answered; the others are baselines."""
        return tuple(model for model in self.models if model not in BASELINES)

    def colour(self, model: str) -> str:
        """The same wherever the model is drawn."""
        if model in BASELINES:
            return BASELINE_COLOURS[list(BASELINES).index(model) % len(BASELINE_COLOURS)]
        return COLOURS[self.asked.index(model) % len(COLOURS)]

    def sorted(self, rows: Sequence[Row]) -> list[Row]:
        """By model, then by history: what the model does by itself comes first."""
        places = {model: place for place, model in enumerate(self.models)}
        return sorted(rows, key=lambda row: (places.get(row["model"], len(places)), HISTORIES.index(row["history"])))

    def leading(self, rows: Sequence[Row]) -> Row | None:
        """The row to look at first: of the final model, else of the model with the highest cIoU; None for no rows.

        A model stands there with its first history: its own answers, where dialogues were asked.
        """
        first: dict[str, Row] = {}
        for row in self.sorted(rows):
            first.setdefault(row["model"], row)
        if FINAL in first:
            return first[FINAL]
        told = [row for model, row in first.items() if model not in (*BASELINES, BLIND)]
        return max(told or list(first.values()), key=lambda row: float(row.get("ciou", 0.0)), default=None)

    def drawn(self, rows: Sequence[Row]) -> list[tuple[str, str]]:
        """(model, history) of the rows worth a line in a chart, the most important first.

        The leading model with every history, each other one with its first, and the best baseline.
        """
        leading = self.leading(rows)
        if leading is None:
            return []
        keys = [(row["model"], row["history"]) for row in self.sorted(rows)]
        chosen = [key for key in keys if key[0] == leading["model"]]
        for model in self.asked:
            chosen += [key for key in keys if key[0] == model and key not in chosen and _is_first(key, keys)]
        baselines = [row for row in rows if row["model"] in BASELINES]
        if baselines:
            best = max(baselines, key=lambda row: float(row.get("ciou", 0.0)))
            chosen.append((best["model"], best["history"]))
        return chosen


def _is_first(key: tuple[str, str], keys: Sequence[tuple[str, str]]) -> bool:
    """Whether it is the first history of its model."""
    return next(each for each in keys if each[0] == key[0]) == key
