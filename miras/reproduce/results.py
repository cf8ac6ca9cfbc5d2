"""Our figures beside the paper's: read from the scores of the runs that are done, with a reason where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from miras.dialogue.records import Frozen
from miras.errors import ConfigError, DataError
from miras.reproduce.cells import Cell, SeedValue, summary_cell, with_gain
from miras.reproduce.records import Column, PaperTable, Request, Row, Run, RunRecord
from miras.reproduce.requests import texts_in
from miras.reproduce.scores import Scores, find, read_scores

FEW_SEEDS = 3


class ResultRow(Frozen):
    """A row of the finished table."""

    name: str
    section: str
    paper: tuple[float | None, ...]
    paper_gain: tuple[float | None, ...]
    """The paper's difference to the row compared with."""
    public: tuple[Cell, ...]
    """Ours on the paper's benchmarks, by column."""
    own: tuple[Cell, ...]
    """Ours on our own data set's benchmarks, by column."""
    failed: tuple[str, ...] = ()
    """What stopped runs of this row."""


class Result(Frozen):
    """The finished table."""

    name: str
    paper: str
    number: str
    title: str
    preset: str
    data: str
    """What was trained and tested on."""
    seeds: int
    columns: tuple[Column, ...]
    own_columns: tuple[Column, ...]
    compare_with: str | None
    rows: tuple[ResultRow, ...]
    runs: tuple[RunRecord, ...]
    open_runs: tuple[str, ...]
    """Runs that have not ended yet."""
    notes: tuple[str, ...]

    @property
    def failures(self) -> list[RunRecord]:
        """The runs that failed."""
        return [record for record in self.runs if not record.is_done]


def collect(request: Request, *, root: Path = Path(), given: Mapping[str, Path] | None = None) -> Result:
    """The table from what lies in the runs' folders below `root`.

    Args:
        request: what was asked for.
        root: the workspace.
        given: row name -> scores document of somebody else's model (`miras score` writes one).

    Raises:
        DataError: `given` names no row, or one that is trained here; a scores document is broken.
    """
    table, records = request.table, _records(request, root)
    handed_in = read_given(table, given or {})
    rows = []
    for row in table.rows:
        cells = {
            kind: tuple(
                _cell(request, row, column, records, handed_in, root, is_public=kind == "public") for column in columns
            )
            for kind, columns in (("public", table.columns), ("own", table.own))
        }
        failed = [
            f"{run.name}: {record.message}"
            for run, record in records
            if run.arm == row.arm and record is not None and not record.is_done
        ]
        rows.append((row, cells, tuple(failed)))
    reference = next(((row, cells) for row, cells, _ in rows if row_title(row) == table.compare_with), None)
    return Result(
        name=request.name,
        paper=table.paper,
        number=table.number,
        title=table.title,
        preset=request.preset,
        data=describe_data(request.runs),
        seeds=request.seeds,
        columns=tuple(table.columns),
        own_columns=tuple(table.own),
        compare_with=table.compare_with,
        rows=tuple(_result_row(row, cells, failed, reference) for row, cells, failed in rows),
        runs=tuple(record for _, record in records if record is not None),
        open_runs=tuple(run.name for run, record in records if record is None),
        notes=(*table.notes, *_notes(request)),
    )


def _notes(request: Request) -> list[str]:
    """What has to be said of every table made this way."""
    notes = [
        "Seeds differ in training alone (order of the samples, dropout, new weights): data and backbones are the same.",
    ]
    if request.seeds < FEW_SEEDS:
        notes.append(
            f"{request.seeds} seed(s) of each row are too few to tell rows apart: one training may differ from the "
            f"next by more than the rows do. `--seeds {FEW_SEEDS}` or more gives intervals over trainings."
        )
    return notes


def row_title(row: Row | ResultRow) -> str:
    """A row's name that no other row of its table has."""
    return f"{row.section}: {row.name}" if row.section else row.name


def describe_data(runs: Sequence[Run]) -> str:
    """The sources of the runs' data set, for people."""
    if not runs:
        return "no data: no row of this table can be trained at this preset"
    sources = runs[0].params["ingest"]["sources"]
    if all(source["reader"] == "scenes" for source in sources.values()):
        return f"rendered scenes ({sum(source['count'] for source in sources.values()):,} of them, train and test)"
    return "pictures of " + ", ".join(f"{name} (reader {source['reader']})" for name, source in sources.items())


