"""The summary of the checks: records per table, rule, kind, size and focus class; the data set's figures."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from miras.dialogue.masks import SIZE_CLASSES
from miras.quality.data_set import NAME, DataSetVerdict
from miras.quality.focus_classes import CLASSES, OTHER, SUBCLASSES
from miras.quality.strata import counts_and_shares
from miras.quality.tally import TableTotal, Tally

_QUANTILES = {"least": 0.0, "p01": 0.01, "p05": 0.05, "median": 0.5}


def summarise(tally: Tally, data_set: DataSetVerdict) -> dict[str, Any]:
    """JSON values; for each table rows = passed + quarantined. Numbers become metrics over data versions."""
    suites = {total.suite.name: total.rules for total in tally.suites}
    return {
        "tables": {
            "regions": table_counts(tally.regions) | {"without_mask": tally.regions.rows - tally.num_masks},
            "dialogues": table_counts(tally.dialogues),
        },
        "data_set": {name: value for name, value in data_set.figures.items() if value is not None},
        "kinds": kind_counts(tally),
        "size_classes": {
            "regions": counts_and_shares(tally.mask_sizes, SIZE_CLASSES),
            "targets": counts_and_shares(tally.target_sizes, SIZE_CLASSES),
        },
        "focus_classes": focus_shares(tally),
        "progress": {"focus_named": spread_of(tally.focus_named), "turns_linked": spread_of(tally.turns_linked)},
        "rules": {
            name: {
                total.rule.name: {"says": total.rule.says, "rows_checked": total.rows_checked, "failed": total.failed}
                for total in rules
            }
            for name, rules in suites.items()
        }
        | {
            NAME: {
                result.rule.name: {
                    "says": result.rule.says,
                    "rows_checked": result.rows_checked,
                    "failed": len(result.failed_rows),
                }
                for result in data_set.validation.results
            }
        },
        "prist_texts_across_pictures": tally.repetition_across_pictures(),
    }


def table_counts(table: TableTotal) -> dict[str, int | float]:
    """Rows, passed, quarantined and the share quarantined of one table."""
    return {
        "rows": table.rows,
        "passed": table.rows - table.quarantined,
        "quarantined": table.quarantined,
        "quarantined_share": round(table.quarantined_share, 6),
    }


def kind_counts(tally: Tally) -> dict[str, dict[str, int]]:
    """Rows, passed and quarantined per kind of dialogue, the most frequent kind first."""
    return {
        kind: {"rows": rows, "passed": rows - tally.bad_kinds[kind], "quarantined": tally.bad_kinds[kind]}
        for kind, rows in tally.kinds.most_common()
    }


def focus_shares(tally: Tally) -> dict[str, Any]:
    """Count and share of each class of PRIST foci, and of each subclass."""
    subclasses = counts_and_shares(tally.focus_classes, SUBCLASSES)
    of_class = Counter({name: sum(tally.focus_classes[sub] for sub in subs) for name, subs in CLASSES.items()})
    of_class[OTHER] = tally.focus_classes[OTHER]
    return {"classes": counts_and_shares(of_class, (*CLASSES, OTHER)), "subclasses": subclasses}


def spread_of(values: np.ndarray) -> dict[str, float]:
    """Mean and some quantiles; empty where nothing was measured."""
    if not len(values):
        return {}
    quantiles = {name: round(float(np.quantile(values, share)), 4) for name, share in _QUANTILES.items()}
    return {"mean": round(float(values.mean()), 4), **quantiles}
