"""What `miras doctor` reports: findings, each with a remedy, and how they are written out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    check: str
    level: Level
    found: str
    remedy: str = ""
    """What to do; empty when all is well."""


def as_text(findings: list[Finding]) -> str:
    """The findings in aligned columns, remedies below their finding, and how many of each kind there are."""
    width = max(len(finding.check) for finding in findings)
    margin = " " * (width + 11)
    lines = []
    for finding in findings:
        lines.append(f"{finding.check:<{width}}  {finding.level:<7}  {finding.found}".replace("\n", f"\n{margin}"))
        if finding.remedy:
            lines.append(f"{margin}-> {finding.remedy}")
    counts = {level: sum(finding.level == level for finding in findings) for level in ("ok", "warning", "error")}
    told = f"{counts['ok']} ok, {counted(counts['warning'], 'warning')}, {counted(counts['error'], 'error')}"
    return "\n".join([*lines, "", told])


def as_json(findings: list[Finding]) -> str:
    """The findings as a JSON list of {check, level, found, remedy}."""
    return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)


def counted(number: int, thing: str) -> str:
    """`1 file`, `2 files`, `3 processes`."""
    ending = "" if number == 1 else "es" if thing.endswith("s") else "s"
    return f"{number} {thing}{ending}"
