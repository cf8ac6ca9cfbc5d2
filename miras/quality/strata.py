"""Strata and figures of the splits: what pictures are about and how large their targets are."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.dialogue.masks import SIZE_CLASSES, canvas_area_px, size_class
from miras.dialogue.records import SPLITS, Dialogue, Region, Split
from miras.files import read_records
from miras.quality.dealing import Stratum
from miras.quality.focus_classes import OTHER, SUBCLASSES, focus_class

NO_TARGET = "none"  # size class of a picture whose dialogues ask for no mask
_SIZES = (*SIZE_CLASSES, NO_TARGET)


def read_region_sizes(path: Path) -> dict[str, str]:
    """Region id -> size class, of the regions that have a mask.

    Raises:
        DataError: the table is missing or broken.
    """
    return {
        region.region_id: size_class(canvas_area_px(region.mask))
        for region in read_records(path, Region)
        if region.mask is not None
    }


@dataclass(frozen=True)
class _Where:
    dialogue_id: str
    image_id: str


class StrataCounts:
    """Per picture (a dialogue without one counts as its own): how often each focus class and size class occurs.

    Iterates over image ids, and ids of dialogues without picture, in the order of the first dialogue.

    Args:
        sizes: as `read_region_sizes` gives them.
    """

    def __init__(self, sizes: Mapping[str, str]) -> None:
        self._sizes = sizes
        self._counts: dict[str, array[int]] = {}
        self._first: dict[str, str] = {}
        """Image id -> its first dialogue."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __contains__(self, key: str) -> bool:
        return key in self._counts

    def add(self, dialogue: Dialogue) -> None:
        """Counts a dialogue."""
        key = dialogue.image_id or dialogue.dialogue_id
        if dialogue.image_id:
            self._first.setdefault(key, dialogue.dialogue_id)
        counts = self._counts.setdefault(key, array("I", bytes(4 * (len(SUBCLASSES) + len(_SIZES)))))
        if dialogue.focus:
            counts[SUBCLASSES.index(focus_class(dialogue.focus))] += 1
        for size in _target_sizes(dialogue, self._sizes):
            counts[len(SUBCLASSES) + _SIZES.index(size)] += 1

    def first_unknown(self, known: Collection[str]) -> _Where | None:
        """The first dialogue whose picture is not known."""
        return next((_Where(self._first[key], key) for key in self._first if key not in known), None)

    def stratum(self, key: str) -> Stratum:
        """The most frequent focus class and size class; of equally frequent ones the first in the classes' order."""
        counts = self._counts[key]
        foci, sizes = counts[: len(SUBCLASSES)], counts[len(SUBCLASSES) :]
        focus = SUBCLASSES[max(range(len(foci)), key=foci.__getitem__)] if any(foci) else OTHER
        return focus, (_SIZES[max(range(len(sizes)), key=sizes.__getitem__)] if any(sizes) else NO_TARGET)


def shares_of_strata(strata: StrataCounts, split_of: Mapping[str, Split | None]) -> dict[Split, dict[str, Any]]:
    """Split -> focus class -> size class -> its pictures, and their share of all the stratum's pictures."""
    counts: Counter[tuple[Split | None, Stratum]] = Counter((split_of[key], strata.stratum(key)) for key in strata)
    totals: Counter[Stratum] = Counter()
    for (_, stratum), count in counts.items():
        totals[stratum] += count
    shares: dict[Split, dict[str, Any]] = {name: {} for name in SPLITS}
    for name in SPLITS:
        for stratum in sorted(totals):
            count = counts[name, stratum]
            figures = {"pictures": count, "share": round(count / totals[stratum], 4)}
            shares[name].setdefault(stratum[0], {})[stratum[1]] = figures
    return shares


class SplitFigures:
    """Counts of one split, dialogue by dialogue."""

    def __init__(self, sizes: Mapping[str, str]) -> None:
        self._sizes = sizes
        self._pictures: set[str] = set()
        self._targets: set[str] = set()
        self._kinds: Counter[str] = Counter()
        self._foci: Counter[str] = Counter()
        self._turns = 0

    def add(self, dialogue: Dialogue) -> None:
        """Counts a dialogue."""
        self._kinds[dialogue.kind] += 1
        self._turns += len(dialogue.turns)
        if dialogue.image_id:
            self._pictures.add(dialogue.image_id)
        if dialogue.focus:
            self._foci[focus_class(dialogue.focus)] += 1
        self._targets.update(key for turn in dialogue.turns for key in turn.targets)

    def summary(self) -> dict[str, Any]:
        """JSON values; size classes are of the targets that have a mask, each region once."""
        sizes = Counter(self._sizes[key] for key in self._targets if key in self._sizes)
        return {
            "pictures": len(self._pictures),
            "dialogues": self._kinds.total(),
            "turns": self._turns,
            "kinds": dict(self._kinds.most_common()),
            "size_classes": counts_and_shares(sizes, SIZE_CLASSES),
            "focus_classes": counts_and_shares(self._foci, SUBCLASSES),
        }


def counts_and_shares(counts: Mapping[str, int], names: Collection[str]) -> dict[str, dict[str, int | float]]:
    """Count and share of each name, also of those that do not occur."""
    total = sum(counts.get(name, 0) for name in names)
    return {
        name: {"count": counts.get(name, 0), "share": round(counts.get(name, 0) / total, 4) if total else 0.0}
        for name in names
    }


def _target_sizes(dialogue: Dialogue, sizes: Mapping[str, str]) -> Iterator[str]:
    return (sizes[key] for turn in dialogue.turns for key in turn.targets if key in sizes)
