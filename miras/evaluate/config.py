"""Sections `evaluate` and `report` of params.yaml. Light: no torch here."""

from __future__ import annotations

from pydantic import Field

from miras.config import Section


class EvaluateConfig(Section):
    """What is predicted and how it is scored."""

    max_dialogues: int = Field(ge=1)
    """At most this many dialogues of the test split, spread over as many pictures as possible."""
    max_queries: int = Field(ge=0)
    """At most this many one-turn questions of the test split, spread likewise, and of those that point at a mask and
    ask for another thing ("the other one"); 0: none."""
    batch_size: int = Field(ge=1)
    """Questions answered at a time."""
    bootstrap_rounds: int = Field(ge=100)
    """Resamplings of the pictures behind each 95 % interval."""
    gallery_examples: int = Field(ge=1)
    """Examples in each gallery picture."""
    seed: int
    """Of the choice of dialogues, of the random-object baseline, of the bootstrap and of the galleries."""


class ReportConfig(Section):
    """What the report shows."""

    title: str = Field(min_length=1)
    """Heading of the page."""
    num_examples: int = Field(ge=0)
    """Dialogues drawn at random and shown in full."""
    num_failures: int = Field(ge=0)
    """Dialogues with the worst masks, shown in full."""
    seed: int
    """Of the random examples."""
