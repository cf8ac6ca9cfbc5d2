"""Dense-label training of the mini encoders: what public weights know, learned in minutes (tiny.md, stage 0).

From each cell of SAM's embedding, and from each image token, a linear head tells the class in each label map and where
the centre of the object lies, for a few points of the cell; from CLIP's CLS, what an object cut out of the picture is.
Image tokens are CLIP's, once alone (as networks without second encoder use them) and once mined. The mask decoder
learns to segment what classes name ("red" and "mug"), and what a point or a box picks out: a published SAM's decoder
comes trained too. The heads are thrown away afterwards.
Letters: B pictures, s side of the grid of points, K classes of a map, D prompt width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModel, ConvNextModel

from miras.files import finished_file
from miras.metrics_log import METRICS, MetricsLog
from miras.model import losses
from miras.model.config import Mini
from miras.model.decoder import decode_masks
from miras.model.memory import frame_box, region_crop
from miras.model.mining import PatchMining
from miras.model.schedule import warm_up_decay
from miras.model.vision import (
    CLIP_MEAN,
    CLIP_STD,
    SAM_MEAN,
    SAM_STD,
    clip_tokens,
    high_resolution_map,
    normalised_frames,
)
from miras.model.weights import Sam
from miras.progress import progress

CHECKPOINT, CHECKPOINT_EVERY = "checkpoint.pt", 100
WARM_UP_STEPS = 50
CENTRE_WEIGHT = 2.0
FOREGROUND_WEIGHT = 0.5
DECODER_RATE = 0.2  # of the learning rate: measured, the decoder leaves its plateau later at higher rates
PICKED = 2  # every second picture also shows one object picked out: by a point, by a box, cut out
CELLS = 4  # a token or embedding cell says CELLS x CELLS labels


@dataclass(frozen=True)
class DenseBatch:
    """Pictures with a class per pixel in each of several label maps."""

    pictures: list[Image.Image]
    """Square, all of one size."""
    maps: dict[str, np.ndarray]
    """Map name -> int [B, H, W], 0 = none of the classes."""
    instance: np.ndarray
    """int [B, H, W], 0 = background, else a number per object."""


@dataclass(frozen=True)
class DenseSource:
    """Batches without end, and the number of classes of each map, background included."""

    batch: Callable[[int], DenseBatch]
    """The batch of a step, always the same one."""
    num_classes: Mapping[str, int]


@dataclass(frozen=True)
class PickedOut:
    """An object of each of n pictures."""

    picture: Tensor
    """int [n], index of its picture in the batch."""
    cut_outs: list[Image.Image]
    """The object alone, on black."""
    labels: Mapping[str, Tensor]
    """Map name -> int [n], its most common class there, 0 = none."""
    points: Tensor
    """float [n, 2], (x, y) of one of its pixels, in pixels of SAM's input."""
    boxes: Tensor
    """float [n, 4], (x0, y0, x1, y1), likewise."""
    masks: Tensor
    """float [n, s, s]."""


@dataclass(frozen=True)
class Told:
    """Outputs of the heads and of the mask decoder."""

    tokens: Tensor
    """[2B, sum K + 2, s, s]: CLIP's alone, then mined."""
    pixels: Tensor
    """[B, sum K + 2, s, s], another s."""
    cut_outs: Tensor
    """[n, sum K]."""
    named: Tensor
    """Mask logits [B, s, s]."""
    picked: Tensor
    """Mask logits [2n, s, s]: by points, then by boxes."""


