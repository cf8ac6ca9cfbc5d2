"""What a page says about each benchmark, from the score tables of an evaluation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from miras.evaluate.baselines import BASELINES
from miras.evaluate.breakdowns import Breakdown, breakdowns, precision_recall_chart, threshold_chart
from miras.evaluate.lineup import Lineup, Row, benchmark_text, has_histories
from miras.evaluate.scoring import Answered

Tables = Mapping[str, list[dict[str, Any]]]
NOT_FAMILIES = {"benchmark", "model", "history", "samples", "own", "mean"}
MESSAGE_LENGTH = 160
MESSAGES_SHOWN = 12


@dataclass(frozen=True)
class Section:
    """One benchmark."""

    anchor: str
    name: str
    title: str
    lead: str
    unit: str
    rows: list[Row]
    leading: Row
    with_history: bool
    has_absent: bool
    """Whether some question has no target."""
    thresholds: Markup | None
    trade_off: Markup | None
    breakdowns: list[Breakdown]
    outcomes: list[Row]
    differences: list[Row]
    difference_scale: float
    """Points at the end of the bars of differences."""
    wordings: list[Row]
    families: list[str]


def sections(tables: Tables, lineup: Lineup, kinds: Mapping[str, Sequence[str]]) -> list[Section]:
    """A section per benchmark in its own wording, in the order of the tables.

    Args:
        tables: of the scores document.
        lineup: of all their models.
        kinds: benchmark -> kinds of its dialogues.
    """
    other_wordings = {
        f"{row['benchmark']}-{family}" for row in tables.get("templates", ()) for family in families_of([row])
    }
    names = [name for name in dict.fromkeys(row["benchmark"] for row in tables["masks"]) if name not in other_wordings]
    return [_section(name, number, tables, lineup, kinds.get(name, ())) for number, name in enumerate(names, 1)]


def families_of(rows: Sequence[Row]) -> list[str]:
    """The other wordings that rows of `tables["templates"]` have columns for."""
    return list(dict.fromkeys(column for row in rows for column in row if column not in NOT_FAMILIES))


def _section(name: str, number: int, tables: Tables, lineup: Lineup, kinds: Sequence[str]) -> Section:
    def part(table: str) -> list[Row]:
        return lineup.sorted([row for row in tables.get(table, ()) if row["benchmark"] == name])

    rows, text = part("masks"), benchmark_text(name, kinds)
    leading = lineup.leading(rows)
    assert leading is not None, "a benchmark without rows is none"
    differences = part("differences")
    wordings = part("templates")
    return Section(
        anchor=f"benchmark-{number}",
        name=name,
        title=text.title,
        lead=text.lead,
        unit=text.unit,
        rows=rows,
        leading=leading,
        with_history=has_histories(rows),
        has_absent=any("no_target" in row for row in rows),
        thresholds=threshold_chart(dict(tables), rows, lineup, unit=text.unit),
        trade_off=precision_recall_chart(rows, lineup),
        breakdowns=breakdowns(dict(tables), rows, lineup),
        outcomes=part("outcomes"),
        differences=differences,
        difference_scale=_scale(differences),
        wordings=wordings,
        families=families_of(wordings),
    )


def _scale(differences: Sequence[Row]) -> float:
    """The longest reach of an interval from 0, at least 1 point."""
    ends = [abs(row[key]) for row in differences for key in ("ciou_low", "ciou_high") if key in row]
    return max([1.0, *ends])


@dataclass(frozen=True)
class Faults:
    """What went wrong with one model on one benchmark with one history, counted."""

    benchmark: str
    model: str
    history: str
    with_history: bool
    """Whether the benchmark's models had read something before."""
    asked: int
    """Answers to questions that ask for a mask."""
    counts: Mapping[str, int]
    """Kind, a key of `FAULT_NAMES`, -> how many; a kind that cannot occur there is absent."""


