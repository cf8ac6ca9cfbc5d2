"""The same content is recognised; what inference needs is pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.errors import DataError
from tasks.registry.register import content_hash, requirements


def test_a_changed_weight_changes_the_hash_and_a_copy_does_not(workspace: Path) -> None:
    for name in ("a", "b"):
        (workspace / name / "deep").mkdir(parents=True)
        (workspace / name / "deep" / "weights").write_bytes(b"123")
    first, copy = (content_hash([workspace / name]) for name in ("a", "b"))
    (workspace / "b" / "deep" / "weights").write_bytes(b"124")
    assert first == copy != content_hash([workspace / "b"])


def test_missing_weights_are_named(workspace: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        content_hash([workspace / "nowhere"])


def test_requirements_are_pinned_without_local_versions() -> None:
    pins = dict(line.split("==") for line in requirements())
    assert pins["torch"].count(".") == 2
    assert not any("+" in version for version in pins.values())
