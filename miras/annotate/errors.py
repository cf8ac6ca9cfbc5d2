"""The error that says: it is the people's turn."""

from __future__ import annotations

from miras.errors import MirasError


class WaitingForPeopleError(MirasError):
    """Samples are handed out and not all of them are back; nothing is wrong, and nothing is lost."""
