"""What several seeds say together: mean, spread, and the 95 % interval of the mean."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

LEVEL = 0.975  # upper end of a two-sided 95 % interval


@dataclass(frozen=True)
class Summary:
    """Of the values of several seeds, in their unit."""

    mean: float
    spread: float | None
    """Standard deviation over the seeds (n - 1); None for one seed."""
    low: float | None
    high: float | None
    """95 % interval of the mean by Student's t over the seeds; None for one seed."""


def summarize(values: Sequence[float]) -> Summary:
    """Mean, spread and interval of at least one value.

    The interval covers the luck of training, not the choice of the test pictures: these are the same for every seed.
    """
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Summary(mean, None, None, None)
    spread = statistics.stdev(values)
    reach = float(stdtrit(len(values) - 1, LEVEL)) * spread / len(values) ** 0.5
    return Summary(mean, spread, mean - reach, mean + reach)
