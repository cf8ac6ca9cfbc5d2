"""The Data Docs: Great Expectations' results as pages that open offline.

Great Expectations' own pages load style sheets, scripts and a logo from the network when opened, so these
are rendered here from the same results: an index, a page per suite, the quarantine. The results themselves
lie beside them as `results/<suite>.json`. No date is written: the same data gives the same pages.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from miras.dialogue.records import Dialogue, Region
from miras.files import write_json
from miras.quality.charts import Drawing, area_histogram, draw
from miras.quality.config import CheckConfig
from miras.quality.judge import Table, Verdict
from miras.quality.summary import kind_counts, size_shares, table_counts
from miras.quality.validation import RuleResult, Validation

FAILED_ROWS_SHOWN = 10
SAMPLES_SHOWN = 3
QUARANTINE_SHOWN = 50


def write_docs(folder: Path, verdict: Verdict, *, pictures: Path, check: CheckConfig, is_stopped: bool) -> None:
    """Writes all pages and the raw results.

    Args:
        folder: an existing, empty folder.
        verdict: what was found.
        pictures: folder of the picture files, for small drawings.
        check: the bounds, which the pages tell.
        is_stopped: whether the pipeline stops because of the verdict.
    """
    environment = Environment(
        loader=PackageLoader("miras.quality"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}".replace(",", "\u2009")
    environment.filters["percent"] = _percent
    environment.globals["suites"] = [validation.suite for validation in verdict.validations]
    environment.globals["quarantined"] = verdict.regions.quarantined + verdict.dialogues.quarantined
    pages = {
        "index": {**_index(verdict, check), "is_stopped": is_stopped},
        "quarantine": _quarantine(verdict, pictures),
        **{validation.suite.name: _suite_page(validation, verdict, pictures) for validation in verdict.validations},
    }
    for name, values in pages.items():
        template = environment.get_template(f"{name if name in ('index', 'quarantine') else 'suite'}.html.j2")
        (folder / f"{name}.html").write_text(template.render(page=name, **values), "utf-8")
    (folder / "results").mkdir()
    for validation in verdict.validations:
        write_json(folder / "results" / f"{validation.suite.name}.json", validation.raw())


def _percent(share: float) -> str:
    """A share as people read it: no false digits, and never 0 % or 100 % for what is not."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.1), 99.9):.1f}".removesuffix(".0") + "%"


def _index(verdict: Verdict, check: CheckConfig) -> dict[str, Any]:
    masks = verdict.masks
    targets = masks[masks["is_target"]]
    rules = [result for validation in verdict.validations for result in validation.results]
    return {
        "tables": {table.name: table_counts(table) for table in (verdict.dialogues, verdict.regions)},
        "rules": len(rules),
        "rules_met": sum(not result.failed_rows for result in rules),
        "validations": [_overview(validation) for validation in verdict.validations],
        "kinds": kind_counts(verdict.dialogues),
        "sizes": {"targets": size_shares(targets), "all masks": size_shares(masks)},
        "histogram": area_histogram(targets["area_canvas_px"].dropna(), smallest_px=check.min_area_canvas_px),
        "check": check,
        "without_mask": verdict.regions.rows - len(masks),
    }


def _overview(validation: Validation) -> dict[str, Any]:
    failed = {row for result in validation.results for row in result.failed_rows}
    return {
        "suite": validation.suite,
        "rows": validation.rows,
        "rules": len(validation.results),
        "rules_met": sum(not result.failed_rows for result in validation.results),
        "rows_failed": len(failed),
    }


def _suite_page(validation: Validation, verdict: Verdict, pictures: Path) -> dict[str, Any]:
    table = verdict.dialogues if validation.suite.name == "dialogues" else verdict.regions
    frame = verdict.masks if validation.suite.name == "masks" else table.frame
    return {
        "validation": _overview(validation),
        "suite": validation.suite,
        "results": [_told(result, frame) for result in validation.results],
        "samples": _samples(table, verdict, pictures, masked_only=validation.suite.name == "masks"),
    }


def _told(result: RuleResult, frame: pd.DataFrame) -> dict[str, Any]:
    """A rule's result in words, with some of the rows that fail."""
    shown = frame.iloc[list(result.failed_rows[:FAILED_ROWS_SHOWN])].to_dict("records")
    return {
        "rule": result.rule,
        "expectation": expectation_text(result.raw["expectation_config"]),
        "rows_checked": result.rows_checked,
        "failed": len(result.failed_rows),
        "share": len(result.failed_rows) / result.rows_checked if result.rows_checked else 0.0,
        "examples": [{"record_id": row["record_id"], "reason": result.rule.reason.format_map(row)} for row in shown],
    }


