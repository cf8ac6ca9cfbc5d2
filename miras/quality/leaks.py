"""The last look at a split: Great Expectations on one row per dialogue, before anything is published."""

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
    """A dialogue as it was written to a split."""

    record_id: str
    split: Split
    image_id: str
    """Of its picture; its own id when it has none."""
    content: str
    """Hash of the picture's content, or its own id."""
    look: int
    """Group of near-duplicate pictures that its picture belongs to."""
    text: bytes
    """Hash of its normalised text."""


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
            _rule(
                "text_in_one_split",
                "No dialogue text about the same picture content is in two splits.",
                "the text of {record_id}, with the same picture content, is in {splits_of_text} splits",
                "splits_of_text",
            ),
        ),
    )


def _rule(name: str, says: str, reason: str, column: str) -> Rule:
    return Rule(name, says, reason, gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[1]))


def check_leaks(dealt: Sequence[Dealt]) -> dict[str, Any]:
    """Great Expectations' results on the joined splits.

    Raises:
        DataError: a picture, its content, its look, or a text about it is in two splits.
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
    """One row per dialogue: in how many splits its picture, that picture's content and look, and its text are."""
    frame = pd.DataFrame(
        {
            "row": range(len(dealt)),
            "record_id": [item.record_id for item in dealt],
            "split": pd.Categorical([item.split for item in dealt]),
            "image_id": [item.image_id for item in dealt],
            "content": [item.content for item in dealt],
            "look": [item.look for item in dealt],
            "text": [item.text.hex() for item in dealt],
        }
    )
    for name, columns in (("image", ["image_id"]), ("content", ["content"]), ("look", ["look"])):
        frame[f"splits_of_{name}"] = _splits_of(frame, columns)
    frame["splits_of_text"] = _splits_of(frame, ["content", "text"])
    return frame.drop(columns=["content", "text"])


def _splits_of(frame: pd.DataFrame, columns: list[str]) -> pd.Series:
    return frame.groupby(columns)["split"].transform("nunique")
