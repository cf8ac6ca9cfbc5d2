"""What a paper's table is: columns, rows with the paper's figures, and the settings that rows are trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from miras.config import Section
from miras.dialogue.records import Frozen

FOLDER = Path("reproductions")


class Column(Section):
    """A column, and where its number stands in a scores document (`scores.json` of stage `evaluate`)."""

    name: str = Field(min_length=1)
    """Heading, such as "val" or "F1"."""
    group: str = ""
    """Heading above several columns, such as "RefCOCO"."""
    benchmark: str = Field(min_length=1)
    """A public benchmark of the paper ("refcoco-val"), or one of our own data set ("queries")."""
    table: str = "masks"
    """Which list of rows below `tables`."""
    metric: str = Field(min_length=1)
    """Which column of such a row."""
    where: dict[str, str | int] = Field(default_factory=dict)
    """What else names the row, such as the turn; a model here goes before the table row's own. Without a history: the
    model's own answers where it was asked with them, else none."""


class Arm(Section):
    """One way to train: a preset with settings laid over it. Several rows of a table may share one."""

    network: str | None = None
    """A file of presets/network, laid over the preset first."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """`section.key` -> the value in its place."""
    llava: str | None = None
    """Hub name of the public language model; an arm that names one needs a preset with public weights."""


class Row(Section):
    """A row of the paper, and what stands for it here."""

    name: str = Field(min_length=1)
    section: str = ""
    """Heading above several rows, such as "zero-shot"."""
    paper: list[float | None]
    """The paper's figures, one per column; null where it has none."""
    arm: str | None = None
    model: str = "stage2"
    """Which model of the arm's evaluation: stage1 or stage2."""
    absent: str | None = None
    """Why nothing is trained for this row."""


class PaperTable(Section):
    """One table of a paper."""

    paper: str
    number: str
    title: str
    shared: dict[str, Any] = Field(default_factory=dict)
    """Settings of every arm, `section.key` -> value."""
    arms: dict[str, Arm]
    columns: list[Column]
    """The paper's own columns, on public benchmarks."""
    own: list[Column]
    """The nearest benchmarks of our own data set, under their own names."""
    rows: list[Row]
    compare_with: str | None = None
    """The row from which the others' gains are counted."""
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [row.name if not row.section else f"{row.section}: {row.name}" for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError("two rows have one name")
        for row in self.rows:
            if len(row.paper) != len(self.columns):
                raise ValueError(f"row {row.name!r}: {len(row.paper)} figures for {len(self.columns)} columns")
            if (row.arm is None) == (row.absent is None):
                raise ValueError(f"row {row.name!r}: needs an arm, or why it is absent")
            if row.arm is not None and row.arm not in self.arms:
                raise ValueError(f"row {row.name!r}: there is no arm {row.arm!r}")
        unused = set(self.arms) - {row.arm for row in self.rows}
        if unused:
            raise ValueError(f"no row needs the arms {', '.join(sorted(unused))}")
        if self.compare_with is not None and self.compare_with not in names:
            raise ValueError(f"compare_with: there is no row {self.compare_with!r}")
        return self


@dataclass(frozen=True)
class Run:
    """One training and evaluation: an arm with a seed, in a workspace of its own."""

    table: str
    preset: str
    arm: str
    seed: int
    """0, 1, ...: added to the seeds of both training stages; the data and the backbones stay the same."""
    params: Mapping[str, Any]
    """What its params.yaml holds."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.arm}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Its workspace, relative to the main one."""
        return FOLDER / self.table / self.preset / self.arm / f"seed{self.seed}"

    @property
    def record(self) -> Path:
        """JSON file of its `RunRecord`."""
        return self.folder / "run.json"

    @property
    def evaluation(self) -> Path:
        """Folder with `scores.json`, and one such folder per public benchmark in `benchmarks` below it."""
        return self.folder / str(self.params["paths"]["evaluate"])


class RunRecord(Frozen):
    """How a run ended."""

    arm: str
    seed: int
    is_done: bool
    message: str = ""
    """Why it failed."""
    stages: dict[str, str] = Field(default_factory=dict)
    """Stage -> done, restored (from DVC's cache), unchanged, or failed."""
    seconds: float = 0.0
    """Wall time of the last attempt."""
    commit: str = ""
    """Of the code that ran, with "-dirty" where files differ from it."""
    mlflow_url: str | None = None
    """The evaluation's run in MLflow; None where MLflow did not answer or holds none."""


@dataclass(frozen=True)
class Request:
    """What a person asked for: a table at a preset, with so many seeds."""

    name: str
    """Of the table, such as "miras-6"."""
    table: PaperTable
    preset: str
    seeds: int
    runs: tuple[Run, ...]
    """Of every arm that can be trained at this preset, seed by seed."""
    absent: Mapping[str, str]
    """Arm that cannot be trained at this preset -> why."""
    benchmarks: Mapping[str, Any]
    """`evaluate.benchmarks` of the preset: public benchmark -> its reader and where it lies."""

    @property
    def folder(self) -> Path:
        """Where its runs and its finished table lie, relative to the workspace."""
        return FOLDER / self.name / self.preset

    def runs_of(self, arm: str) -> list[Run]:
        """The runs of one arm, by seed."""
        return [run for run in self.runs if run.arm == arm]
