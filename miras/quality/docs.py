"""The Data Docs: Great Expectations' results as pages that open offline.

Great Expectations' own pages load style sheets, scripts and a logo from the network when opened, so these
are rendered here from the same results: an index, a page per suite, the quarantine. The results themselves
lie beside them as `results/<suite>.json`. No date is written: the same data gives the same pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from miras.dialogue.masks import SIZE_CLASSES
from miras.dialogue.records import Dialogue, Region
from miras.files import write_json
from miras.quality.charts import Drawing, area_histogram, draw
from miras.quality.config import CheckConfig
from miras.quality.data_set import FIGURE_TEXTS, NAME, DataSetVerdict
from miras.quality.focus_classes import CLASS_OF
from miras.quality.glossary import KIND_TEXTS, WORDS
from miras.quality.strata import counts_and_shares
from miras.quality.summary import focus_shares, kind_counts, spread_of, table_counts
from miras.quality.tally import RuleTotal, Shown, SuiteTotal, Tally, spread


def write_docs(
    folder: Path, tally: Tally, data_set: DataSetVerdict, *, pictures: Path, check: CheckConfig, is_stopped: bool
) -> None:
    """Writes all pages and the raw results.

    Args:
        folder: an existing, empty folder.
        tally: what was found in the records.
        data_set: what was found in the whole.
        pictures: folder of the picture files, for small drawings.
        check: the bounds, which the pages tell.
        is_stopped: whether the pipeline stops because of the verdict.
    """
    environment = _environment()
    whole = whole_total(data_set)
    environment.globals["suites"] = [*(total.suite for total in tally.suites), whole.suite]
    environment.globals["quarantined"] = tally.regions.quarantined + tally.dialogues.quarantined
    pages = {
        "index": {**_index(tally, data_set, whole, check), "is_stopped": is_stopped},
        "quarantine": _quarantine(tally, pictures),
        NAME: _data_set_page(whole, data_set),
        **{total.suite.name: _suite_page(total, tally, pictures) for total in tally.suites},
    }
    for name, values in pages.items():
        template = environment.get_template(f"{name if name in ('index', 'quarantine') else 'suite'}.html.j2")
        (folder / f"{name}.html").write_text(template.render(page=name, **values), "utf-8")
    (folder / "results").mkdir()
    for total in (*tally.suites, whole):
        write_json(folder / "results" / f"{total.suite.name}.json", total.raw())


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("miras.quality"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = _count
    environment.filters["percent"] = _percent
    return environment


def whole_total(data_set: DataSetVerdict) -> SuiteTotal:
    """The rules on the whole data set, as those of the records are told."""
    suite = data_set.validation.suite
    total = SuiteTotal(suite, [RuleTotal(rule) for rule in suite.rules])
    total.add(data_set.validation, data_set.frame)
    return total


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u2009")


def _percent(share: float) -> str:
    """A share as people read it: no false digits, and never 0 % or 100 % for what is not."""
    if share in (0, 1):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.1), 99.9):.1f}".removesuffix(".0") + "%"


def _index(tally: Tally, data_set: DataSetVerdict, whole: SuiteTotal, check: CheckConfig) -> dict[str, Any]:
    totals = [*tally.suites, whole]
    return {
        "tables": {table.name: table_counts(table) for table in tally.tables},
        "rules": sum(len(total.rules) for total in totals),
        "rules_met": sum(total.rules_met for total in totals),
        "validations": [_overview(total) for total in totals],
        "problems": {"stop": data_set.broken("stop"), "warn": data_set.broken("warn")},
        "kinds": kind_counts(tally),
        "kind_texts": KIND_TEXTS,
        "words": WORDS,
        "sizes": {
            "targets": counts_and_shares(tally.target_sizes, SIZE_CLASSES),
            "all masks": counts_and_shares(tally.mask_sizes, SIZE_CLASSES),
        },
        "histogram": area_histogram(pd.Series(tally.target_areas_px), smallest_px=check.min_area_canvas_px),
        "foci": _foci(tally),
        "progress": {
            "Words of the focus named before the request": spread_of(tally.focus_named),
            "Later turns that take up a word of earlier ones": spread_of(tally.turns_linked),
        },
        "check": check,
        "without_mask": tally.regions.rows - tally.num_masks,
    }


def _foci(tally: Tally) -> list[dict[str, Any]]:
    """The subclasses that occur, with their class, the most frequent first; none without PRIST dialogues."""
    found = focus_shares(tally)["subclasses"]
    rows = [{"name": name, "of": CLASS_OF[name], **figures} for name, figures in found.items() if figures["count"]]
    return sorted(rows, key=lambda row: -row["count"])


def _overview(total: SuiteTotal) -> dict[str, Any]:
    return {
        "suite": total.suite,
        "rows": total.rows,
        "rules": len(total.rules),
        "rules_met": total.rules_met,
        "rows_failed": total.rows_failed,
    }


def _suite_page(total: SuiteTotal, tally: Tally, pictures: Path) -> dict[str, Any]:
    return {
        "validation": _overview(total),
        "suite": total.suite,
        "results": [_told(rule) for rule in total.rules],
        "samples": [_card(shown, pictures) for shown in spread(tally.samples.get(total.suite.name, []))],
        "is_whole": False,
    }


def _data_set_page(whole: SuiteTotal, data_set: DataSetVerdict) -> dict[str, Any]:
    consequences = {
        rule: {"stop": "stops the pipeline", "warn": "warns", "allow": "nothing"}[consequence]
        for rule, consequence in data_set.consequences.items()
    }
    return {
        "validation": _overview(whole),
        "suite": whole.suite,
        "results": [_told(rule) | {"consequence": consequences[rule.rule.name]} for rule in whole.rules],
        "samples": [],
        "is_whole": True,
        "figures": {told: _figure(name, data_set.figures[name]) for name, told in FIGURE_TEXTS.items()},
    }


def _figure(name: str, value: float | int | None) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, int):
        return _count(value)
    return f"{value:.3f}" if name.startswith("agreement") else _percent(value)


def _told(total: RuleTotal) -> dict[str, Any]:
    """A rule's result in words, with some of the rows that fail."""
    return {
        "rule": total.rule,
        "expectation": expectation_text(total.raw["expectation_config"]),
        "rows_checked": total.rows_checked,
        "failed": total.failed,
        "share": total.failed / total.rows_checked if total.rows_checked else 0.0,
        "examples": [{"record_id": record_id, "reason": reason} for record_id, reason in total.examples],
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


def _quarantine(tally: Tally, pictures: Path) -> dict[str, Any]:
    tables = [
        {
            "table": table,
            "rules": table.broken_rules.most_common(),
            "cards": [_card(shown, pictures) for shown in table.shown],
        }
        for table in (tally.regions, tally.dialogues)
    ]
    told = {
        total.rule.name: {"says": total.rule.says, "page": suite.suite.name}
        for suite in tally.suites
        for total in suite.rules
    }
    return {"tables": tables, "told": told}


def _card(shown: Shown, pictures: Path) -> Card:
    record = shown.record
    regions = {region.region_id: region for region in shown.regions}
    return Card(
        record_id=shown.record_id,
        reasons=list(shown.reasons),
        turns=_turns(record, regions) if isinstance(record, Dialogue) else [],
        facts=_facts(record),
        drawing=draw(shown.regions, picture_file=pictures / shown.file_name if shown.file_name else None),
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
