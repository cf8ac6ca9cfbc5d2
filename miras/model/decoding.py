"""Greedy decoding of token rows on top of the keys and values of what was read before.

A `Prefix` knows which tokens its keys and values belong to, so it can be used for any row that begins alike: the next
turn of a dialogue, the same dialogue with a turn undone, a branch of it. What does not match is read anew.
Letters: B rows, T tokens of the longest row, C cached tokens of the longest prefix, M new ones, W language width,
H heads, d their width.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from miras.model.network import MirasNetwork

MAX_NEW_TOKENS = 96  # of one answer; the longest answers of the data sets have about half of that


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the first tokens of a row. Never changed in place: a branch shares them."""

    tokens: tuple[Hashable, ...]
    """What each token was: its id, and where it stands for a mask also which mask."""
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Per layer keys and values [H, tokens, d]."""

    def common(self, tokens: Sequence[Hashable]) -> int:
        """How many tokens of a row it holds: the row's last one is always read anew, its state is asked for."""
        pairs = zip(self.tokens, tokens[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(part.nbytes for layer in self.layers for part in layer)


@dataclass(frozen=True)
class Spoken:
    """What one row generated."""

    ids: list[int]
    states: Tensor
    """[len(ids) + 1, W]: the state that predicted each id, and the one after the last."""
    is_cut: bool
    """Whether the longest length allowed was reached before the end."""
    prefix: Prefix | None
    """Of the row with its answer, end token included; None unless it was to be kept."""


@dataclass(frozen=True)
class PromptRow:
    """A row to be answered."""

    tokens: list[Hashable]
    """As in `Prefix`."""
    embedded: Tensor
    """[tokens, W]."""
    prefix: Prefix | None
    """Of an earlier answer about the same picture."""


def generate(
    network: MirasNetwork, rows: Sequence[PromptRow], *, end_id: int, keep: bool = False, limit: int = MAX_NEW_TOKENS
) -> Generator[list[int | None], None, list[Spoken]]:
    """Answers all rows together; yields after every step the token that each chose (None: it has ended).

    Rows are aligned at their ends, where answers begin, so padding lies before the cached and before the new tokens.

    Args:
        network: in evaluation mode.
        rows: what is asked.
        end_id: the token that ends an answer.
        keep: whether keys and values are handed back for the next turn.
        limit: longest answer, tokens.

    Returns:
        What each row said.
    """
    known = [0 if row.prefix is None else row.prefix.common(row.tokens) for row in rows]
    new = [len(row.tokens) - count for row, count in zip(rows, known, strict=True)]
    cached, fresh, device = max(known), max(new), rows[0].embedded.device
    embedded = torch.stack([_right_aligned(row.embedded[-count:], fresh) for row, count in zip(rows, new, strict=True)])
    attention = torch.zeros(len(rows), cached + fresh, dtype=torch.long, device=device)
    positions = torch.zeros(len(rows), fresh, dtype=torch.long, device=device)
    for number, (before, count) in enumerate(zip(known, new, strict=True)):
        attention[number, cached - before : cached] = 1
        attention[number, cached + fresh - count :] = 1
        positions[number, fresh - count :] = torch.arange(before, before + count, device=device)
    cache = _joined(rows, known) if cached else DynamicCache()
    states = [network.states(embedded, attention=attention, positions=positions, cache=cache)[:, -1]]
    chosen: list[Tensor] = []
    running = torch.ones(len(rows), dtype=torch.bool, device=device)
    while running.any() and len(chosen) < limit:
        token = network.text_output(states[-1]).argmax(dim=-1)
        chosen.append(torch.where(running, token, end_id))
        was_running = running.tolist()
        running = running & (token != end_id)
        yield [int(value) if is_on else None for value, is_on in zip(chosen[-1], was_running, strict=True)]
        attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1
        word = network.language.get_input_embeddings()(chosen[-1][:, None])
        states.append(network.states(word, attention=attention, positions=positions, cache=cache)[:, -1])
    all_states, ids = torch.stack(states, dim=1), torch.stack(chosen, dim=1).tolist()
    found = []
    for number, row in enumerate(rows):
        length = ids[number].index(end_id) if end_id in ids[number] else len(ids[number])
        read = min(length + 1, len(ids[number]))  # the end token was read, too
        prefix = None
        if keep:
            true = [*range(cached - known[number], cached), *range(cached + fresh - new[number], cached + fresh + read)]
            layers = tuple(_copied(cache, layer, number, true) for layer in range(len(cache.layers)))
            prefix = Prefix((*row.tokens, *ids[number][:read]), layers)
        found.append(Spoken(ids[number][:length], all_states[number, : length + 1], length == len(ids[number]), prefix))
    return found


def _copied(cache: DynamicCache, layer: int, row: int, true: list[int]) -> tuple[Tensor, Tensor]:
    """Keys and values [H, tokens, d] of a row's true tokens, no padding, in memory of their own."""
    stored: Any = cache.layers[layer]  # DynamicLayer: all layers of a Llama attend in full
    return stored.keys[row][:, true], stored.values[row][:, true]


def finish(steps: Generator[list[int | None], None, list[Spoken]]) -> list[Spoken]:
    """What `generate` returns, its steps unseen."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: list[Spoken] = end.value
            return found


def _right_aligned(rows: Tensor, length: int) -> Tensor:
    """[tokens, W] behind zeros, [length, W]."""
    return torch.nn.functional.pad(rows, (0, 0, length - len(rows), 0))


def _joined(rows: Sequence[PromptRow], known: Sequence[int]) -> DynamicCache:
    """The known parts of the prefixes as one cache [B, H, C, d], aligned at their ends."""
    longest = max(known)
    sample = next(row.prefix for row in rows if row.prefix is not None)
    layers = []
    for number, parts in enumerate(sample.layers):
        joined = []
        for which, part in enumerate(parts):
            value = part.new_zeros(len(rows), part.shape[0], longest, part.shape[2])
            for place, (row, count) in enumerate(zip(rows, known, strict=True)):
                if row.prefix is not None and count:
                    value[place, :, longest - count :] = row.prefix.layers[number][which][:, :count]
            joined.append(value)
        layers.append(tuple(joined))
    return DynamicCache(ddp_cache_data=layers)
