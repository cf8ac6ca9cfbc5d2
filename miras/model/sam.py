"""SAM built of segment_anything's own classes, at any size, and its weights with the published checkpoints' names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn

from miras.model.weight_files import check_weights, read_weights


class SamShape(BaseModel):
    """Sizes of a SAM; the published ones are `SAM_SHAPES`."""

    image_size_px: int = 1024
    patch_px: int = 16
    width: int
    layers: int
    heads: int
    global_attention: list[int]
    """Layers that attend globally; the others in windows."""
    window: int = 14
    prompt_width: int = 256
    relative_position: bool = True


SAM_SHAPES = {
    "vit_b": SamShape(width=768, layers=12, heads=12, global_attention=[2, 5, 8, 11]),
    "vit_l": SamShape(width=1024, layers=24, heads=16, global_attention=[5, 11, 17, 23]),
    "vit_h": SamShape(width=1280, layers=32, heads=16, global_attention=[7, 15, 23, 31]),
}


@dataclass(frozen=True)
class Sam:
    """The three parts of SAM."""

    image_encoder: ImageEncoderViT
    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder


def build_sam(shape: SamShape) -> Sam:
    """SAM of the given sizes with random weights, made of segment_anything's own classes."""
    side = shape.image_size_px // shape.patch_px
    return Sam(
        ImageEncoderViT(
            img_size=shape.image_size_px,
            patch_size=shape.patch_px,
            embed_dim=shape.width,
            depth=shape.layers,
            num_heads=shape.heads,
            out_chans=shape.prompt_width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=shape.relative_position,
            window_size=shape.window,
            global_attn_indexes=tuple(shape.global_attention),
        ),
        PromptEncoder(
            embed_dim=shape.prompt_width,
            image_embedding_size=(side, side),
            input_image_size=(shape.image_size_px, shape.image_size_px),
            mask_in_chans=16,
        ),
        MaskDecoder(
            transformer_dim=shape.prompt_width,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=shape.prompt_width, mlp_dim=8 * shape.prompt_width, num_heads=8
            ),
        ),
    )


def save_sam(sam: Sam, path: Path) -> None:
    """Writes the parts as one `.pth` or `.safetensors` with the published checkpoints' names."""
    weights = {f"{part}.{name}": value for part, name, value in _sam_weights(sam)}
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)


def load_sam(shape: SamShape, path: Path) -> Sam:
    """SAM with the weights of a `sam_vit_*.pth`, or of a `.safetensors` that `save_sam` wrote.

    Raises:
        DataError: no such file, damaged, or names or shapes differ from the given sizes.
    """
    stored = read_weights(path)
    sam = build_sam(shape)
    expected = {f"{part}.{name}": value.shape for part, name, value in _sam_weights(sam)}
    ignored = {"pixel_mean", "pixel_std"}
    check_weights({k: v.shape for k, v in stored.items() if k not in ignored}, expected, path=path)
    for part, module in vars(sam).items():
        prefix = f"{part}."
        module.load_state_dict({k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)})
    return sam


def _sam_weights(sam: Sam) -> Iterable[tuple[str, str, Tensor]]:
    for part, module in vars(sam).items():
        for name, value in module.state_dict().items():
            yield part, name, value
