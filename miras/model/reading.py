"""A language model that reads token by token: its layers called one by one, for answers only.

The library's own forward pass spends more time on choosing masks, caches and outputs than a small model spends on its
layers (measured, tiny preset: 1.9 ms a token against 0.7 ms), and it copies all keys and values for every token. Here
they lie in memory that is written in place, norms are one operation and queries and keys are turned together.
Projections and feed-forward parts are the model's own modules, so adapters work and the numbers are the library's (a
test compares).
Letters: B rows, M tokens read at a time, L tokens of memory, W language width, H heads of keys, d their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, rms_norm, scaled_dot_product_attention
from transformers import LlamaModel, MistralModel, Qwen2Model

from miras.errors import ConfigError

GROWTH_TOKENS = 32  # more memory is made when these are full
KINDS = (LlamaModel, MistralModel, Qwen2Model)
"""What public LLaVA checkpoints are built on; their layers have the same parts in the same order."""


class Reading:
    """Rows that are being read, aligned at their ends; what was read is kept as keys and values."""

    def __init__(
        self, language: LlamaModel | MistralModel | Qwen2Model, *, is_token: Tensor, dtype: torch.dtype
    ) -> None:
        """Nothing is read yet.

        Args:
            language: in evaluation mode.
            is_token: bool [B, T], False at padding, of what `take` and the first `read` are given.
            dtype: of embeddings.

        Raises:
            ConfigError: another kind of language model.
        """
        if not isinstance(language, KINDS):
            known = ", ".join(kind.__name__ for kind in KINDS)
            raise ConfigError(
                f"the language model is a {type(language).__name__}, and only {known} can answer. "
                "Choose a LLaVA checkpoint built on one of them."
            )
        if len(set(getattr(language.config, "layer_types", None) or [""])) > 1:
            raise ConfigError(
                "the language model sees through windows in some layers and not in others, which cannot answer yet. "
                "Choose a LLaVA checkpoint without (`layer_types` in its config.json)."
            )
        self._language, self._dtype = language, dtype
        self._window: int | None = getattr(language.config, "sliding_window", None)
        self._sees = pad(is_token, (0, GROWTH_TOKENS), value=True)
        self._has_padding = not bool(is_token.all())
        self._length = 0
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._cosines, self._sines = self._turns()

    def _turns(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines [L, d] of the angles by which keys and queries are turned, per position."""
        places = torch.arange(self._sees.shape[1], device=self._sees.device)
        cosines, sines = self._language.rotary_emb(
            torch.empty(0, dtype=self._dtype, device=places.device), places[None]
        )
        return cosines[0], sines[0]

    def take(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Starts from keys and values [B, H, C, d] of each layer, C tokens read before."""
        self._layers = [(self._room(keys), self._room(values)) for keys, values in layers]
        self._length = layers[0][0].shape[2]

    def kept(self, row: int, places: Sequence[int]) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values [H, len(places), d] of a row's tokens, in memory of their own."""
        first, last, own = places[0], places[-1] + 1, self._layers
        if last - first == len(places):
            return tuple((keys[row, :, first:last].clone(), values[row, :, first:last].clone()) for keys, values in own)
        return tuple((keys[row][:, places], values[row][:, places]) for keys, values in own)

    def only(self, rows: Sequence[int]) -> None:
        """Goes on with some of the rows, in this order."""
        index = torch.tensor(rows, device=self._sees.device)
        self._sees = self._sees[index]
        self._has_padding = not bool(self._sees.all())
        self._layers = [(keys[index], values[index]) for keys, values in self._layers]

    def read(self, embedded: Tensor, positions: Tensor) -> Tensor:
        """States [B, W] of the last layer at the last token.

        Args:
            embedded: [B, M, W], what is read next.
            positions: int [B, M], each token's place in its row.
        """
        count, start = embedded.shape[1], self._length
        self._length = start + count
        if self._length > self._sees.shape[1]:
            self._grow()
        mask = self._mask(start, count)
        turns = (self._cosines[positions][:, None], self._sines[positions][:, None])
        states = embedded
        for number, layer in enumerate(self._language.layers):
            states = self._layer(number, layer, states, start=start, mask=mask, turns=turns)
        last = _normed(self._language.norm, states[:, -1:])[:, 0]
        return last

    def _layer(
        self, number: int, layer: Any, states: Tensor, *, start: int, mask: Tensor | None, turns: tuple[Tensor, Tensor]
    ) -> Tensor:
        """One layer's states [B, M, W]."""
        attention, rows, count = layer.self_attn, states.shape[0], states.shape[1]
        normed = _normed(layer.input_layernorm, states)
        shape = (rows, count, -1, attention.head_dim)
        asked, offered = attention.q_proj(normed).view(shape), attention.k_proj(normed).view(shape)
        turned = _turned(torch.cat((asked, offered), dim=2).transpose(1, 2), turns)
        queries, keys = turned.split((asked.shape[2], offered.shape[2]), dim=1)
        values = attention.v_proj(normed).view(shape).transpose(1, 2)
        if number == len(self._layers):
            self._layers.append((self._room(keys), self._room(values)))
        else:
            all_keys, all_values = self._layers[number]
            all_keys[:, :, start : self._length] = keys
            all_values[:, :, start : self._length] = values
        all_keys, all_values = self._layers[number]
        found = scaled_dot_product_attention(
            queries,
            all_keys[:, :, : self._length],
            all_values[:, :, : self._length],
            attn_mask=mask,
            is_causal=mask is None and count > 1,
            enable_gqa=keys.shape[1] != queries.shape[1],
        )
        states = states + attention.o_proj(found.transpose(1, 2).reshape(rows, count, -1))
        changed: Tensor = states + layer.mlp(_normed(layer.post_attention_layernorm, states))
        return changed

    def _mask(self, start: int, count: int) -> Tensor | None:
        """Bool [B, 1, M, L], True where a new token sees another; None: each sees all before it."""
        window = self._window if self._window is not None and self._length > self._window else None
        if not self._has_padding and window is None and (count == 1 or start == 0):
            return None
        sees = self._sees[:, None, None, : self._length]
        if count == 1 and window is None:
            return sees
        places = torch.arange(self._length, device=sees.device)
        own = places[start:, None]
        if window is not None:
            sees = sees & (places > own - window)
        return (sees & (places <= own)) | (places == own)  # padding sees itself: nothing to see would be no number

    def _room(self, read: Tensor) -> Tensor:
        """Memory [B, H, L, d] that begins with what was read, [B, H, M, d]."""
        room = read.new_zeros(read.shape[0], read.shape[1], self._sees.shape[1], read.shape[3])
        room[:, :, : read.shape[2]] = read
        return room

    def _grow(self) -> None:
        self._sees = pad(self._sees, (0, GROWTH_TOKENS), value=True)
        self._layers = [(self._room(keys), self._room(values)) for keys, values in self._layers]
        self._cosines, self._sines = self._turns()


def _normed(norm: Any, states: Tensor) -> Tensor:
    """What the layer's own RMS norm gives, [B, M, W]; in float32 by one operation instead of seven.

    In smaller dtypes one operation would round elsewhere than the library does.
    """
    if states.dtype == norm.weight.dtype == torch.float32:
        return rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)
    normed: Tensor = norm(states)
    return normed


def _turned(parts: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys [B, H, M, d] turned by their positions (rotary embedding of Llama)."""
    cosines, sines = turns
    first, second = parts.chunk(2, dim=-1)
    return parts * cosines + torch.cat((-second, first), dim=-1) * sines
