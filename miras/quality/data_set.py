"""What a data set must be as a whole: shares, agreement of people, licences. One row of figures, rules on its columns.

A figure that nobody could measure is null, and its rule says so; it is never taken for good or bad.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import great_expectations.expectations as gxe
import pandas as pd

from miras.dialogue.masks import SIZE_CLASSES
from miras.errors import DataError
from miras.quality.config import CheckConfig, ShareBounds
from miras.quality.focus_classes import OTHER
from miras.quality.suites import Rule, Suite
from miras.quality.tally import Tally
from miras.quality.validation import Validation, validate

NAME = "data_set"
FIGURE_TEXTS = {
    "pictures": "Pictures",
    "pictures_without_licence": "Pictures whose licence nobody states",
    "agreement_samples": "Things that at least two people drew",
    "agreement_iou": "Overlap of their masks, mean IoU (1: the same pixels)",
    "agreement_kappa": "Agreement beyond chance, mean Cohen's kappa (1: full, 0: none)",
    "fine_share": "Targets that are fine",
    "medium_share": "Targets that are medium",
    "coarse_share": "Targets that are coarse",
    "unknown_foci_share": "PRIST foci of no known class",
    "focus_named_mean": "Words of a PRIST focus that are named before the request, mean",
    "turns_linked_mean": "Later PRIST turns that take up a word of earlier ones, mean",
}
"""Figure -> what it says, in the order in which pages list them."""
Consequence = Literal["allow", "warn", "stop"]


@dataclass(frozen=True)
class Agreement:
    """How well two people's masks of the same things agree, means over the comparisons."""

    samples: int
    """Things that at least two people drew."""
    iou: float | None
    """None where nobody drew."""
    kappa: float | None


