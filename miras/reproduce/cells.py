"""One number of ours: its seeds, their mean, how sure it is, and how far it is from another row's."""

from __future__ import annotations

from collections.abc import Sequence

from miras.dialogue.records import Frozen
from miras.reproduce.seeds import Summary, summarize


class SeedValue(Frozen):
    """One run's number."""

    seed: int | None
    """None: scores that were handed in."""
    value: float
    low: float | None = None
    high: float | None = None
    """95 % interval over the test pictures, where the evaluation gives one."""
    samples: int | None = None
    pictures: int | None = None
    url: str | None = None
    """The evaluation's run in MLflow."""


class Interval(Frozen):
    """A 95 % interval."""

    low: float
    high: float
    over: str
    """What was drawn again: seeds (several trainings), or pictures (one training)."""


class Gain(Frozen):
    """A row less the row it is compared with, seed by seed."""

    value: float
    interval: Interval | None
    """Over the seeds; None for one."""


class Cell(Frozen):
    """A number of ours, or why there is none."""

    values: tuple[SeedValue, ...] = ()
    mean: float | None = None
    spread: float | None = None
    """Standard deviation over the seeds; None for one."""
    interval: Interval | None = None
    gain: Gain | None = None
    reason: str = ""


def summary_cell(values: Sequence[SeedValue]) -> Cell:
    """At least one number with what is known of its certainty.

    Over several seeds the interval is that of the mean over trainings; of a single one it is the evaluation's own, over
    test pictures.
    """
    summary = summarize([value.value for value in values])
    interval = _over_seeds(summary)
    if interval is None and values[0].low is not None and values[0].high is not None:
        interval = Interval(low=values[0].low, high=values[0].high, over="pictures")
    return Cell(values=tuple(values), mean=summary.mean, spread=summary.spread, interval=interval)


def with_gain(cell: Cell, reference: Cell) -> Cell:
    """The cell with its difference to another, over the seeds that both have."""
    base = {value.seed: value.value for value in reference.values}
    differences = [value.value - base[value.seed] for value in cell.values if value.seed in base]
    if not differences:
        return cell
    summary = summarize(differences)
    return cell.model_copy(update={"gain": Gain(value=summary.mean, interval=_over_seeds(summary))})


def _over_seeds(summary: Summary) -> Interval | None:
    if summary.low is None or summary.high is None:
        return None
    return Interval(low=summary.low, high=summary.high, over="seeds")