class MiniEncoders(nn.Module):
    """The encoders in training with their heads."""

    def __init__(
        self, mini: Mini, *, clip: CLIPVisionModel, convnext: ConvNextModel, sam: Sam, source: DenseSource
    ) -> None:
        super().__init__()
        self.mini = mini
        self.classes = dict(source.num_classes)
        self.clip, self.convnext, self.sam_encoder = clip, convnext, sam.image_encoder
        self.mining = PatchMining(low_width=mini.clip.width, high_width=sum(mini.convnext.widths))
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder
        width = mini.sam.prompt_width
        self.name_head = nn.Sequential(
            nn.Linear(sum(self.classes.values()), width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width)
        )
        outputs = sum(self.classes.values()) + 2
        self.mask_side = CELLS * mini.sam.image_size_px // mini.sam.patch_px
        self.cut_out_head = nn.Linear(mini.clip.width, sum(self.classes.values()))
        self.token_head = DenseHead(mini.clip.width, outputs)
        self.pixel_head = DenseHead(mini.sam.prompt_width, outputs)

    def forward(self, pictures: list[Image.Image], names: Tensor, picked: PickedOut) -> Told:
        """What image tokens, SAM's embedding and CLIP's CLS tell, and the masks of what is named and picked out.

        Args:
            pictures: B pictures.
            names: float [B, sum K], 1 for each class that together name something in the picture.
            picked: objects of some of the pictures.
        """
        low = normalised_frames(pictures, self.mini.clip.image_size_px, mean=CLIP_MEAN, std=CLIP_STD)
        high = normalised_frames(pictures, self.mini.convnext.image_size_px, mean=CLIP_MEAN, std=CLIP_STD)
        whole = normalised_frames(pictures, self.mini.sam.image_size_px, mean=SAM_MEAN, std=SAM_STD)
        alone = clip_tokens(self.clip, low, layer=-1)
        mined = self.mining(alone, high_resolution_map(self.convnext, high, grid=self.mini.convnext.grid))
        tokens = torch.cat([alone, mined])
        side = round(tokens.shape[1] ** 0.5)
        grid = tokens.transpose(1, 2).unflatten(2, (side, side))
        embedding = self.sam_encoder(whole)
        cut_outs = normalised_frames(picked.cut_outs, self.mini.clip.image_size_px, mean=CLIP_MEAN, std=CLIP_STD)
        return Told(
            tokens=self.token_head(grid),
            pixels=self.pixel_head(embedding),
            cut_outs=self.cut_out_head(self.clip(pixel_values=cut_outs).last_hidden_state[:, 0]),
            named=self._masks(self.name_head(names)[:, None], embedding, torch.arange(len(pictures))),
            picked=torch.cat(
                [
                    self._masks(self._prompts(points=picked.points), embedding, picked.picture),
                    self._masks(self._prompts(boxes=picked.boxes), embedding, picked.picture),
                ]
            ),
        )

    def _prompts(self, *, points: Tensor | None = None, boxes: Tensor | None = None) -> Tensor:
        """SAM's prompts [n, 2, D] of one point [n, 2] or one box [n, 4] each, in pixels of its frame."""
        labelled = None if points is None else (points[:, None], torch.ones(len(points), 1))
        sparse: Tensor = self.prompt_encoder(points=labelled, boxes=boxes, masks=None)[0]
        return sparse

    def _masks(self, prompts: Tensor, embedding: Tensor, picture: Tensor) -> Tensor:
        return decode_masks(
            self.mask_decoder, self.prompt_encoder, image_embeddings=embedding, prompts=prompts, image_index=picture
        )


class DenseHead(nn.Sequential):
    """Says CELLS x CELLS labels per cell; linear, so that what it says stands plainly in the features."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(width, CELLS * CELLS * outputs, 1), nn.PixelShuffle(CELLS))


def pretrain(model: MiniEncoders, source: DenseSource, *, mini: Mini, work: Path) -> dict[str, float]:
    """Trains the encoders in place; goes on from the checkpoint in `work` if there is one.

    Writes `metrics.jsonl` in `work`; returns the last figures.
    """
    config = mini.pretraining
    optimiser = torch.optim.AdamW(parameter_groups(model, config.learning_rate), betas=(0.9, 0.99), fused=True)
    rates = [group["lr"] for group in optimiser.param_groups]
    done = load_checkpoint(work / CHECKPOINT, model, optimiser)
    log = MetricsLog(work / METRICS, keep_until=done)
    figures: dict[str, float] = {}
    bar = progress(total=config.steps, name="mini encoders", unit="step")
    bar.update(done)
    for step in range(done, config.steps):
        factor = warm_up_decay(step, warm_up_steps=WARM_UP_STEPS, steps=config.steps, flat_share=0.4)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        figures = _step(model, optimiser, source, seed=config.seed, step=step)
        log.add(figures, step=step, samples=(step + 1) * config.batch_size)
        log.write(force=step + 1 == config.steps)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(work / CHECKPOINT, model, optimiser, step=step + 1)
        bar.set_postfix_str(f"loss {figures['loss']:.2f}", refresh=False)
        bar.update(1)
    bar.close()
    return figures


def parameter_groups(model: MiniEncoders, learning_rate: float) -> list[dict[str, Any]]:
    """The encoders' parameters, and the decoder's at a lower rate."""
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, value in model.named_parameters():
        groups[name.startswith(("mask_decoder", "name_head", "prompt_encoder"))].append(value)
    return [
        {"params": groups[False], "lr": learning_rate},
        {"params": groups[True], "lr": DECODER_RATE * learning_rate},
    ]


def _step(
    model: MiniEncoders, optimiser: torch.optim.Optimizer, source: DenseSource, *, seed: int, step: int
) -> dict[str, float]:
    """One optimiser step; its loss and how well each side tells the classes."""
    batch = source.batch(step)
    dice = np.random.default_rng((seed, step))
    names, named = named_masks(batch, model.classes, side=model.mask_side, dice=dice)
    picked = picked_out(batch, side=model.mask_side, frame_px=model.mini.sam.image_size_px, dice=dice)
    found: Told = model(batch.pictures, names, picked)
    alone, mined = found.tokens.chunk(2)
    alone_loss, alone_told = dense_objective(alone, batch, model.classes)
    token_loss, told = dense_objective(mined, batch, model.classes)
    pixel_loss, seen = dense_objective(found.pixels, batch, model.classes)
    _, named_dice, named_loss = losses.mask_sums(found.named, named, losses.LossWeights())
    _, picked_dice, picked_loss = losses.mask_sums(found.picked, picked.masks.repeat(2, 1, 1), losses.LossWeights())
    cut_loss, recognised = cut_out_objective(found.cut_outs, picked.labels, model.classes)
    num_picked = max(1, len(found.picked))
    loss = alone_loss + token_loss + pixel_loss + named_loss / len(named) + picked_loss / num_picked + cut_loss
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return {
        "loss": loss.item(),
        "named_dice": 1 - named_dice.item() / len(named),
        "picked_dice": 1 - picked_dice.item() / num_picked,
        **{f"cut_out_{name}": value for name, value in recognised.items()},
        **{f"clip_{name}": value for name, value in alone_told.items()},
        **{f"token_{name}": value for name, value in told.items()},
        **{f"pixel_{name}": value for name, value in seen.items()},
    }


def save_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, *, step: int) -> None:
    """Writes the state after `step` steps, aside and then moved."""
    with finished_file(path) as aside:
        torch.save({"step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict()}, aside)


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Restores the last state, if there is one; returns the steps done."""
    if not path.exists():
        return 0
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(stored["model"])
    optimiser.load_state_dict(stored["optimiser"])
    return int(stored["step"])


