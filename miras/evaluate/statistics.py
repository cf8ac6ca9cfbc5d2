"""How sure a score is: bootstrap intervals, and the comparison of two models on the same questions.

Questions about one picture are not independent, so whole pictures are drawn with replacement (percentile bootstrap).
With fewer than about 20 pictures the intervals are rough and, as a rule, too narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miras.errors import DataError
from miras.evaluate.mask_metrics import MaskSample

DRAWS_AT_A_TIME = 2**22  # rounds x pictures in memory: 32 MiB
QUANTILES_PERCENT = (2.5, 97.5)
NUM_EXAMPLES = 3  # in a message


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval, as shares."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First model less second, as shares from -1 to 1."""

    value: float
    interval: Interval
    p_value: float
    """Two-sided: twice the share of draws in which the sign is the other one (or there is no difference). At least
    2 / (rounds + 1)."""


@dataclass(frozen=True)
class Paired:
    """Two models on the same questions."""

    samples: int
    pictures: int
    ciou: Difference | None
    """None: no mask of either model or of the truth has a pixel."""
    giou: Difference


@dataclass(frozen=True)
class _Sums:
    """Metrics as fractions, summed over the samples of each picture."""

    names: tuple[str, ...]
    above: np.ndarray
    """float64 (pictures, metrics); pixel counts are exact up to 2^53."""
    below: np.ndarray
    """float64 (pictures, metrics)."""

    def scores(self) -> np.ndarray:
        """(metrics,): not a number where the lower sum is 0."""
        return _divide(self.above.sum(axis=0), self.below.sum(axis=0))

    def drawn(self, *, rounds: int, seed: int) -> np.ndarray:
        """(rounds, metrics): scores of pictures drawn with replacement. The same pictures get the same draws."""
        pictures = len(self.above)
        dice, shares = np.random.default_rng(seed), np.full(pictures, 1 / pictures)
        found = np.empty((rounds, len(self.names)))
        step = max(1, DRAWS_AT_A_TIME // pictures)
        for start in range(0, rounds, step):
            part = found[start : start + step]
            draws = dice.multinomial(pictures, shares, size=len(part)).astype(np.float64)
            part[:] = _divide(draws @ self.above, draws @ self.below)
        return found


def bootstrap(samples: Sequence[MaskSample], *, rounds: int, seed: int) -> dict[str, Interval]:
    """95 % intervals of cIoU, gIoU, F1, precision at 50, macro F1 and boundary IoU, as `summarize` defines them.

    A metric that has no value there is absent here: all for no samples, the last three without a sample that has a
    target. A draw in which a metric has no value is left out of its interval.

    Args:
        samples: of one model.
        rounds: how often pictures are drawn, at least 1.
        seed: of the draws.
    """
    if not samples:
        return {}
    sums = _sums_by_picture(samples)
    drawn = sums.drawn(rounds=rounds, seed=seed)
    has_value = np.isfinite(sums.scores())
    return {name: _interval(drawn[:, column]) for column, name in enumerate(sums.names) if has_value[column]}


def paired(first: Sequence[MaskSample], second: Sequence[MaskSample], *, rounds: int, seed: int) -> Paired:
    """The difference of cIoU and of gIoU of two models; both are scored on the same draws of pictures.

    Args:
        first: of one model.
        second: of the other one, about the same questions in the same order.
        rounds: how often pictures are drawn, at least 1.
        seed: of the draws.

    Raises:
        DataError: the lists are not about the same questions, or are about fewer than two pictures.
    """
    _check_same_questions(first, second)
    pictures = len({sample.image_id for sample in first})
    if pictures < 2:
        raise DataError(
            f"comparing two models: {len(first)} question(s) about {pictures} picture(s); how sure a difference is "
            "shows on two or more. Score more pictures."
        )
    sums = [_sums_by_picture(samples) for samples in (first, second)]
    values = sums[0].scores() - sums[1].scores()
    drawn = [each.drawn(rounds=rounds, seed=seed) for each in sums]
    differences = dict(zip(sums[0].names, zip(values, (drawn[0] - drawn[1]).T, strict=True), strict=True))
    return Paired(
        samples=len(first),
        pictures=pictures,
        ciou=_difference(*differences["ciou"]) if np.isfinite(differences["ciou"][0]) else None,
        giou=_difference(*differences["giou"]),
    )


def _sums_by_picture(samples: Sequence[MaskSample]) -> _Sums:
    fractions = _fractions(samples)
    row_of = {image_id: row for row, image_id in enumerate(sorted({sample.image_id for sample in samples}))}
    rows = np.array([row_of[sample.image_id] for sample in samples])
    above, below = (
        np.stack([np.bincount(rows, fraction[part], len(row_of)) for fraction in fractions.values()], axis=1)
        for part in (0, 1)
    )
    return _Sums(tuple(fractions), above, below)


def _fractions(samples: Sequence[MaskSample]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric -> per sample what is summed above and below the fraction line."""
    intersection = np.array([sample.intersection_px for sample in samples], dtype=np.float64)
    both = np.array([sample.predicted_px + sample.target_px for sample in samples], dtype=np.float64)
    iou = np.array([sample.iou for sample in samples])
    has_target = np.array([sample.target_px > 0 for sample in samples], dtype=np.float64)
    return {
        "ciou": (intersection, both - intersection),
        "giou": (iou, np.ones(len(samples))),
        "f1": (2 * intersection, both),
        "precision_at_50": ((iou >= 0.5) * has_target, has_target),
        "macro_f1": (np.array([sample.f1 for sample in samples]) * has_target, has_target),
        "boundary_iou": (np.array([sample.boundary_iou for sample in samples]) * has_target, has_target),
    }


def _check_same_questions(first: Sequence[MaskSample], second: Sequence[MaskSample]) -> None:
    remedy = "Give both models' predictions of the same questions, in the same order."
    if len(first) != len(second):
        counts = [Counter(sample.image_id for sample in samples) for samples in (first, second)]
        lacks = ", ".join(
            f"the {name} lacks {sum(missing.values())} ({_examples(missing)})"
            for name, missing in (("first", counts[1] - counts[0]), ("second", counts[0] - counts[1]))
            if missing
        )
        raise DataError(f"comparing two models: {len(first)} and {len(second)} samples; {lacks}. {remedy}")
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        if _question(one) != _question(other):
            raise DataError(
                f"comparing two models: sample {number} is {_question(one)} in the first list and "
                f"{_question(other)} in the second. {remedy}"
            )


def _question(sample: MaskSample) -> str:
    """What of a sample does not depend on the model."""
    return f"picture {sample.image_id} with {sample.target_px} of {sample.counted_px} px in the target"


def _examples(missing: Counter[str]) -> str:
    names = sorted(missing)
    return "pictures " + ", ".join(names[:NUM_EXAMPLES]) + (", ..." if len(names) > NUM_EXAMPLES else "")


def _difference(value: float, drawn: np.ndarray) -> Difference:
    known = drawn[np.isfinite(drawn)]
    smaller = min((known <= 0).sum(), (known >= 0).sum())
    p_value = min(1.0, 2 * (int(smaller) + 1) / (len(known) + 1))
    return Difference(float(value), _interval(known), p_value)


def _interval(values: np.ndarray) -> Interval:
    low, high = np.percentile(values[np.isfinite(values)], QUANTILES_PERCENT)
    return Interval(float(low), float(high))


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
