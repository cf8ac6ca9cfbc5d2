"""The stage `check`: refuses bad dialogues and regions by name and reason, and reports on the rest.

Run as `python -m tasks.run check`. Writes what passed, the quarantine, a summary and the Data Docs. With too many bad
records, or a data set that is out of its bounds as a whole, it publishes nothing and leaves quarantine and Data Docs
in the stage's work folder. The tables are judged in chunks of whole pictures, so memory stays small.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import finished_file, finished_folder, write_json
from miras.paths import Paths
from miras.quality.chunks import LineIndex, chunks, dialogue_keys, region_keys
from miras.quality.config import CheckConfig
from miras.quality.data_set import DataSetVerdict, judge_data_set, read_agreement
from miras.quality.docs import write_docs
from miras.quality.judge import Table, judge_chunk
from miras.quality.summary import summarise
from miras.quality.tally import TableTotal, Tally
from miras.quality.word_list import read_word_list

log = logging.getLogger(__name__)

AGREEMENT = "agreement.json"  # of the stage annotate


class Quarantined(BaseModel):
    """A record that did not pass, as the quarantine file holds it."""

    table: str
    """regions or dialogues."""
    record_id: str
    reasons: list[str]
    """What is wrong, for people; every rule that failed."""
    record: dict[str, Any]
    """The record as it was."""


@dataclass(frozen=True)
class _Tables:
    """The input, indexed."""

    regions: LineIndex[Region]
    dialogues: LineIndex[Dialogue]
    pictures: LineIndex[Picture]
    without_licence: int


@dataclass(frozen=True)
class _Judged:
    """What was found, and in which rows."""

    tally: Tally
    data_set: DataSetVerdict
    bad_regions: np.ndarray
    """Per row of the table (bool)."""
    bad_dialogues: np.ndarray


def run(*, paths: Paths, work: Path, check: CheckConfig) -> None:
    """Checks the generated dialogues and the ingested regions.

    Raises:
        DataError: a table cannot be read, nothing passed, too large a share is bad, or the data set as a whole is out
            of its bounds; nothing is published.
        ConfigError: the word list cannot be read.
    """
    quarantine = work / paths.quarantine.name
    with ExitStack() as stack:
        tables = _indexed(paths, stack)
        if not len(tables.dialogues):
            raise DataError(
                "There are no dialogues to check. See the stage generate: its source may have no regions that a "
                "dialogue can ask for."
            )
        judged = _judged(tables, paths, quarantine, check)
        for table in judged.tally.tables:
            log.info("checked table=%s rows=%d quarantined=%d", table.name, table.rows, table.quarantined)
        for warning in judged.data_set.broken("warn"):
            log.warning("data_set %s", warning)
        _refuse_bad(judged, pictures=paths.pictures, work=work, quarantine=quarantine, check=check)
        with finished_folder(Path(paths.data_docs)) as docs:
            write_docs(docs, judged.tally, judged.data_set, pictures=paths.pictures, check=check, is_stopped=False)
        with finished_folder(Path(paths.check)) as folder:
            _copy_passed(tables.dialogues, judged.bad_dialogues, folder / paths.checked_dialogues.name)
            _copy_passed(tables.regions, judged.bad_regions, folder / paths.checked_regions.name)
            shutil.copyfile(quarantine, folder / paths.quarantine.name)
            write_json(folder / paths.check_summary.name, summarise(judged.tally, judged.data_set))


def _indexed(paths: Paths, stack: ExitStack) -> _Tables:
    unlicensed = 0

    def picture_keys(picture: Picture) -> tuple[str, str]:
        nonlocal unlicensed
        unlicensed += not picture.licence.strip()
        return picture.image_id, picture.image_id

    pictures = stack.enter_context(closing(LineIndex(paths.picture_table, Picture, picture_keys)))
    regions = stack.enter_context(closing(LineIndex(paths.annotated_regions, Region, region_keys)))
    dialogues = stack.enter_context(closing(LineIndex(paths.annotated_dialogues, Dialogue, dialogue_keys)))
    return _Tables(regions, dialogues, pictures, unlicensed)


def _judged(tables: _Tables, paths: Paths, quarantine: Path, check: CheckConfig) -> _Judged:
    """Judges chunk by chunk; what fails is written to the quarantine at once."""
    words = read_word_list(check.word_list, emails=check.refuse_emails, phones=check.refuse_phones)
    agreement = read_agreement(Path(paths.annotate) / AGREEMENT)
    tally = Tally()
    bad_regions, bad_dialogues = np.zeros(len(tables.regions), bool), np.zeros(len(tables.dialogues), bool)
    with finished_file(quarantine) as aside, aside.open("w", encoding="utf-8") as lines:
        for chunk in chunks(tables.regions, tables.dialogues, tables.pictures):
            verdict = judge_chunk(chunk, check=check, words=words)
            bad_regions[chunk.region_rows[list(verdict.regions.reasons)]] = True
            bad_dialogues[chunk.dialogue_rows[list(verdict.dialogues.reasons)]] = True
            for table in (verdict.regions, verdict.dialogues):
                lines.writelines(record.model_dump_json() + "\n" for record in quarantined(table))
            tally.add(verdict)
    data_set = judge_data_set(
        tally, agreement, pictures=len(tables.pictures), without_licence=tables.without_licence, check=check
    )
    return _Judged(tally, data_set, bad_regions, bad_dialogues)


def quarantined(table: Table) -> Iterator[Quarantined]:
    """Every record that failed, in the order of its table."""
    for row, reasons in table.reasons.items():
        yield Quarantined(
            table=table.name,
            record_id=table.ids[row],
            reasons=list(reasons.values()),
            record=table.records[row].model_dump(mode="json"),
        )


def _copy_passed(index: LineIndex[Any], is_bad: np.ndarray, target: Path) -> None:
    """The lines that passed, byte by byte, in the order of the table."""
    with target.open("wb") as lines:
        for row in np.flatnonzero(~is_bad).tolist():
            line = index.line(row)
            lines.write(line if line.endswith(b"\n") else line + b"\n")


def _refuse_bad(judged: _Judged, *, pictures: Path, work: Path, quarantine: Path, check: CheckConfig) -> None:
    """Raises when the data is too bad to go on with, after leaving what is needed to see why in `work`."""
    tally = judged.tally
    too_bad = [table for table in tally.tables if table.quarantined_share > check.max_quarantined_share]
    broken = judged.data_set.broken("stop")
    nothing_passed = tally.dialogues.quarantined == tally.dialogues.rows
    if not too_bad and not broken and not nothing_passed:
        return
    with finished_folder(work / "data_docs") as docs:
        write_docs(docs, tally, judged.data_set, pictures=pictures, check=check, is_stopped=True)
    said = [_top_reasons(table, limit=check.max_quarantined_share) for table in too_bad]
    if nothing_passed and tally.dialogues not in too_bad:
        said.append(_top_reasons(tally.dialogues, limit=check.max_quarantined_share))
    said += [f"data set: {problem}." for problem in broken]
    problems = "\n".join(said)
    advice = (
        "Mend the source or the generation; if these records may be lost, raise params.yaml: "
        "check.max_quarantined_share."
        if too_bad or nothing_passed
        else "To be told and go on instead, set params.yaml: check.on_bad_share (or check.without_licence) to warn."
    )
    raise DataError(
        f"{problems}\n  Nothing was published. Every bad record with its reasons is in {quarantine}, as a page in "
        f"{work / 'data_docs' / 'index.html'}. {advice}"
    )


def _top_reasons(table: TableTotal, *, limit: float, shown: int = 3) -> str:
    """The rules that refused most records of a table, each with an example."""
    lines = [
        f"{table.name}: {table.quarantined} of {table.rows} are bad ({table.quarantined_share:.1%}); "
        f"at most {limit:.1%} may be. Most often:"
    ]
    for rule, count in table.broken_rules.most_common(shown):
        record_id, reason = table.examples[rule]
        lines.append(f"  {rule}: {count}, such as {json.dumps(record_id)}: {reason}")
    return "\n".join(lines)
