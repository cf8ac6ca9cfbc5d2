"""Sections `stage1` and `stage2` of params.yaml. Light: no torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import DialogueKind

Part = Literal["language", "mining", "projector", "prompt_head", "alignment", "decoder", "memory"]


class TrainConfig(Section):
    """One training stage."""

    mixture: dict[DialogueKind, float]
    """Weight of each kind of dialogue (paper: stage 1 semantic 9, referring 6, vqa 2, caption 2; stage 2
    prist 4, vqa 1)."""
    frozen: list[Part]
    """Parts of the network that this stage does not train."""
    steps: int = Field(ge=1)
    """Optimiser steps."""
    global_batch_size: int = Field(ge=1)
    """Samples (rows) per optimiser step, over all processes and accumulation."""
    micro_batch_size: int = Field(ge=1)
    """Rows per process and forward pass; accumulation is derived and must come out even."""
    dialogues_per_row: int = Field(ge=1)
    """Dialogues about one picture that share a row: its prompt and image tokens are read once, and each dialogue
    sees these and itself alone. 1 as in the papers."""
    learning_rate: float = Field(gt=0)
    decoder_rate: float = Field(gt=0)
    """Learning rate of the mask decoder as a factor of `learning_rate`; 1 as in the papers."""
    boundary_weight: float = Field(ge=0)
    """Of the soft boundary loss; 0 as in the paper (its public code: 0.5, without gradient)."""
    focal_weight: float = Field(ge=0)
    """Of the focal loss; 0 as in the paper (its public code: 1)."""
    mask_side_px: int = Field(ge=0)
    """Side at which masks are compared; 0: the decoder's own output."""
    warm_up_steps: int = Field(ge=0)
    flat_share: float = Field(ge=0, le=1)
    """Share of the steps before the learning rate decays; 0 as in the papers."""
    clip_norm: float = Field(gt=0)
    checkpoint_every: int = Field(ge=1)
    """Steps between checkpoints."""
    validate_every: int = Field(ge=1)
    """Steps between looks at the validation split."""
    validation_rows: int = Field(ge=1)
    """Rows of the validation split looked at."""
    seed: int
