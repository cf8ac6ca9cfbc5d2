"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import miras  # noqa: F401  # first: it sees to it that torchvision fits before transformers imports it

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pictures and annotations beside the repository; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the data pack is not on this machine ({SHARED_DATA})")
    return SHARED_DATA
