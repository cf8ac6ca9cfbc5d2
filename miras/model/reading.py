"""A language model that reads token by token: its layers called one by one, for answers only.

The library's own forward pass spends more time on choosing masks, caches and outputs than a small model spends on its
layers (measured, tiny preset, one CPU core: 0.9 ms a token against 0.35 ms), and it copies all keys and values for
every token. Here they lie in memory that is written in place, queries and keys are turned together, and norms and plain
linear layers are operations without the modules around them. Other projections (adapters, quantised ones) are called as
they are. The numbers are the library's (a test compares).
Letters: B rows, M tokens read at a time, L tokens of memory, W language width, H heads of keys, d their width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, rms_norm, scaled_dot_product_attention
from transformers import LlamaModel, MistralModel, Qwen2Model

from miras.errors import ConfigError

GROWTH_TOKENS = 32  # more memory is made when these are full
KINDS = (LlamaModel, MistralModel, Qwen2Model)
"""What public LLaVA checkpoints are built on; their layers have the same parts in the same order."""


Call = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Layer:
    """What a layer does with states [B * M, W], by what its parts are called in the library."""

    input_norm: Call
    query: Call
    key: Call
    value: Call
    output: Call
    feed_norm: Call
    gate: Call
    activation: Call
    up: Call
    down: Call

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        """A layer of one of `KINDS`."""
        attention, feed = layer.self_attn, layer.mlp
        return cls(
            input_norm=_norm(layer.input_layernorm),
            query=_projection(attention.q_proj),
            key=_projection(attention.k_proj),
            value=_projection(attention.v_proj),
            output=_projection(attention.o_proj),
            feed_norm=_norm(layer.post_attention_layernorm),
            gate=_projection(feed.gate_proj),
            activation=feed.act_fn,
            up=_projection(feed.up_proj),
            down=_projection(feed.down_proj),
        )


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
        self._memory: list[tuple[Tensor, Tensor]] = []
        self._layers = [_Layer.of(layer) for layer in language.layers]
        self._last_norm = _norm(language.norm)
        sizes: Any = language.config
        self._heads: tuple[int, int] = (sizes.num_attention_heads, sizes.num_key_value_heads)
        self._cosines, self._sines = self._turns()

    def _turns(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines [L, d] of the angles by which keys and queries are turned, per position; the first half of
        the sines is negated, as `_turned` needs them."""
        places = torch.arange(self._sees.shape[1], device=self._sees.device)
        cosines, sines = self._language.rotary_emb(
            torch.empty(0, dtype=self._dtype, device=places.device), places[None]
        )
        first, second = sines[0].chunk(2, dim=-1)
        return cosines[0], torch.cat((-first, second), dim=-1)

    def take(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Starts from keys and values [B, H, C, d] of each layer, C tokens read before."""
        self._memory = [(self._room(keys), self._room(values)) for keys, values in layers]
        self._length = layers[0][0].shape[2]

    def kept(self, row: int, places: Sequence[int]) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values [H, len(places), d] of a row's tokens, in memory of their own."""
        first, last, own = places[0], places[-1] + 1, self._memory
        if last - first == len(places):
            return tuple((keys[row, :, first:last].clone(), values[row, :, first:last].clone()) for keys, values in own)
        return tuple((keys[row][:, places], values[row][:, places]) for keys, values in own)

    def only(self, rows: Sequence[int]) -> None:
        """Goes on with some of the rows, in this order."""
        index = torch.tensor(rows, device=self._sees.device)
        self._sees = self._sees[index]
        self._has_padding = not bool(self._sees.all())
        self._memory = [(keys[index], values[index]) for keys, values in self._memory]

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
        turns = (self._cosines[positions][:, :, None], self._sines[positions][:, :, None])
        states = embedded.flatten(0, 1)
        for number, layer in enumerate(self._layers):
            states = self._layer(number, layer, states, start=start, mask=mask, turns=turns)
        return self._last_norm(states[count - 1 :: count])

    def _layer(
        self,
        number: int,
        layer: _Layer,
        states: Tensor,
        *,
        start: int,
        mask: Tensor | None,
        turns: tuple[Tensor, Tensor],
    ) -> Tensor:
        """One layer's states [B * M, W]."""
        count, (heads, key_heads) = self._length - start, self._heads
        rows = states.shape[0] // count
        normed = layer.input_norm(states)
        both = torch.cat((layer.query(normed), layer.key(normed)), dim=1).view(rows, count, heads + key_heads, -1)
        queries, keys = _turned(both, turns).transpose(1, 2).split_with_sizes((heads, key_heads), dim=1)
        values = layer.value(normed).view(rows, count, key_heads, -1).transpose(1, 2)
        all_keys, all_values = self._remembered(number, keys, values, start=start)
        found = scaled_dot_product_attention(
            queries,
            all_keys,
            all_values,
            attn_mask=mask,
            is_causal=mask is None and count > 1,
            enable_gqa=key_heads != heads,
        )
        states = states + layer.output(found.transpose(1, 2).reshape(rows * count, -1))
        normed = layer.feed_norm(states)
        return states + layer.down(layer.activation(layer.gate(normed)) * layer.up(normed))

    def _remembered(self, number: int, keys: Tensor, values: Tensor, *, start: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values [B, H, length, d] with the new ones, [B, H, M, d], at their end."""
        if number == len(self._memory):
            self._memory.append((self._room(keys), self._room(values)))
            return keys, values
        all_keys, all_values = self._memory[number]
        all_keys[:, :, start : self._length] = keys
        all_values[:, :, start : self._length] = values
        return all_keys[:, :, : self._length], all_values[:, :, : self._length]

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
        self._memory = [(self._room(keys), self._room(values)) for keys, values in self._memory]
        self._cosines, self._sines = self._turns()


def _projection(module: Any) -> Call:
    """What a projection does; the call of a plain linear layer takes longer than a small product (measured on CPU:
    6.5 us against 3 us)."""
    if type(module) is nn.Linear:  # adapters and quantised layers are of other types
        return partial(linear, weight=module.weight, bias=module.bias)
    call: Call = module
    return call


def _norm(module: Any) -> Call:
    """What the layer's own RMS norm gives, in float32 by fewer operations than its seven.

    In smaller dtypes they would round elsewhere than the library does.
    """
    weight, epsilon, width = module.weight, module.variance_epsilon, module.weight.shape[-1]
    scaled, least = weight * width**0.5, weight.new_tensor((width * epsilon) ** 0.5)

    def normed(states: Tensor) -> Tensor:
        if not states.dtype == weight.dtype == torch.float32:
            return module(states)
        if states.is_cuda:  # one operation there, and on CPU as many as the library's
            return rms_norm(states, weight.shape, weight, epsilon)
        return states * scaled / torch.linalg.vector_norm(states, dim=-1, keepdim=True).hypot_(least)

    return normed


def _turned(parts: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys [B, M, H, d] turned by their positions (rotary embedding of Llama)."""
    cosines, sines = turns
    return parts * cosines + parts.roll(parts.shape[-1] // 2, dims=-1) * sines
