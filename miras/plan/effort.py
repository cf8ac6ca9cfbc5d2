"""Steps, samples and hours of the stages that compute: an estimate from counted operations.

The forward pass is counted by torch's own counter on the model without weights. Training multiplies it:
language model 2 where its weights are frozen (LoRA: forward, and backward to the inputs alone), 3 where they are
trained, and 1 more with gradient checkpointing (6 N D with all weights trained, 4 N D with LoRA); every other part 3.
Hours = samples * operations per sample / (FLOP/s of a process * processes). Evaluation, the training of mini
encoders and data work are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from miras.model.blueprint import Blueprint
from miras.model.config import NetworkConfig
from miras.model.vision import PictureFeatures, clip_tokens, high_resolution_map
from miras.plan.memory import Shapes
from miras.train.config import TrainConfig

TOKENS_PER_WORD = 1.3  # of English text in LLaMA's vocabulary (assumed)
DIALOGUE_TOKENS = {"prist": 160, "mrseg": 160}  # assumed: 120 of content and 10 per round
ONE_TURN_TOKENS = 40  # of the other kinds (assumed)
TARGETS = {"prist": 1, "semantic": 1, "referring": 1, "mrseg": 4}  # masks of a dialogue; none for other kinds


@dataclass(frozen=True)
class Effort:
    """What a stage computes."""

    steps: int
    samples: int
    row_tokens: int
    """Of an average row."""
    flops: float
    """Of the whole stage."""

    def hours(self, flops_per_second: float) -> float:
        """Estimated time at a sustained speed of all processes together."""
        return self.flops / flops_per_second / 3600


def mean_over_kinds(mixture: Mapping[Any, float], values: Mapping[str, int], *, otherwise: int) -> float:
    """The mean of a value per kind of dialogue, by the weights of the mixture."""
    return sum(weight * values.get(kind, otherwise) for kind, weight in mixture.items()) / sum(mixture.values())


def mean_row_tokens(shapes: Shapes, network: NetworkConfig, config: TrainConfig) -> int:
    """Expected tokens of a row: prefix, image, and its dialogues (assumed lengths)."""
    prefix = TOKENS_PER_WORD * len(network.system_prompt.split()) + 4 + shapes.image_tokens
    dialogue = mean_over_kinds(config.mixture, DIALOGUE_TOKENS, otherwise=ONE_TURN_TOKENS)
    return round(prefix + config.dialogues_per_row * dialogue)


def row_targets(network: NetworkConfig, config: TrainConfig) -> int:
    """Masks decoded for one row at most: of its dialogues, and as many references where these are learned."""
    most = max((TARGETS.get(kind, 0) for kind, weight in config.mixture.items() if weight), default=0)
    with_references = network.mask_memory != "off" and network.reference_loss
    return config.dialogues_per_row * most * (2 if with_references else 1)


def training_effort(
    blueprint: Blueprint,
    shapes: Shapes,
    network: NetworkConfig,
    config: TrainConfig,
    *,
    gradient_checkpointing: bool,
) -> Effort:
    """Operations of a training stage."""
    tokens = mean_row_tokens(shapes, network, config)
    is_trained = network.language_training == "full" and "language" not in config.frozen
    language = (3 if is_trained else 2) + gradient_checkpointing
    supervised = (tokens - shapes.image_tokens) / 2
    targets = config.dialogues_per_row * mean_over_kinds(config.mixture, TARGETS, otherwise=0)
    per_row = (
        language * language_flops(blueprint, shapes, tokens=tokens)
        + (3 if is_trained else 2) * 2 * supervised * shapes.vocabulary * shapes.width
        + 3 * image_token_flops(blueprint, shapes)
        + 3 * targets * decoder_flops(blueprint, shapes)
    )
    samples = config.steps * config.global_batch_size
    return Effort(config.steps, samples, tokens, samples * per_row)


def language_flops(blueprint: Blueprint, shapes: Shapes, *, tokens: int) -> int:
    """Forward operations of the language model for one row, without its output layer."""
    embedded = torch.empty(1, tokens, shapes.width, device="meta")
    return _count(lambda: blueprint.network.states(embedded))


def image_token_flops(blueprint: Blueprint, shapes: Shapes) -> int:
    """Forward operations of mining and projector for one picture."""
    high = None
    if shapes.high_width:
        high = torch.empty(1, shapes.high_width, shapes.high_grid, shapes.high_grid, device="meta")
    features = PictureFeatures(
        torch.empty(1, shapes.image_tokens, shapes.clip_width, device="meta"),
        high,
        torch.empty(1, shapes.prompt_width, shapes.embedding_side, shapes.embedding_side, device="meta"),
    )
    return _count(lambda: blueprint.network.image_tokens(features))


def decoder_flops(blueprint: Blueprint, shapes: Shapes) -> int:
    """Forward operations of the mask decoder for one target."""
    prompts = torch.empty(1, 1, shapes.prompt_width, device="meta")
    embedding = torch.empty(1, shapes.prompt_width, shapes.embedding_side, shapes.embedding_side, device="meta")
    first = torch.zeros(1, dtype=torch.long, device="meta")
    return _count(lambda: blueprint.network.mask_logits(prompts, image_embeddings=embedding, picture_index=first))


def encoder_flops(blueprint: Blueprint) -> int:
    """Forward operations of the frozen encoders for one picture."""
    encoders = blueprint.encoders

    def encode() -> None:
        clip_tokens(encoders.clip, _picture(encoders.clip_size_px), layer=encoders.clip_layer)
        if encoders.convnext is not None:
            high_resolution_map(encoders.convnext, _picture(encoders.high_size_px), grid=encoders.high_grid)
        encoders.sam(_picture(encoders.sam.img_size))

    return _count(encode)


def _picture(side: int) -> torch.Tensor:
    return torch.empty(1, 3, side, side, device="meta")


def _count(run: Callable[[], object]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
