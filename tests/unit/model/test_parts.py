"""Losses, frames, token rows, the feature store and mini pretraining against hand-made cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from miras.errors import DataError
from miras.model import losses
from miras.model.dense_targets import DenseBatch, named_masks, sample_at
from miras.model.features import INDEX, FeatureStore
from miras.model.mini import sam_shape
from miras.model.sam import build_sam, load_sam, save_sam
from miras.model.schedule import warm_up_decay
from miras.model.tokens import IGNORED, RowBuilder, TurnText
from miras.model.vision import frame, mask_to_frame, masks_from_frame
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.torchvision_compat import check_versions
from tests.unit.model.tiny_network import tiny_mini
from tests.unit.train.workspace import build_workspace


def test_bce_and_dice_equal_hand_computed_values() -> None:
    logits = torch.tensor([[[0.0, 100.0], [-100.0, 0.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert losses.mask_bce(logits, target).item() == pytest.approx(2 * math.log(2) / 4)
    # sigmoid: .5 1 / 0 .5; overlap 1.5, sums 2 and 2, epsilon 1
    assert losses.mask_dice(logits, target).item() == pytest.approx(1 - (2 * 1.5 + 1) / (2 + 2 + 1))


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_text_loss_is_the_sum_over_supervised_tokens_only(chunks: int) -> None:
    states, head = torch.randn(2, 3, 4, requires_grad=True), torch.nn.Linear(4, 7, bias=False)
    labels = torch.tensor([[IGNORED, 2, 3], [IGNORED, IGNORED, 1]])
    every = torch.nn.functional.cross_entropy(
        head(states).transpose(1, 2), labels, ignore_index=IGNORED, reduction="sum"
    )
    found = losses.text_cross_entropy(states, head, labels, chunks=chunks)
    torch.testing.assert_close(found, every)
    torch.testing.assert_close(*(torch.autograd.grad(loss, states)[0] for loss in (found, every)))


def test_the_options_of_the_mask_loss_are_off_by_default_and_zero_for_a_perfect_mask() -> None:
    target = torch.zeros(1, 8, 8)
    target[:, 2:6, 2:6] = 1
    perfect, wrong = (target - 0.5) * 100, torch.zeros(1, 8, 8)
    for option in ("boundary", "focal"):
        plain, more = losses.LossWeights(), losses.LossWeights(**{option: 1.0})
        assert losses.mask_sums(perfect, target, more)[2] == pytest.approx(0, abs=1e-6)
        assert losses.mask_sums(wrong, target, more)[2] > losses.mask_sums(wrong, target, plain)[2] + 1e-3
    unsure = torch.zeros(1, 8, 8, requires_grad=True)
    losses.mask_boundary(unsure + 0.1 * torch.randn(1, 8, 8), target).sum().backward()
    assert unsure.grad is not None
    assert unsure.grad.abs().sum() > 0, "the public code's boundary loss has no gradient; ours must"


@pytest.mark.parametrize(("height", "width"), [(480, 640), (683, 1024), (1024, 333), (90, 90)])
def test_a_mask_survives_the_way_through_the_frame(height: int, width: int) -> None:
    y, x = np.mgrid[:height, :width]
    mask = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3) ** 2
    framed = torch.from_numpy(mask_to_frame(mask, 256))[None] - 0.5
    back = masks_from_frame(framed, height=height, width=width)[0].numpy()
    assert (back & mask).sum() / (back | mask).sum() > 0.99


def test_no_part_of_a_picture_is_left_out_of_the_frame() -> None:
    picture = Image.new("RGB", (200, 50))
    for corner in ((0, 0), (199, 0), (0, 49), (199, 49)):
        picture.putpixel(corner, (255, 255, 255))
    square, (height, width) = frame(picture, 200)
    assert (height, width) == (50, 200)
    assert square[[0, 0, 49, 49], [0, 199, 0, 199]].min() == 255
    assert square[50:].max() == 0


def test_labels_cover_the_answers_and_their_end_alone(backbones: Backbones) -> None:
    tokenizer = backbones.tokenizer()
    builder = RowBuilder(tokenizer, num_image_tokens=4, system_prompt="", max_tokens=200, mask_memory="off")
    row = builder.training_row(
        [[TurnText("what is it", "a red mug"), TurnText("segment it", "{target}", ("mug",))]], names=["test"]
    )
    learned = [token for token in row.labels if token != IGNORED]
    assert tokenizer.decode(learned) == " a red mug</s>[OBJ] mug[SEG]</s>"
    assert row.ids[row.image_start : row.image_start + 4] == [builder.image_id] * 4
    (first, last) = row.spans[0]
    assert row.ids[first] == builder.obj_id
    assert row.ids[last + 1] == builder.seg_id


def test_slots_and_targets_must_agree(backbones: Backbones) -> None:
    builder = RowBuilder(backbones.tokenizer(), num_image_tokens=1, system_prompt="", max_tokens=200, mask_memory="off")
    with pytest.raises(DataError, match="1 slots for 0 targets"):
        builder.training_row([[TurnText("segment", "{target}")]], names=["test"])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("store"), pictures=5)


def open_store(paths: Paths) -> FeatureStore:
    return FeatureStore(Path(paths.features), fingerprint=Backbones(Path(paths.backbones)).manifest.fingerprint)


def test_stored_features_are_those_the_encoders_give(workspace: Paths) -> None:
    ids = ["scene-0-000004", "scene-0-000001", "scene-0-000004"]
    stored = open_store(workspace).read(ids)
    encoders = Backbones(Path(workspace.backbones)).encoders()
    fresh = encoders([Image.open(workspace.pictures / f"{image_id}.png").convert("RGB") for image_id in ids])
    for part in ("clip", "high", "sam"):
        torch.testing.assert_close(getattr(stored, part), getattr(fresh, part), rtol=1e-2, atol=1e-2)


def test_features_of_other_encoders_are_refused(workspace: Paths) -> None:
    with pytest.raises(DataError, match="made by encoders"):
        FeatureStore(Path(workspace.features), fingerprint="other")


def test_a_damaged_shard_and_a_missing_picture_are_named(workspace: Paths) -> None:
    with pytest.raises(DataError, match="no features of picture nobody"):
        open_store(workspace).read(["nobody"])
    shard = next(iter(json.loads((Path(workspace.features) / INDEX).read_text())["shards"]))
    path = Path(workspace.features) / shard
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{shard}: damaged"):
        open_store(workspace).read(["scene-0-000000"])


def test_sam_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    shape = sam_shape(tiny_mini().sam)
    save_sam(build_sam(shape), tmp_path / "sam.pth")
    load_sam(shape, tmp_path / "sam.pth")
    with pytest.raises(DataError, match="of another shape"):
        load_sam(shape.model_copy(update={"width": 32}), tmp_path / "sam.pth")


def test_named_masks_show_exactly_the_points_that_agree() -> None:
    part = np.zeros((1, 8, 8), np.int64)
    part[0, :4, :4], part[0, 4:, 4:] = 1, 1
    colour = np.zeros_like(part)
    colour[0, :4, :4], colour[0, 4:, 4:] = 1, 2
    batch = DenseBatch(pictures=[Image.new("RGB", (8, 8))], maps={"part": part, "colour": colour}, instance=part)
    seen = set()
    for seed in range(20):
        names, masks = named_masks(batch, {"part": 2, "colour": 3}, side=8, dice=np.random.default_rng(seed))
        name = tuple(torch.nonzero(names[0])[:, 0].tolist())
        expected = np.ones((8, 8), bool)
        for index in name:
            expected &= (part[0] == index) if index < 2 else (colour[0] == index - 2)
        assert np.array_equal(masks[0].bool().numpy(), expected)
        seen.add(name)
    assert {(1,), (3,), (1, 3), (4,), (1, 4)} == seen


def test_labels_are_sampled_at_the_middle_of_cells() -> None:
    labels = np.arange(16).reshape(1, 4, 4)
    assert sample_at(labels, 2).tolist() == [[[5, 7], [13, 15]]]


def test_the_rate_warms_up_stays_flat_and_decays_to_nothing() -> None:
    rates = [warm_up_decay(step, warm_up_steps=10, steps=100, flat_share=0.5) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[49] == 1.0
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


def test_a_torchvision_of_another_torch_is_named_with_the_remedy() -> None:
    check_versions("2.13.0+cpu", "0.28.0")
    with pytest.raises(Exception, match=r"torchvision 0\.27\.1 does not belong to torch 2\.13\.0.*make install"):
        check_versions("2.13.0", "0.27.1")
