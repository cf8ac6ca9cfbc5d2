"""Waits between attempts are short here."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.llm import pace
from tests.unit.evaluate.judge.evaluation import make_folder, predictions


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An evaluation whose model is right about one dialogue of each picture."""
    found = predictions({f"p{number}-d0": "Right" for number in range(4)})
    return make_folder(tmp_path, found)