def read_agreement(path: Path) -> Agreement:
    """The agreement that the stage annotate found.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        figures = json.loads(path.read_text("utf-8"))["all"]
        samples = int(figures["samples"])
        return Agreement(samples, *((float(figures["iou"]), float(figures["kappa"])) if samples else (None, None)))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage annotate (`dvc repro annotate`).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no figures of agreement ({type(error).__name__}: {error}); expected all.samples, all.iou and "
            "all.kappa. Run the stage annotate again."
        ) from None


@dataclass(frozen=True)
class DataSetVerdict:
    """What the rules on the whole data set found."""

    figures: dict[str, float | int | None]
    validation: Validation
    frame: pd.DataFrame
    consequences: dict[str, Consequence]
    """Rule -> what it does when it is not met."""

    def broken(self, consequence: Consequence) -> list[str]:
        """What is wrong, in words, by the rules with this consequence that are not met."""
        (row,) = self.frame.to_dict("records")
        return [
            result.rule.reason.format_map(row)
            for result in self.validation.results
            if result.failed_rows and self.consequences[result.rule.name] == consequence
        ]


def judge_data_set(
    tally: Tally, agreement: Agreement, *, pictures: int, without_licence: int, check: CheckConfig
) -> DataSetVerdict:
    """The verdict on the whole.

    Args:
        tally: what was found in the records.
        agreement: of the people who drew.
        pictures: of the data set.
        without_licence: those of them whose licence nobody states.
        check: the bounds.
    """
    figures = _figures(tally, agreement, pictures=pictures, without_licence=without_licence)
    frame = pd.DataFrame([{"row": 0, "record_id": "the data set", **figures}])
    frame = frame.astype(dict.fromkeys(figures, "float64"))
    rules = _rules(check)
    validation = validate(frame, Suite(NAME, "Whole data set", tuple(rule for rule, _ in rules)))
    return DataSetVerdict(figures, validation, frame, {rule.name: consequence for rule, consequence in rules})


def _figures(
    tally: Tally, agreement: Agreement, *, pictures: int, without_licence: int
) -> dict[str, float | int | None]:
    targets, foci = tally.target_sizes.total(), tally.focus_classes.total()
    return {
        "pictures": pictures,
        "pictures_without_licence": without_licence,
        "agreement_samples": agreement.samples,
        "agreement_iou": agreement.iou,
        "agreement_kappa": agreement.kappa,
        **{f"{name}_share": tally.target_sizes[name] / targets if targets else None for name in SIZE_CLASSES},
        "unknown_foci_share": tally.focus_classes[OTHER] / foci if foci else None,
        "focus_named_mean": float(tally.focus_named.mean()) if len(tally.focus_named) else None,
        "turns_linked_mean": float(tally.turns_linked.mean()) if len(tally.turns_linked) else None,
    }


def _rules(check: CheckConfig) -> list[tuple[Rule, Consequence]]:
    shares = [_share_rule(name, getattr(check.size_shares, name)) for name in SIZE_CLASSES]
    return [
        *((rule, check.on_bad_share) for rule in (*_agreement_rules(check), *shares, _focus_rule(check))),
        (_licence_rule(check), check.without_licence),
    ]


def _agreement_rules(check: CheckConfig) -> tuple[Rule, Rule]:
    return (
        _agreement_rule("agreement_iou", "mean IoU", check.min_agreement_iou),
        _agreement_rule("agreement_kappa", "mean Cohen's kappa", check.min_agreement_kappa),
    )


def _agreement_rule(column: str, what: str, bound: float) -> Rule:
    return Rule(
        column,
        f"Two people who draw the same thing agree: {what} above {bound:.2f}. Not asked where nobody drew.",
        f"{what} of people's masks is {{{column}:.3f}} over {{agreement_samples:.0f}} samples, above {bound:.2f} "
        "expected. Let an adjudicator look at reports of the stage annotate, make the guide clearer, or lower "
        f"params.yaml: check.min_{column}",
        gxe.ExpectColumnValuesToBeBetween(column=column, min_value=bound, strict_min=True),
    )


def _share_rule(name: str, bounds: ShareBounds) -> Rule:
    least, most = bounds.least or 0.0, 1.0 if bounds.most is None else bounds.most
    said = f"between {least:.0%} and {most:.0%}"
    says = f"Of the targets, {said} are {name}."
    if (least, most) == (0, 1):
        says = f"Any share of the targets may be {name}: no bound is set."
    return Rule(
        f"{name}_share",
        says,
        f"{{{name}_share:.1%}} of the targets are {name}, {said} expected. Choose other targets or pictures, or "
        f"change params.yaml: check.size_shares.{name}",
        gxe.ExpectColumnValuesToBeBetween(column=f"{name}_share", min_value=least, max_value=most),
    )


def _focus_rule(check: CheckConfig) -> Rule:
    bound = check.max_unknown_foci_share
    return Rule(
        "unknown_foci_share",
        f"At most {bound:.0%} of the PRIST foci belong to no known class.",
        f"{{unknown_foci_share:.1%}} of the PRIST foci belong to no known class, at most {bound:.0%} expected. They "
        "may be no noun phrases, or not English; else raise params.yaml: check.max_unknown_foci_share",
        gxe.ExpectColumnValuesToBeBetween(column="unknown_foci_share", max_value=bound),
    )


def _licence_rule(check: CheckConfig) -> Rule:
    # Where it is allowed the rule asks for nothing, so that pages and counts show no fault that nobody minds.
    most: dict[str, Any] = {} if check.without_licence == "allow" else {"max_value": 0}
    return Rule(
        "licence_stated",
        "Every picture has a licence." if most else "Pictures may have no licence (check.without_licence: allow).",
        "{pictures_without_licence:.0f} of {pictures:.0f} pictures have no licence. Take sources that "
        "state them (the readers keep what the annotations say), or set params.yaml: check.without_licence to allow",
        gxe.ExpectColumnValuesToBeBetween(column="pictures_without_licence", min_value=0, **most),
    )
