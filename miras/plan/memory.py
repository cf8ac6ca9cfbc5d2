"""Bytes of memory that one process needs, by part.

Exact: weights, gradients, optimiser state (every parameter's bytes), stored features. Activations are formulas,
checked against what autograd keeps on a CPU in float32 (tests); in bf16 on a GPU they are estimates.
Letters: B rows, T tokens of the longest row, L layers, W F V widths of the language model (hidden, feed-forward,
vocabulary), N image tokens, Cl Ch D channels of CLIP, ConvNeXt and prompts, g embedding side, n targets,
b bytes of an activation (bf16 2 on a GPU, float32 4 on a CPU).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from miras.model.blueprint import Blueprint, PartSize
from miras.model.losses import CHUNK

FLOAT32 = 4
DECODER_MAPS = 24  # float32 maps [g, g, D] that SAM's mask decoder keeps per target (measured: 24.0 at g 64)
LOSS_MAPS = 8  # float32 maps of the target's side that the mask losses keep (assumed)
REDUCE_BUCKET = 500_000_000  # elements; DeepSpeed's buffer for gradients on their way, as the papers set it
LIVE_PARAMETERS = 1_000_000_000  # parameters that ZeRO-3 keeps gathered at most (DeepSpeed's default)
CUDA_CONTEXT = 1_000_000_000  # CUDA, cuBLAS and NCCL (assumed)
PROCESS = 600_000_000  # Python with torch and transformers on a CPU (measured 0.42 GB before the model, rounded up)
FRAGMENTATION = 0.05  # of the rest, lost between the allocator's blocks (assumed)


@dataclass(frozen=True)
class TrainingSetup:
    """What decides a training stage's memory beside the model."""

    is_gpu: bool
    processes: int
    zero_stage: int
    gradient_checkpointing: bool
    micro_batch_size: int
    row_tokens: int
    """Of the longest row."""
    row_targets: int
    """Masks decoded for one row, at most."""
    mask_side_px: int
    """Side at which masks are compared."""
    is_packed: bool
    """Whether rows hold several dialogues, which takes a mask [T, T] of who sees whom."""


@dataclass(frozen=True)
class Shapes:
    """Sizes that activations depend on."""

    layers: int
    width: int
    feed_forward: int
    vocabulary: int
    image_tokens: int
    clip_width: int
    high_width: int
    """0 without second encoder or mining."""
    high_grid: int
    prompt_width: int
    embedding_side: int
    has_lora: bool

    @property
    def picture_features(self) -> int:
        """Numbers that the feature store holds per picture; the high-resolution map counts where it is encoded."""
        high = self.high_width * self.high_grid**2
        return self.image_tokens * self.clip_width + high + self.prompt_width * self.embedding_side**2


