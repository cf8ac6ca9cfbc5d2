"""Patch information mining: low-resolution tokens look into their own window of the high-resolution map.

Source: PRIST paper eq. 4 in the form of its public ancestor: residual on the CLIP token, one
head, LayerNorm and Linear before query, key and value.
Letters: B pictures, G tokens per side (N = G*G), M window side (grid = G*M), Cl and Ch channels.
"""

from __future__ import annotations

from torch import Tensor, nn


class PatchMining(nn.Module):
    """Windowed cross-attention: token i attends to the M x M cells of the high-resolution grid it covers."""

    def __init__(self, *, low_width: int, high_width: int) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.LayerNorm(low_width), nn.Linear(low_width, low_width))
        self.key = nn.Sequential(nn.LayerNorm(high_width), nn.Linear(high_width, low_width))
        self.value = nn.Sequential(nn.LayerNorm(high_width), nn.Linear(high_width, low_width))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Mined tokens [B, N, Cl].

        Args:
            low: [B, N, Cl] CLIP tokens, row by row.
            high: [B, Ch, grid, grid] high-resolution map; grid is a multiple of sqrt(N).
        """
        windows = to_windows(high, tokens_per_side=round(low.shape[1] ** 0.5))  # [B, N, M*M, Ch]
        query, key, value = self.query(low), self.key(windows), self.value(windows)
        scores = (key @ query[..., None])[..., 0] / query.shape[-1] ** 0.5  # [B, N, M*M]
        return low + (scores.softmax(dim=-1)[..., None, :] @ value)[..., 0, :]


def to_windows(high: Tensor, *, tokens_per_side: int) -> Tensor:
    """[B, Ch, grid, grid] -> [B, N, M*M, Ch], windows row by row, cells of a window row by row."""
    batch, channels, grid, _ = high.shape
    side = grid // tokens_per_side
    cells = high.view(batch, channels, tokens_per_side, side, tokens_per_side, side)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, tokens_per_side**2, side * side, channels)
