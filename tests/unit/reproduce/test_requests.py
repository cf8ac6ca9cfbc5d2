"""From a table and a preset to params.yaml of every run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

from miras.errors import ConfigError
from miras.reproduce.records import PaperTable, Request
from miras.reproduce.requests import places_in, request


def test_arms_differ_in_their_settings_and_seeds_in_training_alone(asked: Callable[[int], Request]) -> None:
    found = asked(2)
    assert [(run.arm, run.seed) for run in found.runs] == [("on", 0), ("off", 0), ("on", 1), ("off", 1)]
    first, off, second, _ = (run.params for run in found.runs)
    assert (first["network"]["dual_encoder"], off["network"]["dual_encoder"]) == (True, False)
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {"stage1", "stage2"}
    assert second["stage2"] == {**first["stage2"], "seed": first["stage2"]["seed"] + 1}
    assert len({run.folder for run in found.runs}) == 4


def test_an_arm_for_public_weights_needs_them(
    table: PaperTable, preset: dict[str, Any], networks: dict[str, Any], asked: Callable[[int], Request]
) -> None:
    assert "needs the public weights some/llava" in asked(1).absent["public"]
    preset["backbones"] = {"public": {"llava": "the/usual", "sam": "sam.pth"}, "mini": None}
    found = request("toy-9", table, preset="large", values=preset, networks=networks, seeds=1)
    assert found.absent == {}
    assert [run.params["backbones"]["public"]["llava"] for run in found.runs] == [
        "the/usual",
        "the/usual",
        "some/llava",
    ]


def test_a_mapping_is_replaced_as_a_whole(preset: dict[str, Any], networks: dict[str, Any], table: PaperTable) -> None:
    changed = table.model_copy(update={"shared": {"stage1.mixture": {"mrseg": 1}}})
    found = request("toy-9", changed, preset="smoke", values=preset, networks=networks, seeds=1)
    assert found.runs[0].params["stage1"]["mixture"] == {"mrseg": 1}
    assert preset["stage1"]["mixture"] != {"mrseg": 1}, "the preset itself stays"


def test_a_setting_that_the_preset_does_not_have_is_a_mistake(
    preset: dict[str, Any], networks: dict[str, Any], table: PaperTable
) -> None:
    changed = table.model_copy(update={"shared": {"stage1.stepps": 1}})
    with pytest.raises(ConfigError, match=r"arm 'on' sets stage1\.stepps, and the preset has no such key"):
        request("toy-9", changed, preset="smoke", values=preset, networks=networks, seeds=1)


@pytest.mark.parametrize("place", ["/big/features", "../features"])
def test_folders_that_all_runs_would_share_are_refused(
    place: str, preset: dict[str, Any], networks: dict[str, Any], table: PaperTable
) -> None:
    preset["paths"]["features"] = place
    with pytest.raises(ConfigError, match=r"paths\.features: .*lies outside of the workspace"):
        request("toy-9", table, preset="smoke", values=preset, networks=networks, seeds=1)


def test_no_seed_is_no_table(asked: Callable[[int], Request]) -> None:
    with pytest.raises(ConfigError, match="--seeds 0"):
        asked(0)


def test_what_settings_point_at_is_found_and_the_stages_own_folders_are_not(tmp_path: Path) -> None:
    for name in ("my_pictures", "data/ingest", "weights"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "weights" / "sam vit.pth").touch()
    params = {
        "paths": {"ingest": "data/ingest"},
        "ingest": {"sources": {"mugs": {"annotations": "my_pictures", "splits": ["train", "gone"]}}},
        "backbones": {"public": {"sam": "weights/sam vit.pth", "llava": "/etc"}},
        "network": {"system_prompt": "x" * 5000, "nul": "a\0b", "up": "../outside", "here": ".", "empty": ""},
    }
    assert places_in(params, tmp_path) == [PurePath("my_pictures"), PurePath("weights/sam vit.pth")]
