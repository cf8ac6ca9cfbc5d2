"""The losses of the PRIST paper, eq. 8, with the definitions of its code, and that code's two options.

total = 1.0 * cross-entropy + 2.0 * BCE + 0.5 * Dice. Letters: n masks, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

DICE_EPSILON = 1.0  # smooths empty and one-pixel targets; negligible against areas of tens of pixels
FOCAL_POWER = 2.0
CHUNK = 2048  # supervised tokens whose logits may exist at a time: [2048, 32000] in float32 is 260 MB


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the defaults are eq. 8."""

    text: float = 1.0
    bce: float = 2.0
    dice: float = 0.5
    boundary: float = 0.0
    focal: float = 0.0


def mask_sums(logits: Tensor, target: Tensor, weights: LossWeights) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over masks of BCE, of 1 - Dice and of all weighted terms together.

    Args:
        logits: [n, h, w]; scaled to the target's size where that differs.
        target: [n, H, W] in [0, 1].
        weights: of the terms.
    """
    logits = at_side(logits, target.shape[-1]).float()
    bce, dice = mask_bce(logits, target).sum(), mask_dice(logits, target).sum()
    total = weights.bce * bce + weights.dice * dice
    if weights.boundary:
        total = total + weights.boundary * mask_boundary(logits, target).sum()
    if weights.focal:
        total = total + weights.focal * mask_focal(logits, target).sum()
    return bce, dice, total


def at_side(logits: Tensor, side: int) -> Tensor:
    """Logits [n, s, s] as [n, side, side]."""
    if logits.shape[-1] == side:
        return logits
    return F.interpolate(logits[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]


def mask_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy per mask [n] of [n, H, W] logits, mean over pixels; target in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))


def mask_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice per mask [n] of [n, H, W] logits; target in [0, 1]."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(1, 2))
    total = probability.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return 1 - (2 * overlap + DICE_EPSILON) / (total + DICE_EPSILON)


def mask_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss per mask [n]: BCE weighted per pixel by (1 - probability of the truth)^2, mean over pixels."""
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = (logits.sigmoid() - target).abs()
    return (missed**FOCAL_POWER * each).mean(dim=(1, 2))


def mask_boundary(logits: Tensor, target: Tensor) -> Tensor:
    """Soft boundary loss per mask [n]: squared difference of Sobel magnitudes, mean over pixels.

    On probabilities, so that it has a gradient; the public code's has none.
    """
    return (_edges(logits.sigmoid()) - _edges(target)).square().mean(dim=(1, 2))


def _edges(masks: Tensor) -> Tensor:
    """Sobel magnitude [n, H, W], in 1 per pixel."""
    across = masks.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    padded = F.pad(masks[:, None], (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, torch.stack([across, across.T])[:, None])
    return (slopes.square().sum(dim=1) + 1e-12).sqrt()


def text_cross_entropy(states: Tensor, head: torch.nn.Module, labels: Tensor, *, chunks: int) -> Tensor:
    """Sum of cross-entropy over supervised tokens; logits are never made for the others, nor for all at once.

    Args:
        states: [B, T, D] last-layer states.
        head: maps [k, D] to vocabulary logits.
        labels: int [B, T] ids to be predicted BY that position (already shifted), -100 where unsupervised.
        chunks: in how many parts, one after the other.
    """
    supervised = labels != -100
    chosen, wanted = states[supervised], labels[supervised]
    if chunks == 1:
        return _cross_entropy(chosen, wanted, head)
    parts = zip(chosen.tensor_split(chunks), wanted.tensor_split(chunks), strict=True)
    return torch.stack([checkpoint(_cross_entropy, *part, head, use_reentrant=False) for part in parts]).sum()


def _cross_entropy(states: Tensor, labels: Tensor, head: torch.nn.Module) -> Tensor:
    return F.cross_entropy(head(states).float(), labels, reduction="sum")
