"""Fixtures for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import absl.logging
import pytest

import miras  # noqa: F401  # first: it sees to it that torchvision fits before transformers imports it

# rouge_score's logging writes to the sys.stderr of its import, here pytest's own, and closes it when Prefect sets up
# its logging; the real one it leaves open.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pictures and annotations beside the repository; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the data pack is not on this machine ({SHARED_DATA})")
    return SHARED_DATA
