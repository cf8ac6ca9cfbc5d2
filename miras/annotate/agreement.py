"""How well two people's masks of the same thing agree: IoU and Cohen's kappa (PRIST, section 3.3 and Table 1).

The paper does not say whether kappa is the mean over samples or taken over all pixels at once; both are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from miras.dialogue import masks
from miras.dialogue.records import Rle

SIZES = (*masks.SIZE_CLASSES, "empty")


@dataclass(frozen=True)
class Counts:
    """Pixels of a picture (or of many) by what two masks say about them."""

    both: int
    first_only: int
    second_only: int
    neither: int

    def __add__(self, other: Counts) -> Counts:
        """The counts of both together."""
        return Counts(
            self.both + other.both,
            self.first_only + other.first_only,
            self.second_only + other.second_only,
            self.neither + other.neither,
        )

    @property
    def iou(self) -> float:
        """Intersection over union; 1 for two empty masks, 0 when one of them is empty."""
        union = self.both + self.first_only + self.second_only
        return self.both / union if union else 1.0

    @property
    def kappa(self) -> float:
        """Cohen's kappa over the pixels: (observed - expected) / (1 - expected) agreement.

        Where both say the same about every pixel, and it is the same everywhere (both empty, or both all of the
        picture), 0 / 0 is left over: they agree, 1.0.

        Source: Cohen, 1960; the case 0 / 0 is ours.
        """
        total = self.both + self.first_only + self.second_only + self.neither
        first, second = self.both + self.first_only, self.both + self.second_only
        # In whole numbers, times total squared: exact for any number of pixels.
        expected = first * second + (total - first) * (total - second)
        observed = (self.both + self.neither) * total
        return (observed - expected) / (total**2 - expected) if expected != total**2 else 1.0


@dataclass(frozen=True)
class SampleAgreement:
    """Two groups' masks of one sample."""

    sample: str
    groups: tuple[str, str]
    counts: Counts
    size_class: str
    """fine, medium or coarse by the larger of the masks; empty when both are."""


def count(first: Rle, second: Rle) -> Counts:
    """The pixels of two masks of one picture."""
    a, b = masks.decode(first), masks.decode(second)
    both = int(np.count_nonzero(a & b))
    only = int(np.count_nonzero(a)) - both, int(np.count_nonzero(b)) - both
    return Counts(both, *only, int(a.size) - both - sum(only))


def compare(sample: str, drawn: Sequence[tuple[str, Rle]]) -> list[SampleAgreement]:
    """Every pair of the groups' masks of one sample, in the order given."""
    return [_pair(sample, first, second) for first, second in combinations(drawn, 2)]


def _pair(sample: str, first: tuple[str, Rle], second: tuple[str, Rle]) -> SampleAgreement:
    larger = max(masks.canvas_area_px(first[1]), masks.canvas_area_px(second[1]))
    size_class = masks.size_class(larger) if larger else "empty"
    return SampleAgreement(sample, (first[0], second[0]), count(first[1], second[1]), size_class)


def summarise(agreements: Iterable[SampleAgreement]) -> dict[str, Any]:
    """Table 1: the whole, each group, each pair of groups, each size class; and each sample's own numbers.

    Every part has `samples`, `iou` and `kappa` (means over the comparisons), `iou_pooled` and `kappa_pooled` (all
    pixels taken together). A part without comparisons is left out: it has no agreement, not an agreement of 0. Names
    hold only what MLflow allows in the name of a metric.
    """
    listed = list(agreements)
    pairs = sorted({item.groups for item in listed})
    groups = sorted({group for pair in pairs for group in pair})
    parts = {
        "groups": {group: [item for item in listed if group in item.groups] for group in groups},
        "pairs": {" and ".join(pair): [item for item in listed if item.groups == pair] for pair in pairs},
        "sizes": {size: [item for item in listed if item.size_class == size] for size in SIZES},
    }
    table = {name: {key: _figures(part) for key, part in rows.items() if part} for name, rows in parts.items()}
    each = [
        {
            "sample": item.sample,
            "groups": list(item.groups),
            "size": item.size_class,
            "iou": item.counts.iou,
            "kappa": item.counts.kappa,
        }
        for item in listed
    ]
    return {"all": _figures(listed) if listed else {"samples": 0}, **table, "samples": each}


def _figures(items: Sequence[SampleAgreement]) -> dict[str, float | int]:
    pooled = sum((item.counts for item in items), Counts(0, 0, 0, 0))
    return {
        "samples": len({item.sample for item in items}),
        "iou": fmean(item.counts.iou for item in items),
        "kappa": fmean(item.counts.kappa for item in items),
        "iou_pooled": pooled.iou,
        "kappa_pooled": pooled.kappa,
    }
