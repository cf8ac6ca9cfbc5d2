"""Sections `evaluate` and `report` of params.yaml. Light: no torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from miras.config import Section
from miras.sources.config import Source, SourceName

TemplateFamily = Literal["lisa", "sesame"]


class BertScoreConfig(Section):
    """Encoder of BERTScore."""

    model: str = Field(min_length=1)
    """Path, or name of Hugging Face."""
    layer: int | None = Field(ge=1)
    """Whose states are compared; null: the last one."""


class EvaluateConfig(Section):
    """What is predicted and how it is scored."""

    max_dialogues: int = Field(ge=1)
    """At most this many dialogues of the test split, spread over as many pictures as possible."""
    max_rounds: int = Field(ge=0)
    """At most this many dialogues whose every turn asks for a mask, spread likewise; 0: none."""
    max_queries: int = Field(ge=0)
    """At most this many one-turn questions of the test split, spread likewise, and of those that point at a mask and
    ask for another thing ("the other one"); 0: none."""
    templates: list[TemplateFamily]
    """Ask the one-turn questions again in the wording of these other models' templates: how much depends on it."""
    benchmarks: dict[SourceName, Source]
    """Public data sets to score on beside the test split: name of each -> its reader and where it lies."""
    max_missing_share: float = Field(ge=0, lt=1)
    """A larger share of such a data set that cannot be read (pictures, masks, dialogues) is an error; what is left
    out is counted beside its scores."""
    batch_size: int = Field(ge=1)
    """Dialogues answered together."""
    bootstrap_rounds: int = Field(ge=100)
    """Resamplings of the pictures behind each 95 % interval."""
    bert_score: BertScoreConfig | None
    """The usual encoder is roberta-large, layer 17; null: no BERTScore."""
    gallery_examples: int = Field(ge=1)
    """Examples in each gallery picture."""
    seed: int
    """Of the choice of dialogues, of the random-object baseline, of the bootstrap and of the galleries."""


class ReportConfig(Section):
    """What the report shows."""

    title: str = Field(min_length=1)
    """Heading of the page."""
    num_examples: int = Field(ge=0)
    """Best cases, median cases and random ones of the first benchmark, this many of each; the others show half."""
    num_failures: int = Field(ge=0)
    """Worst cases, and things marked that are not there, likewise."""
    seed: int
    """Of the random examples."""
