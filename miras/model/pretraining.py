"""Dense-label training of the mini encoders: what public weights know, learned in minutes.

From each cell of SAM's embedding, and from each image token, a linear head tells the class in each label map and where
the centre of the object lies, for a few points of the cell; from CLIP's CLS, what an object cut out of the picture is.
Image tokens are CLIP's, once alone (as networks without second encoder use them) and once mined. The mask decoder
learns to segment what classes name ("red" and "mug"), and what a point or a box picks out: a published SAM's decoder
comes trained too. The heads are thrown away afterwards.
Letters: B pictures, s side of the grid of points, K classes of a map, D prompt width.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from miras.model.dense_targets import (
    DenseBatch,
    DenseSource,
    PickedOut,
    centre_offsets,
    named_masks,
    picked_out,
    sample_at,
)
from miras.model.mining import PatchMining
from miras.model.sam import Sam
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
from miras.progress import progress

CHECKPOINT, CHECKPOINT_EVERY = "checkpoint.pt", 100
WARM_UP_STEPS = 50
CENTRE_WEIGHT = 2.0
FOREGROUND_WEIGHT = 0.5
DECODER_RATE = 0.2  # of the learning rate: measured, the decoder leaves its plateau later at higher rates
CELLS = 4  # a token or embedding cell says CELLS x CELLS labels


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
