"""Section `judge` of params.yaml. Light: nothing here opens a connection."""

from __future__ import annotations

from pydantic import Field

from miras.config import Section
from miras.llm.config import ModelConfig


class JudgeConfig(Section):
    """Who judges, how many dialogues and how often."""

    model: ModelConfig | None
    """The language model that judges; where it is asked stands in infra/teacher.yaml. null: there is none."""
    dialogues: int = Field(ge=1)
    """At most this many dialogues, spread over as many pictures as possible (paper: 100)."""
    repeats: int = Field(ge=1)
    """Independent readings of each dialogue; their mean counts (paper: 5)."""
    max_failed_share: float = Field(ge=0, le=1)
    """When more of the judge's answers are missing than this, the scores are of a selected part: an error."""
    bootstrap_rounds: int = Field(ge=100)
    """Resamplings of the pictures behind each 95 % interval."""
    seed: int
    """Of the choice of dialogues and of the bootstrap."""