def _cell(
    request: Request,
    row: Row,
    column: Column,
    records: Sequence[tuple[Run, RunRecord | None]],
    handed_in: Mapping[str, Scores],
    root: Path,
    *,
    is_public: bool,
) -> Cell:
    if row_title(row) in handed_in:
        found = find(handed_in[row_title(row)], column, None)
        return Cell(reason=found) if isinstance(found, str) else summary_cell([_seed_value(None, found, column)])
    reason = row.absent or request.absent.get(str(row.arm))
    if reason:
        return Cell(reason=reason)
    if is_public and column.benchmark not in request.benchmarks:
        return Cell(
            reason=f"{column.benchmark}: not in evaluate.benchmarks of preset {request.preset}, which says where its "
            "pictures and annotations lie"
        )
    values, reasons = [], []
    for run, record in records:
        if run.arm != row.arm:
            continue
        if record is None or not record.is_done:
            reasons.append("the run failed" if record else "not run yet")
            continue
        found = _look_up(request, run, column, row, root, is_public=is_public)
        if isinstance(found, str):
            reasons.append(found)
        else:
            values.append(_seed_value(run, found, column, record))
    return summary_cell(values) if values else Cell(reason=reasons[0] if reasons else "not run yet")


def _look_up(
    request: Request, run: Run, column: Column, row: Row, root: Path, *, is_public: bool
) -> dict[str, Any] | str:
    folder = root / run.evaluation
    if is_public:
        folder = folder / "benchmarks" / column.benchmark
        if not folder.is_dir():
            places = ", ".join(texts_in(request.benchmarks[column.benchmark]))
            return f"{column.benchmark}: no scores; evaluate.benchmarks says {places}"
    return find(read_scores(folder / "scores.json"), column, row.model)


def _seed_value(
    run: Run | None, found: Mapping[str, Any], column: Column, record: RunRecord | None = None
) -> SeedValue:
    return SeedValue(
        seed=run.seed if run else None,
        value=found[column.metric],
        low=found.get(f"{column.metric}_low"),
        high=found.get(f"{column.metric}_high"),
        samples=found.get("samples", found.get("answers")),
        pictures=found.get("pictures"),
        url=record.mlflow_url if record else None,
    )


def _result_row(
    row: Row,
    cells: Mapping[str, tuple[Cell, ...]],
    failed: tuple[str, ...],
    reference: tuple[Row, Mapping[str, tuple[Cell, ...]]] | None,
) -> ResultRow:
    is_compared = reference is not None and reference[0] is not row
    paper_gain: tuple[float | None, ...] = (None,) * len(row.paper)
    if reference is not None and is_compared:
        paper_gain = tuple(
            None if ours is None or base is None else round(ours - base, 6)
            for ours, base in zip(row.paper, reference[0].paper, strict=True)
        )
        cells = {
            kind: tuple(with_gain(ours, base) for ours, base in zip(found, reference[1][kind], strict=True))
            for kind, found in cells.items()
        }
    return ResultRow(
        name=row.name,
        section=row.section,
        paper=tuple(row.paper),
        paper_gain=paper_gain,
        public=cells["public"],
        own=cells["own"],
        failed=failed,
    )


def _records(request: Request, root: Path) -> list[tuple[Run, RunRecord | None]]:
    return [(run, read_record(root / run.record)) for run in request.runs]


def read_record(file: Path) -> RunRecord | None:
    """How a run ended; None where it has not.

    Raises:
        DataError: the file is broken.
    """
    try:
        return RunRecord.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{file}: not the record of a run: {first['msg']}. Delete it; the next run writes it."
        ) from None


def given_files(words: Sequence[str]) -> dict[str, Path]:
    """Row -> scores document, of `ROW=SCORES.json` on a command line; a row's name may hold `=`.

    Raises:
        ConfigError: a word is no such pair, or a row is there twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        row, _, file = word.rpartition("=")
        if not row or not file:
            raise ConfigError(f"--given {word!r}: expected ROW=SCORES.json, a row of the table and its scores.")
        if row in found:
            raise ConfigError(f"--given {row!r}: there twice ({found[row]} and {file}). Keep one.")
        found[row] = Path(file)
    return found


def read_given(table: PaperTable, given: Mapping[str, Path]) -> dict[str, Scores]:
    """The scores of other models, by row.

    Raises:
        DataError: no such row, or one that is trained here; a scores document is missing or broken.
    """
    rows = {row_title(row): row for row in table.rows}
    for name in given:
        if name not in rows:
            raise DataError(f"--given {name!r}: there is no such row; rows: {', '.join(rows)}.")
        if rows[name].absent is None:
            raise DataError(f"--given {name!r}: this row is trained here; scores can be given for the others only.")
    return {name: read_scores(file) for name, file in given.items()}