FAULT_NAMES = {
    "wrong_place": "right phrase, wrong place",
    "other_phrase": "named something else",
    "no_mask": "no mask for a target",
    "absent": "marked what is not there",
    "cut": "answer cut off",
    "failed": "no answer",
    "unscored": "truth unknown, not scored",
}


def faults(tables: Tables, lineup: Lineup) -> list[Faults]:
    """A row per model, benchmark and history; baselines do not answer and have none."""
    outcomes = {_key(row): row for row in tables.get("outcomes", ())}
    found = []
    for row in lineup.sorted([row for row in tables["masks"] if row["model"] not in BASELINES]):
        counts = {kind: row[kind] for kind in ("cut", "failed", "unscored") if kind in row}
        if _key(row) in outcomes:
            counts |= {kind: outcomes[_key(row)][kind] for kind in ("wrong_place", "other_phrase", "no_mask")}
        if "no_target" in row:
            counts["absent"] = round(row["no_target"] * (1 - row["no_target_accuracy"] / 100))
        asked = row["samples"] + row.get("unscored", 0)
        with_history = has_histories([each for each in tables["masks"] if each["benchmark"] == row["benchmark"]])
        found.append(Faults(row["benchmark"], row["model"], row["history"], with_history, asked, counts))
    order = list(dict.fromkeys(row["benchmark"] for row in tables["masks"]))
    return sorted(found, key=lambda each: order.index(each.benchmark))


def _key(row: Row) -> tuple[str, str, str]:
    return row["benchmark"], row["model"], row["history"]


@dataclass(frozen=True)
class Message:
    """Why answers failed."""

    model: str
    text: str
    count: int


def failure_messages(answered: Sequence[Answered]) -> tuple[list[Message], int]:
    """The most frequent reasons why there is no answer, and how many answers failed in all."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for item in answered:
        if item.prediction.error:
            counted[item.prediction.model][_shortened(item.prediction.error)] += 1
    found = [Message(model, text, count) for model, texts in counted.items() for text, count in texts.items()]
    found.sort(key=lambda message: (-message.count, message.model, message.text))
    return found[:MESSAGES_SHOWN], sum(message.count for message in found)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LENGTH else f"{text[: MESSAGE_LENGTH - 3]}..."


@dataclass(frozen=True)
class Tile:
    """A number to look at first."""

    name: str
    percent: float | None
    more: str


def tiles(section: Section, lineup: Lineup, names: Mapping[str, str]) -> list[Tile]:
    """Of the first benchmark: its leading model, and at most three numbers to read it by.

    Args:
        section: of that benchmark.
        lineup: of the page.
        names: model -> as a reader sees it.
    """
    leading = section.leading
    model = leading["model"]
    interval = ""
    if "ciou_low" in leading:
        interval = f"95 % interval {leading['ciou_low']:.1f} to {leading['ciou_high']:.1f}, "
    way = {"own": " through its own dialogue", "reference": " after reference answers"}.get(leading["history"], "")
    found = [
        Tile(
            f"{names[model]}: masks found{way}, cIoU",
            leading.get("ciou"),
            f"{interval}{leading['samples']} {section.unit}",
        )
    ]
    told = {
        "reference": ("With reference answers as history", "what the masks are worth when the words are right"),
        "none": ("Without any history", "what the last question alone gives away"),
    }
    same = {row["history"]: row for row in section.rows if row["model"] == model and row is not leading}
    found += [Tile(title, same[key].get("ciou"), more) for key, (title, more) in told.items() if key in same]
    others = [row for row in section.rows if row["model"] not in (model, *BASELINES)]
    best = lineup.leading(others)
    if best and len(found) < 3:
        found.append(Tile(f"{names[best['model']]}, cIoU", best.get("ciou"), f"the same {section.unit}"))
    trivial = max(
        (row for row in section.rows if row["model"] in BASELINES), key=lambda row: row.get("ciou", 0.0), default=None
    )
    if trivial is not None:
        found.append(Tile("Best trivial mask", trivial.get("ciou"), f"{names[trivial['model']]}, no model at all"))
    return found[:4]
