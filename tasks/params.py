"""Reads params.yaml: which class describes each section. Classes are imported only when they are needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miras.config import Section, parse_sections, read_yaml

PARAMS = Path("params.yaml")

SECTIONS: dict[str, str] = {
    "paths": "miras.paths:Paths",
    "ingest": "miras.sources.config:IngestConfig",
    "generate": "miras.generate.config:GenerateConfig",
    "annotate": "miras.annotate.config:AnnotateConfig",
    "check": "miras.quality.config:CheckConfig",
    "split": "miras.quality.config:SplitConfig",
    "card": "miras.card.config:CardConfig",
    "backbones": "miras.model.config:BackbonesConfig",
    "features": "miras.model.config:FeaturesConfig",
    "network": "miras.model.config:NetworkConfig",
    "stage1": "miras.train.config:TrainConfig",
    "stage2": "miras.train.config:TrainConfig",
    "evaluate": "miras.evaluate.config:EvaluateConfig",
    "judge": "miras.evaluate.judge.config:JudgeConfig",
    "report": "miras.evaluate.config:ReportConfig",
    "register": "tasks.registry.register:RegisterConfig",
    "promote": "tasks.registry.gates:PromoteConfig",
}


def load(path: Path = PARAMS) -> dict[str, Any]:
    """Every section of a parameter file, parsed.

    Raises:
        ConfigError: with one line per mistake, over all sections.
    """
    return parse(read_yaml(path), source=str(path))


def parse(values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Every section of what a parameter file holds, parsed; `source` is its name in messages.

    Raises:
        ConfigError: with one line per mistake, over all sections.
    """
    classes: dict[str, type[Section]] = {name: load_object(where) for name, where in SECTIONS.items()}
    return parse_sections(values, classes, source=source)


def load_object(where: str) -> Any:
    """What `module:name` points at."""
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists stay values."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat
