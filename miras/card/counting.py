"""Counts of whole numbers that give mean, median, ends and histogram: exact, and as small as the range of values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from miras.dialogue.records import Frozen


class Distribution(Frozen):
    """How some whole numbers are spread; all 0 where there is none."""

    count: int
    mean: float
    median: float
    least: int
    most: int
    bin_width: int
    histogram: tuple[tuple[int, int], ...]
    """(lowest value of the bin, how many), empty bins left out, in order."""

    @classmethod
    def of(cls, counts: Counter[int], *, bin_width: int) -> Distribution:
        """Of numbers counted by value."""
        total = counts.total()
        if not total:
            return cls(count=0, mean=0.0, median=0.0, least=0, most=0, bin_width=bin_width, histogram=())
        bins: Counter[int] = Counter()
        for value, count in counts.items():
            bins[value // bin_width * bin_width] += count
        return cls(
            count=total,
            mean=round(sum(value * count for value, count in counts.items()) / total, 4),
            median=(_at(counts, (total - 1) // 2) + _at(counts, total // 2)) / 2,
            least=min(counts),
            most=max(counts),
            bin_width=bin_width,
            histogram=tuple(sorted(bins.items())),
        )


def _at(counts: Counter[int], place: int) -> int:
    """The number at this place, from 0, of all numbers in order."""
    for value in sorted(counts):
        place -= counts[value]
        if place < 0:
            return value
    raise AssertionError("the place lies beyond the last number")


class DistinctGrams:
    """How many different words, and pairs of words that follow each other, some texts have (Dist-1 and Dist-2).

    Source: Li et al., 2016; words are parts between blanks in lower case.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._pairs: set[int] = set()
        self.words = self.pairs = 0

    def add(self, text: str) -> None:
        """Counts the words of a text; pairs do not reach over its ends."""
        numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in text.lower().split()]
        self.words += len(numbers)
        self.pairs += max(0, len(numbers) - 1)
        # One whole number for a pair takes a third of the memory of two words.
        self._pairs.update(first << 32 | second for first, second in pairwise(numbers))

    @property
    def dist_1_percent(self) -> float:
        """Different words of all words; 0 without words."""
        return _percent(len(self._numbers), self.words)

    @property
    def dist_2_percent(self) -> float:
        """Different pairs of all pairs; 0 without pairs."""
        return _percent(len(self._pairs), self.pairs)


def shares_percent(counts: Iterable[int]) -> list[float]:
    """Each count's part of their sum, percent; all 0 where the sum is."""
    listed = list(counts)
    return [_percent(count, sum(listed)) for count in listed]


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
