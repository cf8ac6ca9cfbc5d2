"""The stage `backbones`: mini ones, their interruption, public ones by path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from miras.errors import ConfigError, DataError
from miras.model import pretraining
from miras.model.backbones import run, train_split_source
from miras.model.config import BackbonesConfig, Mini
from miras.model.sam import build_sam, save_sam
from miras.model.weights import Backbones
from miras.paths import Paths
from tests.unit.model.tiny_network import network_config, tiny_mini
from tests.unit.train.workspace import build_workspace


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("backbones_stage"), pictures=4)


def mini(**changes: object) -> Mini:
    base = tiny_mini()
    return base.model_copy(update={"pretraining": base.pretraining.model_copy(update={"steps": 4} | changes)})


def weights(paths: Paths) -> dict[str, torch.Tensor]:
    backbones = Backbones(Path(paths.backbones))
    return backbones.encoders().state_dict() | {
        f"network.{name}": value
        for name, value in backbones.network(network_config(), backbones.tokenizer()).named_parameters()
        if "mask_decoder" in name or "mining" in name
    }


def make(paths: Paths, work: Path) -> dict[str, torch.Tensor]:
    work.mkdir(exist_ok=True)
    run(paths=paths, work=work, backbones=BackbonesConfig(mini=mini(), public=None))
    return weights(paths)


def test_an_interrupted_pretraining_ends_with_the_weights_of_one_that_was_not(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(paths, tmp_path / "whole")
    monkeypatch.setattr(pretraining, "CHECKPOINT_EVERY", 2)
    save = pretraining.save_checkpoint

    def save_then_die(*args: object, step: int) -> None:
        save(*args, step=step)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining, "save_checkpoint", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        make(paths, tmp_path / "cut")
    monkeypatch.setattr(pretraining, "save_checkpoint", save)
    resumed = make(paths, tmp_path / "cut")
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, msg=name)


def test_the_data_sets_own_regions_can_take_the_place_of_rendered_scenes(paths: Paths) -> None:
    source = train_split_source(mini(pictures="train_split"), paths)
    batch = source.batch(0)
    assert batch.maps["category"].shape == (2, 64, 64)
    assert batch.maps["category"].max() < source.num_classes["category"]
    assert (source.batch(0).maps["category"] == batch.maps["category"]).all()
    assert (source.batch(1).maps["category"] != batch.maps["category"]).any()


def test_public_weights_by_path_are_pinned_and_give_the_same_network(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from miras.model import backbones as stage

    whole = make(paths, tmp_path / "work")
    folder = Path(paths.backbones).rename(tmp_path / "published")
    shape = Backbones(folder).manifest.sam_shape
    monkeypatch.setattr(stage, "SAM_SHAPES", {"vit_b": shape})
    public = {
        "llava": str(folder / "llava"),
        "convnext": str(folder / "convnext"),
        "sam": str(folder / "sam.pth"),
        "sam_type": "vit_b",
        "convnext_image_size_px": 64,
        "convnext_grid": 8,
    }
    config = BackbonesConfig.model_validate({"mini": None, "public": public})
    run(paths=paths, work=tmp_path, backbones=config)
    encoders = Backbones(Path(paths.backbones)).encoders().state_dict()
    for name, value in encoders.items():
        torch.testing.assert_close(value, whole[name], msg=name)
    save_sam(build_sam(shape.model_copy(update={"width": 32})), folder / "sam.pth")
    with pytest.raises(DataError, match="weights do not fit"):
        run(paths=paths, work=tmp_path, backbones=config)


def test_exactly_one_kind_of_backbones_must_be_given(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        run(paths=paths, work=tmp_path, backbones=BackbonesConfig(mini=None, public=None))
