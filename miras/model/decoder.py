"""SAM's mask decoder over a whole batch: one call for all prompts of all pictures.

`segment_anything`'s own forward assumes one picture per call; here every prompt names its picture. Its two-way
transformer is called part by part, with attention that suits few tokens and many cells; the numbers are its own (tests
compare).
Letters: B pictures, n prompts, P sparse tokens per prompt, T decoder tokens (P and SAM's own), D prompt width,
g embedding side, C = g * g cells, 4g mask side, h heads, d their width.
"""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def decode_masks(
    decoder: MaskDecoder,
    prompt_encoder: PromptEncoder,
    *,
    image_embeddings: Tensor,
    prompts: Tensor,
    image_index: Tensor,
) -> Tensor:
    """Mask logits [n, 4g, 4g], SAM's first (single-mask) output.

    Args:
        image_embeddings: [B, D, g, g].
        prompts: [n, P, D] sparse prompt embeddings; no type or position is added.
        image_index: int [n], the picture of each prompt.
    """
    count, grid, device = prompts.shape[0], image_embeddings.shape[-1], prompts.device
    # Embeddings are called, not read: under ZeRO-3 a weight exists only while its module runs.
    dense = prompt_encoder.no_mask_embed(torch.zeros(1, dtype=torch.long, device=device))
    position = _cells(prompt_encoder.get_dense_pe()).to(image_embeddings.dtype)
    own = torch.cat(
        [
            decoder.iou_token(torch.zeros(1, dtype=torch.long, device=device)),
            decoder.mask_tokens(torch.arange(decoder.num_mask_tokens, device=device)),
        ]
    )
    tokens = torch.cat([own.expand(count, -1, -1), prompts.to(own.dtype)], dim=1)
    cells = (_cells(image_embeddings) + dense)[image_index]
    hidden, seen = _two_ways(decoder.transformer, tokens, cells, position=position)
    upscaled = decoder.output_upscaling(seen.transpose(1, 2).unflatten(2, (grid, grid)))
    kernel = decoder.output_hypernetworks_mlps[0](hidden[:, 1])  # token 0 is the IoU token
    return torch.einsum("nc,nchw->nhw", kernel, upscaled)


def _cells(maps: Tensor) -> Tensor:
    """Maps [B, D, g, g] as cells [B, C, D]."""
    return maps.flatten(2).transpose(1, 2)


def _two_ways(
    transformer: TwoWayTransformer, tokens: Tensor, cells: Tensor, *, position: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens [n, T, D] and cells [n, C, D] that have looked at each other; `position`: [1, C, D] of the cells."""
    states = tokens
    for layer in transformer.layers:
        states, cells = _layer(layer, states, cells, tokens=tokens, position=position)
    attention = transformer.final_attn_token_to_image
    states = states + _attended(attention, states + tokens, cells + position, cells)
    return transformer.norm_final_attn(states), cells


def _layer(
    layer: TwoWayAttentionBlock, states: Tensor, cells: Tensor, *, tokens: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """One layer's states of the tokens and cells."""
    if layer.skip_first_layer_pe:  # SAM's first layer replaces the tokens instead of adding to them
        states = layer.norm1(_attended(layer.self_attn, states, states, states))
    else:
        placed = states + tokens
        states = layer.norm1(states + _attended(layer.self_attn, placed, placed, states))
    placed_cells = cells + position
    states = layer.norm2(states + _attended(layer.cross_attn_token_to_image, states + tokens, placed_cells, cells))
    states = layer.norm3(states + layer.mlp(states))
    seen = _attended_by_cells(layer.cross_attn_image_to_token, placed_cells, states + tokens, states)
    return states, layer.norm4(cells + seen)


def _attended(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What queries [n, q, D] see of values [n, k, D]."""
    asked, offered, told = _projected(attention, queries, keys, values)
    return _joined(attention, scaled_dot_product_attention(asked, offered, told))


def _attended_by_cells(attention: Attention, cells: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As `_attended`, for cells that look at a handful of tokens.

    Scores are [n, h, T, C], so that the softmax runs over whole rows of cells: over rows of six tokens each it takes
    most of the time (measured on CPU, 256 cells: 228 us against 10 us).
    """
    asked, offered, told = _projected(attention, cells, keys, values)
    scores = (offered / math.sqrt(offered.shape[-1])) @ asked.transpose(2, 3)
    return _joined(attention, scores.softmax(dim=2).transpose(2, 3) @ told)


def _projected(attention: Attention, *inputs: Tensor) -> list[Tensor]:
    """Queries, keys and values [n, h, _, d] of what they are made from, [n, _, D]."""
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return [
        projection(given).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for projection, given in zip(projections, inputs, strict=True)
    ]


def _joined(attention: Attention, seen: Tensor) -> Tensor:
    """What all heads [n, h, _, d] saw, [n, _, D]."""
    joined: Tensor = attention.out_proj(seen.transpose(1, 2).flatten(2))
    return joined
