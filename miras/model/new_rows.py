"""Embedding and head of a language model of which only the rows of new words are trained.

The published weights stay as they are and frozen: training 262 M of them for a handful of words would triple the
optimiser's memory.
Letters: V words, W language width, k new words.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SPREAD = 0.1  # of the old rows' standard deviation, around their mean: where new rows start


class NewRowsEmbedding(nn.Module):
    """An embedding whose rows for new words are parameters of their own."""

    def __init__(self, base: nn.Embedding, ids: Sequence[int]) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rows = nn.Parameter(new_rows(base.weight, ids))
        self.ids: Tensor
        self.register_buffer("ids", torch.tensor(ids), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The embedding as one matrix [V, W]."""
        return self.base.weight.index_copy(0, self.ids, self.rows.to(self.base.weight.dtype))

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [..., W] of word ids [...]."""
        is_row = ids[..., None] == self.ids
        return torch.where(is_row.any(dim=-1, keepdim=True), self.rows[is_row.int().argmax(dim=-1)], self.base(ids))


class NewRowsHead(nn.Module):
    """An output layer whose rows for new words are parameters of their own."""

    def __init__(self, base: nn.Linear, ids: Sequence[int]) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rows = nn.Parameter(new_rows(base.weight, ids))
        self.ids: Tensor
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        self.in_features = base.in_features

    @property
    def weight(self) -> Tensor:
        """The layer as one matrix [V, W]."""
        return self.base.weight.index_copy(0, self.ids, self.rows.to(self.base.weight.dtype))

    def forward(self, states: Tensor) -> Tensor:
        """Logits [..., V] of states [..., W]."""
        logits = self.base(states)
        new = nn.functional.linear(states, self.rows.to(states.dtype))
        return logits.index_copy(-1, self.ids, new.to(logits.dtype))


def new_rows(weight: Tensor, ids: Sequence[int]) -> Tensor:
    """Float32 [k, W] to start from: near the mean of the old rows, a little apart from each other."""
    new = set(ids)
    old = weight.detach().float()[[row for row in range(len(weight)) if row not in new]]  # no mask: works on meta
    return old.mean(dim=0) + SPREAD * old.std() * torch.randn(len(ids), weight.shape[1], device=weight.device)
