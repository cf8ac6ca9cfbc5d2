"""What is recorded of where a registered version comes from: code, data, settings, checkpoint, scores.

The stage `register` writes it as one tag of the version, so that it is there whole or not at all.
"""

from __future__ import annotations

from typing import Any

from miras.dialogue.records import Frozen

TAG = "lineage"


class BenchmarkData(Frozen):
    """What a benchmark's scores were measured on."""

    sha256: str
    """Over the questions with their truth, and the pictures' own hashes: equal only for the very same test."""
    questions: int


class Score(Frozen):
    """A headline number."""

    value: float
    benchmark: str
    """Key of `Lineage.test_data`."""


class Settings(Frozen):
    """The parameter file of a version."""

    sha256: str
    """Of params.yaml; the file itself lies with the version, artifact `artifacts/params.yaml`."""
    preset: str
    """File of presets/ that it differs from least, with the network laid over it: `tiny`, `tiny+segllm`."""
    changes: dict[str, tuple[Any, Any]]
    """Key -> (the preset's value, the version's); None: not there."""
    network: str
    """File of presets/network/ whose settings it has, empty: none of them."""


class Lineage(Frozen):
    """All that made a version."""

    commit: str
    """Of the code; empty outside of a git repository."""
    is_dirty: bool
    """Whether tracked files differed from the commit."""
    data: str
    """Version of the data set (miras.origins)."""
    inputs: dict[str, str]
    """Path -> DVC's content hash, of all that any stage read on the way to the weights and the scores."""
    params: Settings
    checkpoint_sha256: str
    """Of the trained weights' file."""
    model_hash: str
    """Over backbones, trained weights and the code that answers: the same model has the same."""
    test_data: dict[str, BenchmarkData]
    """Benchmark -> what it asked."""
    scores: dict[str, Score]
    """Every headline number by its name in scores.json."""
