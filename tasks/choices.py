"""What a flow's parameters may name in this workspace: presets, launch profiles, stages, tables.

A deployment's form shows them as choices: Prefect stores the list when `make deploy` makes the deployment. A preset
that is new since then needs `make deploy` once more.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML

from miras.launch import profiles
from miras.reproduce import catalogue
from tasks.preset import KEEP, NETWORKS, PRESETS

_GRAPH = Path("dvc.yaml")


def presets() -> list[str]:
    """Every preset, alone and with each network laid over it (`tiny+segllm`)."""
    sizes = _stems(PRESETS)
    return [*sizes, *(f"{size}+{network}" for size, network in product(sizes, _stems(NETWORKS)))]


def launch_profiles() -> list[str]:
    """Names of the files of infra/launch."""
    return _stems(profiles.FOLDER)


def stages(until: str | None = None) -> list[str]:
    """Names of the stages as dvc.yaml writes them, up to and with `until`; empty where there is no dvc.yaml."""
    if not _GRAPH.exists():
        return []
    names = list(YAML(typ="safe").load(_GRAPH)["stages"])
    return names[: names.index(until) + 1] if until in names else names


def default_launch() -> str:
    """The launch profile of a command that names none."""
    return os.environ.get(profiles.VARIABLE) or profiles.DEFAULT


def use_launch(name: str) -> None:
    """Has the stages that this process starts run where the launch profile says.

    Raises:
        ConfigError: there is no such profile (the message names the known ones), or it has mistakes.
    """
    profiles.read_launch(name)
    os.environ[profiles.VARIABLE] = name


def _stems(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def _one_of(names: list[str]) -> Any:
    """Metadata of a parameter that a form offers as choices; a free field where there is nothing to choose from."""
    return Field(json_schema_extra={"enum": [*names]} if names else None)


ALL = "all"
"""In the place of a stage's name: no stage is left out."""

Preset = Annotated[str, _one_of(presets())]
PresetOrKept = Annotated[str, _one_of([KEEP, *presets()])]
Launch = Annotated[str, _one_of(launch_profiles())]
StageOrAll = Annotated[str, _one_of([ALL, *stages()])]
DataStage = Annotated[str, _one_of(stages(until="check"))]
Table = Annotated[str, _one_of(catalogue.names())]
