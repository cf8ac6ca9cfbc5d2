"""Limits of the chat page: what one person, and all of them together, may take."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from miras.config import parse_sections, read_yaml
from miras.talk_limits import TalkLimits

LIMITS = Path("infra/chat.yaml")


class ChatLimits(TalkLimits):
    """As `infra/chat.yaml` gives them."""

    max_sessions: int = Field(gt=0)
    """Browsers with dialogues; the one not seen for longest goes first."""
    max_dialogues: int = Field(gt=0)
    """Of one browser; the one not used for longest goes first."""
    picture_memory_gb: float = Field(gt=0)
    """Of all pictures of all dialogues."""


def read_limits(path: Path = LIMITS) -> ChatLimits:
    """The limits in a file.

    Raises:
        ConfigError: the file is missing, or a value is wrong.
    """
    limits: ChatLimits = parse_sections({"chat": read_yaml(path)}, {"chat": ChatLimits}, source=str(path))["chat"]
    return limits
