"""Waits between attempts are short here."""

from __future__ import annotations

import pytest

from miras.llm import batches, pace


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 0.02)
    monkeypatch.setattr(batches, "FIRST_POLL_S", 0.01)
