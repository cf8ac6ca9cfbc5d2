"""The stage `check`: refuses bad dialogues and regions by name and reason, and reports on the rest.

Run as `python -m tasks.run check`. Writes what passed, the quarantine, a summary and the Data Docs. With too
many bad records it publishes nothing and leaves quarantine and Data Docs in the stage's work folder.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import finished_folder, read_records, write_json, write_records
from miras.paths import Paths
from miras.quality.config import CheckConfig
from miras.quality.docs import write_docs
from miras.quality.judge import Table, Verdict, judge
from miras.quality.summary import summarise

log = logging.getLogger(__name__)


class Quarantined(BaseModel):
    """A record that did not pass, as the quarantine file holds it."""

    table: str
    """regions or dialogues."""
    record_id: str
    reasons: list[str]
    """What is wrong, for people; every rule that failed."""
    record: dict[str, Any]
    """The record as it was."""


def run(*, paths: Paths, work: Path, check: CheckConfig) -> None:
    """Checks the generated dialogues and the ingested regions.

    Raises:
        DataError: a table cannot be read, nothing passed, or too large a share is bad; nothing is published.
    """
    pictures = {picture.image_id: picture for picture in read_records(paths.picture_table, Picture)}
    regions = list(read_records(paths.region_table, Region))
    dialogues = list(read_records(paths.generated_dialogues, Dialogue))
    verdict = judge(dialogues, regions, pictures=pictures, check=check)
    for table in (verdict.regions, verdict.dialogues):
        log.info("checked table=%s rows=%d quarantined=%d", table.name, table.rows, table.quarantined)
    _refuse_too_many(verdict, pictures=paths.pictures, work=work, check=check)
    with finished_folder(Path(paths.data_docs)) as docs:
        write_docs(docs, verdict, pictures=paths.pictures, check=check, is_stopped=False)
    with finished_folder(Path(paths.check)) as folder:
        _write_tables(folder, paths, verdict)
        write_json(folder / paths.check_summary.name, summarise(verdict))


def _write_tables(folder: Path, paths: Paths, verdict: Verdict) -> None:
    write_records(folder / paths.checked_dialogues.name, _passed(verdict.dialogues))
    write_records(folder / paths.checked_regions.name, _passed(verdict.regions))
    write_records(folder / paths.quarantine.name, quarantined(verdict))


def _passed(table: Table) -> Iterator[BaseModel]:
    return (record for row, record in enumerate(table.records) if row not in table.reasons)


def quarantined(verdict: Verdict) -> Iterator[Quarantined]:
    """Every record that failed, regions first, in the order of its table."""
    for table in (verdict.regions, verdict.dialogues):
        for row, reasons in table.reasons.items():
            yield Quarantined(
                table=table.name,
                record_id=table.ids[row],
                reasons=list(reasons.values()),
                record=table.records[row].model_dump(mode="json"),
            )


def _refuse_too_many(verdict: Verdict, *, pictures: Path, work: Path, check: CheckConfig) -> None:
    """Raises when a table is too bad to go on with, after leaving what is needed to see why in `work`."""
    if not verdict.dialogues.rows:
        raise DataError(
            "There are no dialogues to check. See the stage generate: its source may have no regions that a "
            "dialogue can ask for."
        )
    tables = (verdict.dialogues, verdict.regions)
    too_bad = [table for table in tables if table.quarantined_share > check.max_quarantined_share]
    if not too_bad and verdict.dialogues.quarantined < verdict.dialogues.rows:
        return
    kept = work / "quarantine.jsonl"
    write_records(kept, quarantined(verdict))
    with finished_folder(work / "data_docs") as docs:
        write_docs(docs, verdict, pictures=pictures, check=check, is_stopped=True)
    problems = "\n".join(_top_reasons(table, limit=check.max_quarantined_share) for table in too_bad or tables[:1])
    raise DataError(
        f"{problems}\n  Nothing was published. Every bad record with its reasons is in {kept}, as a page in "
        f"{work / 'data_docs' / 'index.html'}. Mend the source or the generation; if these records may be "
        "lost, raise params.yaml: check.max_quarantined_share."
    )


def _top_reasons(table: Table, *, limit: float, shown: int = 3) -> str:
    """The rules that refused most records of a table, each with an example."""
    counts: Counter[str] = Counter(rule for reasons in table.reasons.values() for rule in reasons)
    lines = [
        f"{table.name}: {table.quarantined} of {table.rows} are bad ({table.quarantined_share:.1%}); "
        f"at most {limit:.1%} may be. Most often:"
    ]
    for rule, count in counts.most_common(shown):
        row, reasons = next(item for item in table.reasons.items() if rule in item[1])
        lines.append(f"  {rule}: {count}, such as {json.dumps(table.ids[row])}: {reasons[rule]}")
    return "\n".join(lines)
