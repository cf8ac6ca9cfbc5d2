"""What may be asked of a model that many people share, however they reach it."""

from __future__ import annotations

from pydantic import Field

from miras.config import Section
from miras.open_dialogue import MAX_QUESTION_CHARACTERS


class TalkLimits(Section):
    """Limits that the chat page and the HTTP interface have in common."""

    max_body_mb: int = Field(ge=1)
    """Largest request: a picture, a saved dialogue; millions of bytes."""
    max_megapixels: int = Field(ge=1)
    """Largest picture, found in its header before it is unpacked."""
    max_turns: int = Field(ge=1)
    """Questions of a dialogue, the new one counted; the model's own longest dialogue may be shorter."""
    max_question_characters: int = Field(ge=1, le=MAX_QUESTION_CHARACTERS)
    """Of each question."""
    max_queue: int = Field(ge=0)
    """Questions that wait for the model; more are refused with 503."""
    memory_gb: float = Field(ge=0)
    """Of what dialogues keep so that a turn costs only what is new (miras.model.talk.TalkMemory)."""
