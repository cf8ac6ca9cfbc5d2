"""Fixtures of the model tests."""

from __future__ import annotations

import pytest

from miras.model.weights import Backbones
from tests.unit.model.tiny_network import tiny_mini, write_backbones


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    """Random backbones with 16 image tokens."""
    return write_backbones(tmp_path_factory.mktemp("backbones"), tiny_mini())
