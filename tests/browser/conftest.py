"""The fixtures of the chat page's own tests, for a real browser."""

from tests.unit.chat.conftest import answerers, limits

__all__ = ["answerers", "limits"]