def shapes_of(blueprint: Blueprint) -> Shapes:
    """The sizes of a model."""
    network, encoders = blueprint.network, blueprint.encoders
    language: Any = network.language.config
    clip: Any = encoders.clip.config
    high = sum(encoders.convnext.config.hidden_sizes or []) if encoders.convnext else 0
    patch = int(encoders.sam.patch_embed.proj.kernel_size[0])
    return Shapes(
        layers=language.num_hidden_layers,
        width=language.hidden_size,
        feed_forward=language.intermediate_size,
        vocabulary=language.vocab_size,
        image_tokens=(clip.image_size // clip.patch_size) ** 2,
        clip_width=clip.hidden_size,
        high_width=high,
        high_grid=encoders.high_grid,
        prompt_width=int(network.mask_decoder.transformer_dim),
        embedding_side=encoders.sam.img_size // patch,
        has_lora=network.config.language_training == "lora",
    )


def training_memory(
    shapes: Shapes, sizes: Sequence[PartSize], setup: TrainingSetup, *, mines: bool
) -> dict[str, float]:
    """Bytes per process of a training stage that reads stored features.

    Args:
        shapes: of the model.
        sizes: of the network's parts; the frozen encoders are not in memory.
        setup: how it is trained.
        mines: whether the patch mining runs.
    """
    trainable = sum(size.trainable for size in sizes)
    parts = weight_memory(sum(size.total for size in sizes) - trainable, trainable, setup)
    parts |= activation_memory(shapes, setup, mines=mines)
    parts["features of the batch"] = setup.micro_batch_size * shapes.picture_features * FLOAT32
    parts["CUDA context" if setup.is_gpu else "process"] = CUDA_CONTEXT if setup.is_gpu else PROCESS
    parts["fragmentation"] = FRAGMENTATION * sum(parts.values())
    return parts


def weight_memory(frozen: int, trainable: int, setup: TrainingSetup) -> dict[str, float]:
    """Weights, gradients and optimiser state of one of N processes.

    ZeRO 0: frozen b, trainable float32 (4), gradients 4, Adam 8 per parameter; autocast keeps a bf16 copy of what is
    trained (2), several processes a second copy of the gradients in buckets (4).
    ZeRO 2: all weights b on every process; gradients 4/N, float32 master weights and Adam 12/N; two reduce buckets.
    ZeRO 3: also the weights are b/N, with up to `LIVE_PARAMETERS` gathered at a time.
    """
    b, count = (2 if setup.is_gpu else FLOAT32), setup.processes
    if setup.zero_stage == 0:
        return {
            "frozen weights": frozen * b,
            "trainable weights": trainable * FLOAT32,
            "gradients": trainable * FLOAT32,
            "Adam state": trainable * 2 * FLOAT32,
            "autocast copies": trainable * b if setup.is_gpu else 0,
            "gradient buckets": trainable * FLOAT32 if count > 1 else 0,
        }
    shared = count if setup.zero_stage == 3 else 1
    bucket = REDUCE_BUCKET if setup.is_gpu else min(REDUCE_BUCKET, trainable)  # a CPU gives pages when they are used
    return {
        "frozen weights": frozen * b / shared,
        "trainable weights": trainable * b / shared,
        "gathered weights": min(LIVE_PARAMETERS, frozen + trainable) * b if setup.zero_stage == 3 else 0,
        "gradients": trainable * FLOAT32 / count,
        "Adam state": trainable * 3 * FLOAT32 / count,
        "gradient buckets": (2 if setup.is_gpu else 1) * bucket * b,
    }


def activation_memory(shapes: Shapes, setup: TrainingSetup, *, mines: bool) -> dict[str, float]:
    """What autograd keeps of a micro-batch.

    Language model: B T L `layer_bytes` (+ the mask b T^2 per row and layer when packed); with gradient checkpointing
    the layers' inputs B T L W b and one whole layer. The backward pass holds one more layer's gradients.
    Image tokens, per picture: projector b N (Cl + 2 W), mining b (grid^2 (3 Ch + 2 Cl) + 4 N Cl).
    Mask decoder, per target: `DECODER_MAPS` float32 maps [g, g, D]; autocast halves about half of them.
    Text: logits of up to `CHUNK` supervised tokens (half a row is supervised), their softmax and its gradient.
    """
    b = 2 if setup.is_gpu else FLOAT32
    rows, tokens = setup.micro_batch_size, setup.row_tokens
    seen = b * rows * tokens**2 if setup.is_packed else 0
    layer = rows * tokens * layer_bytes(shapes, is_gpu=setup.is_gpu) + seen
    if setup.gradient_checkpointing:
        language = shapes.layers * rows * tokens * shapes.width * b + 2 * layer
    else:
        language = (shapes.layers + 1) * layer
    pictures = b * rows * shapes.image_tokens * (shapes.clip_width + 2 * shapes.width)
    if mines:
        cells = shapes.high_grid**2 * (3 * shapes.high_width + 2 * shapes.clip_width)
        pictures += b * rows * (cells + 4 * shapes.image_tokens * shapes.clip_width)
    map_bytes = shapes.embedding_side**2 * shapes.prompt_width * (FLOAT32 + b) / 2
    target = DECODER_MAPS * map_bytes + LOSS_MAPS * setup.mask_side_px**2 * FLOAT32
    supervised = min(CHUNK, rows * (tokens - shapes.image_tokens) // 2)
    return {
        "language activations": language,
        "image token activations": pictures,
        "mask decoder activations": rows * setup.row_targets * target,
        "text logits": supervised * shapes.vocabulary * (b + 3 * FLOAT32),
    }


def layer_bytes(shapes: Shapes, *, is_gpu: bool) -> int:
    """What one layer of the language model keeps per token.

    float32 inputs of both norms 8 W; query, key, value and output of attention 4 b W (keys and values spread over
    all heads); gate, its activation and up 3 b F. With LoRA: the dropped-out input of two adapters 2 (b + m) W, m
    bytes of dropout mask (1 on a GPU, 4 on a CPU). Trained whole: outputs of both norms, before and after their
    weights, 4 b W, and the input of the down projection b F.
    """
    b, mask = (2, 1) if is_gpu else (FLOAT32, FLOAT32)
    width, feed_forward = shapes.width, shapes.feed_forward
    kept = 8 * width + 4 * b * width + 3 * b * feed_forward
    return kept + (2 * (b + mask) * width if shapes.has_lora else 4 * b * width + b * feed_forward)


def encoding_memory(
    shapes: Shapes, encoders: Sequence[PartSize], *, pictures: int, heads: int, is_gpu: bool
) -> dict[str, float]:
    """Bytes of the stage `features`, float32, for a batch of `pictures`.

    SAM's global attention makes [heads, g^2, g^2] logits and keeps three of them at once: product, with relative
    positions, softmax.
    """
    parts: dict[str, float] = {
        "encoder weights": sum(size.total for size in encoders) * FLOAT32,
        "SAM attention": 3 * pictures * heads * shapes.embedding_side**4 * FLOAT32,
        "features of the batch": pictures * shapes.picture_features * FLOAT32,
        "CUDA context" if is_gpu else "process": CUDA_CONTEXT if is_gpu else PROCESS,
    }
    parts["fragmentation"] = FRAGMENTATION * sum(parts.values())
    return parts