def expectation_text(config: Mapping[str, Any]) -> str:
    """An expectation as one would write it, with the rows it is limited to."""
    arguments = dict(config["kwargs"])
    condition = arguments.pop("row_condition", None)
    numbers = {name: int(value) for name, value in arguments.items() if _is_whole(value)}
    written = ", ".join(f"{name}={json.dumps(value)}" for name, value in (arguments | numbers).items())
    limited = (
        f" where {condition['column']['name']} {condition['operator']} {json.dumps(condition['parameter'])}"
        if condition
        else ""
    )
    return f"{config['type']}({written}){limited}"


def _is_whole(value: object) -> bool:
    """Whether Great Expectations made a whole bound a float."""
    return isinstance(value, float) and value.is_integer()


@dataclass(frozen=True)
class Card:
    """A record as a page shows it."""

    record_id: str
    reasons: list[str]
    """Empty when it passed."""
    turns: list[tuple[str, list[tuple[str, bool]]]]
    """Question, and the answer as pieces of text with "is a target's phrase"."""
    facts: dict[str, str]
    drawing: Drawing | None
    record: str
    """JSON."""


def _samples(table: Table, verdict: Verdict, pictures: Path, *, masked_only: bool) -> list[Card]:
    """Three records that passed, spread over the table."""
    rows = [
        row
        for row, record in enumerate(table.records)
        if row not in table.reasons and not (masked_only and isinstance(record, Region) and record.mask is None)
    ]
    step = max(1, len(rows) // SAMPLES_SHOWN)
    return [_card(table, row, verdict, pictures) for row in rows[::step][:SAMPLES_SHOWN]]


def _quarantine(verdict: Verdict, pictures: Path) -> dict[str, Any]:
    tables = []
    for table in (verdict.dialogues, verdict.regions):
        rules: Counter[str] = Counter(rule for reasons in table.reasons.values() for rule in reasons)
        shown = [_card(table, row, verdict, pictures) for row in list(table.reasons)[:QUARANTINE_SHOWN]]
        tables.append({"table": table, "rules": rules.most_common(), "cards": shown})
    told = {
        rule.name: {"says": rule.says, "page": validation.suite.name}
        for validation in verdict.validations
        for rule in validation.suite.rules
    }
    return {"tables": tables, "told": told}


def _card(table: Table, row: int, verdict: Verdict, pictures: Path) -> Card:
    record = table.records[row]
    reasons = list(table.reasons.get(row, {}).values())
    regions: dict[str, Region] = {}
    if isinstance(record, Dialogue):
        wanted = dict.fromkeys(key for turn in record.turns for key in turn.targets)
        regions = {key: verdict.region_by_id[key] for key in wanted if key in verdict.region_by_id}
    else:
        regions = {record.region_id: record}
    file_name = verdict.file_names.get(record.image_id)
    return Card(
        record_id=table.ids[row],
        reasons=reasons,
        turns=_turns(record, regions) if isinstance(record, Dialogue) else [],
        facts=_facts(record),
        drawing=draw(list(regions.values()), picture_file=pictures / file_name if file_name else None),
        record=json.dumps(record.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )


def _turns(dialogue: Dialogue, regions: Mapping[str, Region]) -> list[tuple[str, list[tuple[str, bool]]]]:
    told = []
    for turn in dialogue.turns:
        texts = turn.answer.split("{target}")
        phrases = [regions[key].phrase if key in regions else key for key in turn.targets]
        pieces: list[tuple[str, bool]] = [(texts[0], False)]
        for index, text in enumerate(texts[1:]):
            pieces += [(phrases[index] if index < len(phrases) else "{target}", True), (text, False)]
        told.append((turn.question, pieces))
    return told


def _facts(record: Dialogue | Region) -> dict[str, str]:
    if isinstance(record, Dialogue):
        return {"kind": record.kind, "picture": record.image_id, "focus": record.focus}
    attributes = ", ".join(f"{name} {value}" for name, value in record.attributes.items())
    return {
        "phrase": record.phrase,
        "category": record.category,
        "attributes": attributes,
        "part of": record.parent_id or "",
        "picture": record.image_id,
    }
