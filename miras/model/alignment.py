"""Semantic region alignment (PRIST paper, eq. 6): the mask prompt looks at the words it stands for.

Letters: n targets, S longest span, D prompt width.
"""

from __future__ import annotations

from torch import Tensor, nn


class RegionAlignment(nn.Module):
    """Cross-attention from the `[SEG]` state to the states of its `[OBJ]...[SEG]` span, with residual.

    The output projection starts at zero, so an untrained module is the identity.
    """

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width)
        self.span_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)
        nn.init.zeros_(self.attention.out_proj.bias)

    def forward(self, query: Tensor, span: Tensor, *, is_padding: Tensor) -> Tensor:
        """The aligned prompt [n, D].

        Args:
            query: [n, D] projected `[SEG]` states.
            span: [n, S, D] projected span states, padded at the end.
            is_padding: bool [n, S], True where the span has ended; every row has at least one False.
        """
        keys = self.span_norm(span)
        mixed, _ = self.attention(
            self.query_norm(query)[:, None], keys, keys, key_padding_mask=is_padding, need_weights=False
        )
        return query + mixed[:, 0]