def named_masks(
    batch: DenseBatch, classes: Mapping[str, int], *, side: int, dice: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Something to segment in each picture: all points that agree with one of them in some label maps.

    Returns:
        float [B, sum K], 1 for the classes in those maps, and float [B, side, side], 1 where all of them hold.
    """
    starts = dict(zip(classes, np.cumsum([0, *classes.values()])[:-1], strict=True))
    grids = {name: sample_at(batch.maps[name], side) for name in classes}
    first = next(iter(classes))
    names = torch.zeros(len(batch.pictures), sum(classes.values()))
    masks = torch.zeros(len(batch.pictures), side, side)
    for picture in range(len(batch.pictures)):
        present = np.unique(grids[first][picture])
        present = present[present > 0]
        if not len(present):
            continue  # nothing is labelled here: an empty name, an empty mask
        places = np.argwhere(grids[first][picture] == dice.choice(present))
        y, x = places[dice.integers(len(places))]
        shown = [name for name in classes if grids[name][picture, y, x] > 0]
        chosen = [name for name in shown if dice.random() < 0.5] or [shown[dice.integers(len(shown))]]
        agree = np.ones((side, side), bool)
        for name in chosen:
            label = grids[name][picture, y, x]
            names[picture, starts[name] + label] = 1
            agree &= grids[name][picture] == label
        masks[picture] = torch.from_numpy(agree)
    return names, masks


def picked_out(batch: DenseBatch, *, side: int, frame_px: int, dice: np.random.Generator) -> PickedOut:
    """An object in every PICKED-th picture that shows one: by a point in it, by its box, and cut out.

    Args:
        batch: the pictures.
        side: of the masks.
        frame_px: side of SAM's input, whose pixels points and boxes are in.
        dice: chooses.
    """
    scale = frame_px / batch.instance.shape[-1]
    pictures, cut_outs, points, boxes, masks = [], [], [], [], []
    labels: dict[str, list[int]] = {name: [] for name in batch.maps}
    for picture in range(0, len(batch.pictures), PICKED):
        present = np.unique(batch.instance[picture])
        present = present[present > 0]
        if not len(present):
            continue
        here = batch.instance[picture] == dice.choice(present)
        y, x = np.argwhere(here)[dice.integers(int(here.sum()))]
        pictures.append(picture)
        cut_outs.append(region_crop(batch.pictures[picture], here))
        points.append(((float(x) + 0.5) * scale, (float(y) + 0.5) * scale))
        boxes.append(frame_box(here, frame_px))
        masks.append(sample_at(here[None].astype(np.float32), side)[0])
        for name, classes in batch.maps.items():
            counts = np.bincount(classes[picture][here])
            counts[0] = 0
            labels[name].append(int(counts.argmax()))
    return PickedOut(
        picture=torch.tensor(pictures, dtype=torch.long),
        cut_outs=cut_outs,
        labels={name: torch.tensor(values, dtype=torch.long) for name, values in labels.items()},
        points=torch.tensor(points, dtype=torch.float32).view(-1, 2),
        boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        masks=torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, side, side),
    )


def cut_out_objective(
    logits: Tensor, labels: Mapping[str, Tensor], classes: Mapping[str, int]
) -> tuple[Tensor, dict[str, float]]:
    """Mean cross-entropy of every map over cut-out objects, and the share of right labels.

    Args:
        logits: [n, sum K].
        labels: map -> int [n], 0 = none.
        classes: map -> number of classes.
    """
    loss, start, scores = logits.sum() * 0.0, 0, {}
    for name, count in classes.items():
        part, wanted = logits[:, start : start + count], labels[name]
        start += count
        if len(wanted):
            loss = loss + F.cross_entropy(part, wanted)
            scores[name] = float((part.argmax(dim=1) == wanted).float().mean())
    return loss, scores


def dense_objective(logits: Tensor, batch: DenseBatch, classes: Mapping[str, int]) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of every map plus distance to the object's centre, at the resolution of the logits.

    Args:
        logits: [B, sum K + 2, s, s], the classes of each map, then (y, x) to the centre.
        batch: the labels.
        classes: map -> number of classes.

    Returns:
        The loss, and per map the share of right labels where there is any.
    """
    side = logits.shape[-1]
    loss, start, scores = logits.new_zeros(()), 0, {}
    for name, count in classes.items():
        target = torch.from_numpy(sample_at(batch.maps[name], side)).long()
        part = logits[:, start : start + count]
        loss = loss + balanced_cross_entropy(part, target)
        inside = target > 0
        right = (part.argmax(dim=1) == target)[inside]
        scores[f"{name}_accuracy"] = float(right.float().mean()) if len(right) else 0.0
        start += count
    offsets, is_object = centre_offsets(sample_at(batch.instance, side))
    distance = (logits[:, -2:] - torch.from_numpy(offsets)).abs().sum(dim=1)
    weight = torch.from_numpy(is_object).float()
    return loss + CENTRE_WEIGHT * (distance * weight).sum() / weight.sum().clamp(min=1), scores


def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over all points plus mean over the points that show a class: rare maps (lettering) count too.

    Args:
        logits: [B, K, s, s].
        target: int [B, s, s], 0 = none.
    """
    each = F.cross_entropy(logits, target, reduction="none")
    inside = (target > 0).float()
    return each.mean() + FOREGROUND_WEIGHT * (each * inside).sum() / inside.sum().clamp(min=1)


def sample_at(labels: np.ndarray, side: int) -> np.ndarray:
    """Labels [B, H, W] at the middle of each cell of a [side, side] grid."""
    step = labels.shape[-1] / side
    index = ((np.arange(side) + 0.5) * step).astype(int)
    return labels[:, index[:, None], index[None, :]]


def centre_offsets(instance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each pixel to the middle of its object's box, in sides of the frame.

    Args:
        instance: int [B, s, s], 0 = background.

    Returns:
        float32 [B, 2, s, s] (y, x), and bool [B, s, s] where an object is.
    """
    batch, side, _ = instance.shape
    offsets = np.zeros((batch, 2, side, side), np.float32)
    rows, columns = np.mgrid[:side, :side]
    for picture in range(batch):
        for number in np.unique(instance[picture]):
            if number == 0:
                continue
            here = instance[picture] == number
            y, x = np.nonzero(here)
            offsets[picture, 0][here] = ((y.min() + y.max()) / 2 - rows[here]) / side
            offsets[picture, 1][here] = ((x.min() + x.max()) / 2 - columns[here]) / side
    return offsets, instance > 0
