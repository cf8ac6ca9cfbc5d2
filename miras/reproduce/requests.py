"""From a table and a preset to the runs that are needed: params.yaml of every arm and seed."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from miras.errors import ConfigError
from miras.reproduce.records import Arm, PaperTable, Request, Run

SEEDED = ("stage1", "stage2")


def request(
    name: str, table: PaperTable, *, preset: str, values: Mapping[str, Any], networks: Mapping[str, Any], seeds: int
) -> Request:
    """What has to be run for a table.

    Args:
        name: of the table.
        preset: its name, for people.
        values: what the preset's file holds.
        networks: name -> what that file of presets/network holds.
        seeds: how many of every arm, at least 1.

    Raises:
        ConfigError: the preset keeps results outside of the workspace, an arm needs a setting that the preset does
            not have, or there is no seed.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least one run of every row is needed.")
    _check_paths(values, preset)
    absent = {arm: reason for arm, spec in table.arms.items() if (reason := _why_not(spec, values, preset))}
    runs = tuple(
        Run(
            name,
            preset,
            arm,
            seed,
            _params(values, networks, table.shared, spec, seed=seed, source=f"{name}, arm {arm!r}"),
        )
        for seed in range(seeds)
        for arm, spec in table.arms.items()
        if arm not in absent
    )
    return Request(name, table, preset, seeds, runs, absent, values["evaluate"].get("benchmarks") or {})


def texts_in(values: Any) -> Iterator[str]:
    """Every text in nested mappings and lists."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from texts_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from texts_in(value)


def _why_not(arm: Arm, values: Mapping[str, Any], preset: str) -> str:
    """Why this preset cannot train the arm; empty: it can."""
    if arm.llava is None or values["backbones"].get("public"):
        return ""
    return f"needs the public weights {arm.llava}; the mini encoders of preset {preset} come in one version only"


def _params(
    values: Mapping[str, Any],
    networks: Mapping[str, Any],
    shared: Mapping[str, Any],
    arm: Arm,
    *,
    seed: int,
    source: str,
) -> dict[str, Any]:
    params = copy.deepcopy(dict(values))
    if arm.network is not None:
        if arm.network not in networks:
            raise ConfigError(f"{source}: there is no network {arm.network!r}; known: {', '.join(networks)}.")
        _merge(params, networks[arm.network])
    settings = {**shared, **arm.settings}
    if arm.llava is not None:
        settings["backbones.public.llava"] = arm.llava
    for key, value in settings.items():
        _put(params, key, value, source)
    for section in SEEDED:
        params[section]["seed"] += seed
    return params


def _merge(params: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(params.get(key), dict):
            _merge(params[key], value)
        else:
            params[key] = copy.deepcopy(value)


def _put(params: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Replaces one setting: a mapping as a whole."""
    *sections, name = key.split(".")
    place: Any = params
    for section in sections:
        place = place.get(section) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place:
        raise ConfigError(f"{source} sets {key}, and the preset has no such key.")
    place[name] = copy.deepcopy(value)


def _check_paths(values: Mapping[str, Any], preset: str) -> None:
    """Every run has folders of its own only if the preset's are relative to the workspace."""
    outside = [
        f"paths.{name}: {place}"
        for name, place in values["paths"].items()
        if PurePath(place).is_absolute() or ".." in PurePath(place).parts
    ]
    if outside:
        raise ConfigError(
            f"presets/{preset}.yaml: {'; '.join(outside)} lies outside of the workspace, so all runs would write to "
            "one place. Name folders relative to the workspace."
        )


def places_in(params: Mapping[str, Any], root: Path) -> list[PurePath]:
    """What settings point at in the workspace `root`, relative to it: pictures, weights, word lists.

    The stages' own folders (`paths`) are left out.
    """
    texts = {text for name, section in params.items() if name != "paths" for text in texts_in(section)}
    places = (PurePath(text) for text in sorted(texts))
    return [
        place
        for place in places
        if place.parts and not place.is_absolute() and ".." not in place.parts and os.path.exists(root / place)
    ]
