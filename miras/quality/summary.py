"""The summary of the checks: rows in, passed, quarantined, per rule, kind and size class."""

from __future__ import annotations

from typing import Any

import pandas as pd

from miras.dialogue.masks import SIZE_CLASSES
from miras.quality.duplicates import repetition_across_pictures
from miras.quality.judge import Table, Verdict


def summarise(verdict: Verdict) -> dict[str, Any]:
    """JSON values; for each table rows = passed + quarantined."""
    dialogues = verdict.dialogues.frame
    return {
        "tables": {
            "regions": table_counts(verdict.regions) | {"without_mask": verdict.regions.rows - len(verdict.masks)},
            "dialogues": table_counts(verdict.dialogues),
        },
        "kinds": kind_counts(verdict.dialogues),
        "size_classes": {
            "regions": size_shares(verdict.masks),
            "targets": size_shares(verdict.masks[verdict.masks["is_target"]]),
        },
        "rules": {
            validation.suite.name: {
                result.rule.name: {
                    "says": result.rule.says,
                    "rows_checked": result.rows_checked,
                    "failed": len(result.failed_rows),
                }
                for result in validation.results
            }
            for validation in verdict.validations
        },
        "prist_texts_across_pictures": repetition_across_pictures(
            list(dialogues.loc[dialogues["kind"] == "prist", "text_key"])
        ),
    }


def table_counts(table: Table) -> dict[str, int | float]:
    """Rows, passed, quarantined and the share quarantined of one table."""
    return {
        "rows": table.rows,
        "passed": table.rows - table.quarantined,
        "quarantined": table.quarantined,
        "quarantined_share": round(table.quarantined_share, 6),
    }


def kind_counts(dialogues: Table) -> dict[str, dict[str, int]]:
    """Rows, passed and quarantined per kind of dialogue, the most frequent kind first."""
    kinds = dialogues.frame["kind"]
    bad = kinds[kinds.index.isin(list(dialogues.reasons))].value_counts()
    counts = {}
    for kind, rows in kinds.value_counts().items():
        failed = int(bad.get(kind, 0))
        counts[str(kind)] = {"rows": int(rows), "passed": int(rows) - failed, "quarantined": failed}
    return counts


def size_shares(masks: pd.DataFrame) -> dict[str, dict[str, int | float]]:
    """Count and share of each size class among the masks that are not empty."""
    counts = masks["size_class"].value_counts()
    total = int(counts.sum())
    return {
        name: {
            "count": int(counts.get(name, 0)),
            "share": round(counts.get(name, 0) / total, 4) if total else 0.0,
        }
        for name in SIZE_CLASSES
    }
