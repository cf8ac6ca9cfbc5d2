"""Checkpoints: what comes back, what is refused, what survives."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from miras.errors import DataError, DiskFullError
from miras.train.checkpoint import FILE, PREVIOUS, Checkpoint

SETTINGS = {"network": {"lora_rank": 8, "parts": ("a", "b")}, "stage1": {"mixture": {"vqa": 1.0}, "seed": 0}}


class Small(nn.Module):
    """A frozen and two trained layers."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Linear(width, width), nn.Linear(width, 1))
        self.layers[0].requires_grad_(False)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self.named_parameters() if value.requires_grad)


def parts(width: int = 5) -> tuple[Small, torch.optim.Optimizer]:
    model = Small(width)
    return model, torch.optim.AdamW((value for _, value in model.trainable()), lr=0.1, fused=True)


def checkpoint(work: Path, settings: dict[str, object] | None = None) -> Checkpoint:
    return Checkpoint(work, Accelerator(cpu=True), configuration=settings or SETTINGS)


def train(model: Small, optimiser: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        torch.manual_seed(step)
        loss = model.layers(torch.randn(4, 3)).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


def test_what_is_loaded_trains_on_to_the_very_losses_of_what_was_saved(tmp_path: Path) -> None:
    model, optimiser = parts()
    train(model, optimiser, range(3))
    checkpoint(tmp_path).save(model, optimiser, step=3)
    other, fresh = parts()
    assert checkpoint(tmp_path).load(other, fresh) == 3
    assert train(other, fresh, range(3, 6)) == train(model, optimiser, range(3, 6))


def test_without_a_file_training_starts_at_step_0(tmp_path: Path) -> None:
    assert checkpoint(tmp_path).load(*parts()) == 0


def test_the_file_is_plain_safetensors_of_the_trained_parameters_alone(tmp_path: Path) -> None:
    model, optimiser = parts()
    train(model, optimiser, range(1))
    checkpoint(tmp_path).save(model, optimiser, step=1)
    stored = load_file(tmp_path / FILE)
    names = [f"layers.{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")]
    assert set(stored) == {f"{kind}.{name}" for name in names for kind in ("value", "exp_avg", "exp_avg_sq")}
    assert torch.equal(stored["value.layers.1.weight"], model.layers[1].weight)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_checkpoint_of_other_settings_is_refused_naming_them(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(*parts(), step=1)
    network = {"lora_rank": 16, "parts": ("a", "b")}
    with pytest.raises(DataError, match=r"network\.lora_rank is 16, there 8; stage1\.seed is 1, there 0\."):
        checkpoint(tmp_path, {"network": network, "stage1": {"mixture": {"vqa": 1.0}, "seed": 1}}).load(*parts())


def test_a_checkpoint_of_other_shapes_is_refused_naming_them(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(*parts(), step=1)
    with pytest.raises(DataError, match=r"of another shape: exp_avg\.layers\.1\.bias \(5,\), expected \(6,\)"):
        checkpoint(tmp_path).load(*parts(width=6))


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    checkpoint(tmp_path).save(*parts(), step=1)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-20] ^= 1
    damaged = {"cut": content[:-40], "bit": content, "empty": b"", "text": b"no checkpoint at all" * 10}[damage]
    (tmp_path / FILE).write_bytes(damaged)
    model, optimiser = parts()
    before = [value.clone() for value in model.parameters()]
    with pytest.raises(DataError, match=rf"{FILE}: damaged \(.+\)\. Delete {FILE} to"):
        checkpoint(tmp_path).load(model, optimiser)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)), "nothing was taken over"


def test_in_place_of_a_damaged_file_the_one_before_is_taken_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, optimiser = parts()
    checkpoint(tmp_path).save(model, optimiser, step=1)
    losses = train(model, optimiser, range(1, 2))
    checkpoint(tmp_path).save(model, optimiser, step=2)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-40])
    other, fresh = parts()
    assert checkpoint(tmp_path).load(other, fresh) == 1
    assert "damaged" in caplog.text
    assert "step 1" in caplog.text
    assert train(other, fresh, range(1, 2)) == losses
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(DataError, match=rf"damaged .*Delete {FILE} and {PREVIOUS} to start"):
        checkpoint(tmp_path).load(*parts())


def test_killed_between_the_two_moves_the_one_before_is_taken(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(*parts(), step=1)
    (tmp_path / FILE).rename(tmp_path / PREVIOUS)
    assert checkpoint(tmp_path).load(*parts()) == 1


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoint(tmp_path).save(*parts(), step=1)
    (tmp_path / f".{FILE}.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match="disk is full"):
        checkpoint(tmp_path).save(*parts(), step=2)
    assert checkpoint(tmp_path).load(*parts()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def save_forever(folder: str) -> None:
    """Runs in a process of its own, to be killed."""
    model, optimiser = parts(width=1000)  # 12 MB, so that most of the time goes into writing
    for step in itertools.count(1):
        checkpoint(Path(folder)).save(model, optimiser, step=step)


@pytest.mark.parametrize("after_s", [0.0, 0.015])
def test_kill_9_while_writing_leaves_a_whole_checkpoint(tmp_path: Path, after_s: float) -> None:
    model, optimiser = parts(width=1000)
    code = f"from {__name__} import save_forever; save_forever({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code])  # a fork would inherit OpenMP's threads and hang
    while not (tmp_path / f".{FILE}.partial").exists() or not (tmp_path / FILE).exists():
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.001)
    time.sleep(after_s)
    process.kill()
    process.wait()
    assert checkpoint(tmp_path).load(*parts(width=1000)) >= 1
    checkpoint(tmp_path).save(model, optimiser, step=7)
    assert {path.name for path in tmp_path.iterdir()} == {FILE, PREVIOUS}, "what was half written is not left behind"
