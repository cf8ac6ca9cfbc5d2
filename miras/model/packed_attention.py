"""Attention in packed rows: every dialogue of a row reads the row's prefix and itself, and nothing else is worked out.

A mask over the whole row would give the same numbers, but dialogues that do not see each other, and padding, would be
computed for nothing. Registered with transformers under `NAME`.
Letters: B rows, H heads of queries, G heads of keys, T tokens, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "miras_packed"

Packing = tuple[tuple[int, ...], ...]
"""Per row the tokens of its prefix and of each dialogue, in their order; the rest of the row is padding."""


def packing(parts: Tensor) -> Packing:
    """How rows are packed.

    Args:
        parts: int [B, T], see `Batch.parts`.
    """
    numbers = torch.arange(max(int(parts.max()), 0) + 1, device=parts.device)
    counts = (parts[:, None] == numbers[:, None]).sum(dim=2).tolist()
    return tuple((row[0], *(count for count in row[1:] if count)) for row in counts)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What every token has read, [B, T, H, d]; transformers' own function where nothing is packed.

    Args:
        module: whose attention it is.
        query: [B, H, T, d].
        key: [B, G, T, d].
        value: [B, G, T, d].
        attention_mask: read only where nothing is packed.
        packed: the rows' `packing`.
        options: transformers' own.
    """
    if packed is None:
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found, None
    rows = [
        _row(*(each[number : number + 1] for each in (query, key, value)), lengths=lengths, scale=options["scaling"])
        for number, lengths in enumerate(packed)
    ]
    return torch.cat(rows).transpose(1, 2), None


def _row(query: Tensor, key: Tensor, value: Tensor, *, lengths: tuple[int, ...], scale: float) -> Tensor:
    """One row, [1, H, T, d]; zeros at padding."""
    if len(lengths) <= 2:  # a dialogue alone reads on where the prefix ends
        lengths = (sum(lengths),)
    prefix, grouped = lengths[0], key.shape[1] != query.shape[1]
    shared_key, shared_value = key[:, :, :prefix], value[:, :, :prefix]
    found = []
    if prefix:
        found.append(
            scaled_dot_product_attention(
                query[:, :, :prefix], shared_key, shared_value, is_causal=True, scale=scale, enable_gqa=grouped
            )
        )
    start = prefix
    for length in lengths[1:]:
        own = slice(start, start + length)
        sees = torch.ones(length, prefix + length, dtype=torch.bool, device=query.device).tril(prefix)
        found.append(
            scaled_dot_product_attention(
                query[:, :, own],
                torch.cat((shared_key, key[:, :, own]), dim=2),
                torch.cat((shared_value, value[:, :, own]), dim=2),
                attn_mask=sees,
                scale=scale,
                enable_gqa=grouped,
            )
        )
        start += length
    like = found[0] if found else query  # under autocast what was found is of a smaller dtype than the query
    found.append(like.new_zeros(1, query.shape[1], query.shape[2] - start, query.shape[3]))
    return torch.cat(found, dim=2)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
