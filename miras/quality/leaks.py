"""The last look at a split: Great Expectations on its pictures, before anything is published.

Texts are not looked at: what is said about one picture is in one split with it, and about different pictures
templates say the same by design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd

from miras.dialogue.records import Split
from miras.errors import DataError
from miras.quality.suites import Rule, Suite
from miras.quality.validation import reasons_by_row, validate

LEAKS_SHOWN = 5


@dataclass(frozen=True)
class Dealt:
    """A picture in a split that has dialogues about it; a dialogue without picture stands for itself."""

    image_id: str
    split: Split
    content: str
    """Hash of the picture's content."""
    look: int
    """Group of near-duplicates that it belongs to."""


def leak_suite() -> Suite:
    """What every row of the joined splits must be."""
    return Suite(
        name="splits",
        title="Splits",
        rules=(
            _rule(
                "image_in_one_split",
                "No picture is in two splits.",
                "picture {image_id} is in {splits_of_image} splits",
                "splits_of_image",
            ),
            _rule(
                "content_in_one_split",
                "No two files with the same content are in different splits.",
                "the content of picture {image_id} is in {splits_of_content} splits",
                "splits_of_content",
            ),
            _rule(
                "look_in_one_split",
                "No two pictures that look nearly the same are in different splits.",
                "picture {image_id} and pictures that look nearly the same are in {splits_of_look} splits",
                "splits_of_look",
            ),
        ),
    )


def _rule(name: str, says: str, reason: str, column: str) -> Rule:
    return Rule(name, says, reason, gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[1]))


def check_leaks(dealt: Sequence[Dealt]) -> dict[str, Any]:
    """Great Expectations' results on the joined splits.

    Raises:
        DataError: a picture, its content or its look is in two splits.
    """
    frame = _leak_frame(dealt)
    validation = validate(frame, leak_suite())
    if not validation.success:
        reasons = [reason for found in reasons_by_row(validation, frame).values() for reason in found.values()]
        shown = "\n".join(f"  {reason}" for reason in list(dict.fromkeys(reasons))[:LEAKS_SHOWN])
        raise DataError(
            f"split: {len(reasons)} leaks between splits, nothing was published:\n{shown}\n  Every image_id "
            "must stand for one picture with one sha256 in the table of pictures: run the stage ingest again. If a "
            "ledger is kept (params.yaml: split.ledger), it was made with fewer near-duplicates: take its file away "
            "for a new split, or lower split.near_duplicate_bits."
        )
    return validation.raw()


def _leak_frame(dealt: Sequence[Dealt]) -> pd.DataFrame:
    """One row per picture and split: in how many splits the picture, its content and its look are."""
    frame = pd.DataFrame(
        {
            "row": range(len(dealt)),
            "record_id": [item.image_id for item in dealt],
            "image_id": [item.image_id for item in dealt],
            "split": pd.Categorical([item.split for item in dealt]),
            "content": [item.content for item in dealt],
            "look": [item.look for item in dealt],
        }
    )
    for name, column in (("image", "image_id"), ("content", "content"), ("look", "look")):
        frame[f"splits_of_{name}"] = frame.groupby(column)["split"].transform("nunique")
    return frame
