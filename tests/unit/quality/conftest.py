"""Great Expectations without telemetry, as `tasks.run` sets it for the stages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miras.paths import Paths
from tests.unit.quality.good_records import paths_in

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when Great Expectations is first imported


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Paths of a new workspace."""
    return paths_in(tmp_path)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The stage's folder for what it keeps between runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
