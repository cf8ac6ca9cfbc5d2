"""The verdicts on all chunks of a data set, added up: what summary and Data Docs tell, in memory that stays small."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd

from miras.dialogue.records import Dialogue, Region
from miras.quality.duplicates import text_key_hash
from miras.quality.judge import Table, Verdict
from miras.quality.suites import Rule, Suite
from miras.quality.validation import RuleResult, Validation

FAILED_ROWS_SHOWN = 10
SAMPLES_SHOWN = 3
QUARANTINE_SHOWN = 50
RAW_ROWS_KEPT = 1000  # of each list in Great Expectations' own results; the quarantine has all


@dataclass
class RuleTotal:
    """What one expectation found in all chunks."""

    rule: Rule
    rows_checked: int = 0
    failed: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    """Record id and what is wrong, of the first rows that failed."""
    raw: dict[str, Any] = field(default_factory=dict)
    """Great Expectations' own result."""

    def add(self, result: RuleResult, frame: pd.DataFrame) -> None:
        """Adds the result on one chunk."""
        self.rows_checked += result.rows_checked
        self.failed += len(result.failed_rows)
        wanted = result.failed_rows[: FAILED_ROWS_SHOWN - len(self.examples)]
        for row in frame.iloc[list(wanted)].to_dict("records"):
            self.examples.append((row["record_id"], result.rule.reason.format_map(row)))
        self.raw = merged_raw(self.raw, result.raw) if self.raw else dict(result.raw)


@dataclass
class SuiteTotal:
    """What a suite found in all chunks."""

    suite: Suite
    rules: list[RuleTotal]
    rows: int = 0
    rows_failed: int = 0
    """Rows that fail at least one rule."""

    def add(self, validation: Validation, frame: pd.DataFrame) -> None:
        """Adds the results on one chunk."""
        self.rows += validation.rows
        self.rows_failed += len({row for result in validation.results for row in result.failed_rows})
        for total, result in zip(self.rules, validation.results, strict=True):
            total.add(result, frame)

    @property
    def rules_met(self) -> int:
        """Rules that no row fails."""
        return sum(not total.failed for total in self.rules)

    def raw(self) -> dict[str, Any]:
        """Great Expectations' results in the order of the suite, as JSON values."""
        return {
            "suite_name": self.suite.name,
            "success": not self.rows_failed,
            "great_expectations_version": gx.__version__,
            "rows": self.rows,
            "results": [total.raw for total in self.rules],
        }


@dataclass(frozen=True)
class Shown:
    """A record that the Data Docs show."""

    record_id: str
    record: Region | Dialogue
    regions: tuple[Region, ...]
    """Itself, or what the dialogue asks for."""
    reasons: tuple[str, ...]
    file_name: str | None
    """Of its picture."""


