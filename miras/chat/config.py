"""Limits of the chat page: what one person, and all of them together, may take."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from miras.config import Section, parse_sections, read_yaml

LIMITS = Path("infra/chat.yaml")


class ChatLimits(Section):
    """As `infra/chat.yaml` gives them."""

    max_upload_mb: int = Field(gt=0)
    """Of one uploaded picture or saved dialogue."""
    max_megapixels: int = Field(gt=0)
    """Of one picture."""
    max_sessions: int = Field(gt=0)
    """Browsers with dialogues; the one not seen for longest goes first."""
    max_dialogues: int = Field(gt=0)
    """Of one browser; the one not used for longest goes first."""
    max_turns: int = Field(gt=0)
    """Of one dialogue."""
    max_waiting: int = Field(gt=0)
    """Questions that wait for the model."""
    picture_memory_mb: int = Field(gt=0)
    """Of all pictures of all dialogues."""
    cache_memory_mb: int = Field(gt=0)
    """Of what the models keep of all dialogues."""


def read_limits(path: Path = LIMITS) -> ChatLimits:
    """The limits in a file.

    Raises:
        ConfigError: the file is missing, or a value is wrong.
    """
    limits: ChatLimits = parse_sections({"chat": read_yaml(path)}, {"chat": ChatLimits}, source=str(path))["chat"]
    return limits
