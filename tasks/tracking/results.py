"""What each stage's result puts into MLflow: a literal table of files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.paths import Paths
from tasks.params import flatten
from tasks.tracking.spool import Spool

MAX_METRIC_NAME = 250  # MLflow's


@dataclass(frozen=True)
class Results:
    """Files of one stage; those that a setting leaves out are skipped."""

    summaries: tuple[Path, ...] = ()
    """JSON: numbers become metrics, lists of records become tables; the file itself is kept too."""
    artifacts: tuple[Path, ...] = ()
    """Files and folders, shown as they are."""
    counted: tuple[Path, ...] = ()
    """JSONL files whose number of records becomes a metric."""


RESULTS: dict[str, Callable[[Paths], Results]] = {
    "ingest": lambda p: Results(
        artifacts=(p.rejected_table,), counted=(p.picture_table, p.region_table, p.rejected_table)
    ),
    "generate": lambda p: Results(  # all but the dialogues only where a language model wrote or polished them
        summaries=tuple(Path(p.generate) / name for name in ("written.json", "polished.json", "model.json")),
        artifacts=(Path(p.generate) / "unanswered.jsonl", Path(p.generate) / "silent.jsonl"),
        counted=(p.generated_dialogues,),
    ),
    "annotate": lambda p: Results(
        (Path(p.annotate) / "agreement.json",),
        (Path(p.annotate) / "corrections.jsonl",),
        (Path(p.annotate) / "rejected.jsonl",),
    ),
    "check": lambda p: Results((p.check_summary,), (p.quarantine, Path(p.data_docs))),
    "split": lambda p: Results((p.split_summary,)),
    "card": lambda p: Results(
        (Path(p.card) / "statistics.json",),
        (Path(p.card) / "README.md", Path(p.card) / "gallery.html", Path(p.card) / "figures"),
    ),
    "backbones": lambda p: Results((Path(p.backbones) / "summary.json",)),
    "features": lambda p: Results((Path(p.features) / "summary.json",)),
    "stage1": lambda p: Results((Path(p.stage1) / "summary.json",), (Path(p.stage1) / "metrics.jsonl",)),
    "stage2": lambda p: Results((Path(p.stage2) / "summary.json",), (Path(p.stage2) / "metrics.jsonl",)),
    "evaluate": lambda p: Results((p.scores,), (Path(p.evaluate) / "galleries", Path(p.evaluate) / "curves")),
    "report": lambda p: Results((), (p.report_page,)),
    "register": lambda p: Results((), (Path(p.receipt),)),
}


TRENDS: dict[str, Callable[[Paths], Path]] = {"check": lambda p: p.check_summary}
"""Stages whose figures are followed over versions of the data, and the JSON that holds these."""


def spool_trend(stage: str, paths: Paths, spool: Spool, *, hashes: Mapping[str, str]) -> None:
    """Spools a finished stage's figures under the version of the data that it read.

    Args:
        hashes: what the stage reads, path -> content identity; the stages' folders alone make the version.
    """
    if stage not in TRENDS:
        return
    folders = set(paths.model_dump().values())
    data = sorted((path, identity) for path, identity in hashes.items() if path in folders)
    version = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]
    content = json.loads(TRENDS[stage](paths).read_text(encoding="utf-8"))
    spool.trend(stage, version=version, values=numbers_of(content))


def spool_results(stage: str, paths: Paths, spool: Spool) -> None:
    """Spools a finished stage's metrics, tables and files."""
    results = RESULTS[stage](paths)
    for summary in filter(Path.exists, results.summaries):
        _spool_summary(summary, spool)
    for artifact in filter(Path.exists, results.artifacts):
        spool.artifact(artifact, ".")
    counts = {file.stem: _count_lines(file) for file in results.counted if file.exists()}
    if counts:
        spool.metrics(counts)


def _spool_summary(summary: Path, spool: Spool) -> None:
    content = json.loads(summary.read_text(encoding="utf-8"))
    numbers = numbers_of(content)
    if numbers:
        spool.metrics(numbers)
    for name, rows in tables_of(content).items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        cells = [[row.get(column) for column in columns] for row in rows]
        spool.table(f"{name.replace('.', '/')}.json", columns=columns, rows=cells)
    spool.artifact(summary, ".")


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def headline(paths: Paths) -> dict[str, float]:
    """The evaluation's headline numbers, the top level of scores.json; empty before an evaluation."""
    if not paths.scores.exists():
        return {}
    content = json.loads(paths.scores.read_text(encoding="utf-8"))
    return {name: float(value) for name, value in content.items() if _is_number(value)}


def numbers_of(content: Any) -> dict[str, float]:
    """Every number in nested mappings, by dotted name, in the characters that MLflow takes for a metric."""
    return {_metric_name(name): float(value) for name, value in flatten(content).items() if _is_number(value)}


def _metric_name(name: str) -> str:
    """Names come from data, too: categories, sources, groups of people."""
    return re.sub(r"\.{2,}|/{2,}|[^\w.\- :/]", "_", name)[:MAX_METRIC_NAME]


def tables_of(content: Any) -> dict[str, list[dict[str, Any]]]:
    """Every list of records in nested mappings, by dotted name."""
    return {
        name: value
        for name, value in flatten(content).items()
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