@dataclass
class TableTotal:
    """What was found in all records of one kind."""

    name: str
    rows: int = 0
    quarantined: int = 0
    broken_rules: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Rule -> id of the first record that it refused, and what is wrong with that."""
    shown: list[Shown] = field(default_factory=list)
    """The first in quarantine."""

    @property
    def quarantined_share(self) -> float:
        """Of the records given; 0 of an empty table."""
        return self.quarantined / self.rows if self.rows else 0.0


class Tally:
    """Adds verdicts up."""

    def __init__(self) -> None:
        self.regions, self.dialogues = TableTotal("regions"), TableTotal("dialogues")
        self.suites: list[SuiteTotal] = []
        self.num_masks = 0
        self.kinds: Counter[str] = Counter()
        self.bad_kinds: Counter[str] = Counter()
        self.mask_sizes: Counter[str] = Counter()
        self.target_sizes: Counter[str] = Counter()
        self.focus_classes: Counter[str] = Counter()
        self.samples: dict[str, list[Shown]] = {}
        """Suite -> some records that passed, spread over the data set."""
        self._target_areas = array("f")
        self._texts = array("Q")
        self._named, self._linked = array("f"), array("f")

    @property
    def tables(self) -> tuple[TableTotal, TableTotal]:
        """Dialogues, then regions."""
        return self.dialogues, self.regions

    @property
    def target_areas_px(self) -> np.ndarray:
        """Area of every target on the 1024 canvas (float32, n)."""
        return np.array(self._target_areas, np.float32)

    @property
    def focus_named(self) -> np.ndarray:
        """`Progress.focus_named` of every PRIST dialogue that has it (float32, n)."""
        return np.array(self._named, np.float32)

    @property
    def turns_linked(self) -> np.ndarray:
        """`Progress.turns_linked` of every PRIST dialogue that has it (float32, n)."""
        return np.array(self._linked, np.float32)

    def repetition_across_pictures(self) -> dict[str, int]:
        """How often whole PRIST texts recur: dialogues, distinct texts, size of the largest group of equal ones."""
        _, counts = np.unique(np.array(self._texts, np.uint64), return_counts=True)
        return {
            "dialogues": len(self._texts),
            "distinct_texts": len(counts),
            "most_often": int(counts.max(initial=0)),
        }

    def add(self, verdict: Verdict) -> None:
        """Adds the verdict on a chunk; chunks are added in order."""
        frames = (verdict.regions.frame, verdict.masks, verdict.dialogues.frame)
        if not self.suites:
            self.suites = [
                SuiteTotal(item.suite, [RuleTotal(rule) for rule in item.suite.rules]) for item in verdict.validations
            ]
        for total, validation, frame in zip(self.suites, verdict.validations, frames, strict=True):
            total.add(validation, frame)
        _add_table(self.regions, verdict.regions, verdict)
        _add_table(self.dialogues, verdict.dialogues, verdict)
        self._add_masks(verdict)
        self._add_dialogues(verdict.dialogues)
        for suite, shown in _samples(verdict).items():
            self.samples.setdefault(suite, []).extend(shown)

    def _add_masks(self, verdict: Verdict) -> None:
        targets = verdict.masks[verdict.masks["is_target"]]
        self.num_masks += len(verdict.masks)
        self.mask_sizes.update(verdict.masks["size_class"].dropna())
        self.target_sizes.update(targets["size_class"].dropna())
        self._target_areas.extend(targets["area_canvas_px"].dropna())

    def _add_dialogues(self, table: Table) -> None:
        frame = table.frame
        prist = frame[frame["kind"] == "prist"]
        self.kinds.update(frame["kind"])
        self.bad_kinds.update(frame["kind"].iloc[list(table.reasons)])
        self.focus_classes.update(prist["focus_class"].dropna())
        self._named.extend(prist["focus_named"].dropna())
        self._linked.extend(prist["turns_linked"].dropna())
        self._texts.extend(text_key_hash(text) for text in prist["text_key"])


def merged_raw(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Great Expectations' results of one expectation on two parts of a table, as on both together.

    Counts are added and percentages follow from them; lists of failed rows are cut off at `RAW_ROWS_KEPT`.
    """
    counts = dict(one["result"])
    for name, value in other["result"].items():
        if isinstance(value, list):
            counts[name] = [*counts.get(name, ()), *value][:RAW_ROWS_KEPT]
        elif name.endswith("_count"):
            counts[name] = counts.get(name, 0) + value
    rows, missing = counts["element_count"], counts.get("missing_count", 0)
    for name, part, whole in (
        ("missing_percent", missing, rows),
        ("unexpected_percent", counts["unexpected_count"], rows - missing),
        ("unexpected_percent_total", counts["unexpected_count"], rows),
        ("unexpected_percent_nonmissing", counts["unexpected_count"], rows - missing),
    ):
        if name in counts or name in other["result"]:
            counts[name] = 100 * part / whole if whole else None
    return {**one, "success": one["success"] and other["success"], "result": counts}


def _add_table(total: TableTotal, table: Table, verdict: Verdict) -> None:
    total.rows += table.rows
    total.quarantined += table.quarantined
    for row, reasons in table.reasons.items():
        total.broken_rules.update(reasons.keys())
        for rule, reason in reasons.items():
            total.examples.setdefault(rule, (table.ids[row], reason))
    for row in list(table.reasons)[: QUARANTINE_SHOWN - len(total.shown)]:
        total.shown.append(_shown(table, row, verdict))


def _samples(verdict: Verdict) -> dict[str, list[Shown]]:
    """Suite -> up to three records of the chunk that passed, spread over it."""
    with_mask = [
        row for row, record in enumerate(verdict.regions.records) if isinstance(record, Region) and record.mask
    ]
    found = {}
    for suite, table, rows in (
        ("regions", verdict.regions, range(verdict.regions.rows)),
        ("masks", verdict.regions, with_mask),
        ("dialogues", verdict.dialogues, range(verdict.dialogues.rows)),
    ):
        passed = [row for row in rows if row not in table.reasons]
        found[suite] = [_shown(table, row, verdict) for row in spread(passed)]
    return found


def spread(items: Sequence[Any]) -> list[Any]:
    """At most three of them, at equal distances."""
    return list(items[:: max(1, len(items) // SAMPLES_SHOWN)][:SAMPLES_SHOWN])


def _shown(table: Table, row: int, verdict: Verdict) -> Shown:
    record = table.records[row]
    regions = (record,) if isinstance(record, Region) else _asked_for(record, verdict)
    return Shown(
        record_id=table.ids[row],
        record=record,
        regions=regions,
        reasons=tuple(table.reasons.get(row, {}).values()),
        file_name=verdict.file_names.get(record.image_id),
    )


def _asked_for(dialogue: Dialogue, verdict: Verdict) -> tuple[Region, ...]:
    wanted = dict.fromkeys(key for turn in dialogue.turns for key in turn.targets)
    return tuple(verdict.region_by_id[key] for key in wanted if key in verdict.region_by_id)
