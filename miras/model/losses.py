"""The losses of the PRIST paper, eq. 8, with the definitions of fact sheet 1.9.

total = 1.0 * cross-entropy + 2.0 * BCE + 0.5 * Dice. Letters: n masks, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TEXT_WEIGHT = 1.0
BCE_WEIGHT = 2.0
DICE_WEIGHT = 0.5
DICE_EPSILON = 1.0  # smooths empty and one-pixel targets; negligible against areas of tens of pixels


def mask_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of [n, H, W] logits, mean over pixels, then over masks; target in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2)).mean()


def mask_dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice of [n, H, W] logits, mean over masks; target in [0, 1]."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(1, 2))
    total = probability.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return (1 - (2 * overlap + DICE_EPSILON) / (total + DICE_EPSILON)).mean()


def text_cross_entropy(states: Tensor, head: torch.nn.Module, labels: Tensor) -> Tensor:
    """Cross-entropy over supervised tokens only; logits are never made for the others.

    Args:
        states: [B, T, D] last-layer states.
        head: maps [k, D] to vocabulary logits.
        labels: int [B, T] ids to be predicted BY that position (already shifted), -100 where unsupervised.
    """
    supervised = labels != -100
    return F.cross_entropy(head(states[supervised]).float(), labels[supervised])
