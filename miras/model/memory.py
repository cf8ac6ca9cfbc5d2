"""Mask memory (SegLLM): masks that a question speaks of, as tokens before it and as a prompt of the mask decoder.

A referenced mask becomes two tokens: its mask token (CLIP's view of the blacked-out crop) says what it is, its box
token says where (SegLLM paper, section 4.2 and appendix A.3). The answer's `[REF]` state then prompts the mask decoder
beside `[SEG]`: `[REF], [PAD]` gives back the reference, `[REF], [SEG]` gives the target (equation 1).
Letters: m referenced masks, n targets, Cl CLIP channels, W language width, D prompt width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn

from miras.model.config import MemoryKind
from miras.model.vision import CLIP_MEAN, CLIP_STD, VisionEncoders, normalised_frames


class MaskMemory(nn.Module):
    """Memory tokens for the language model, and the `[REF]` side of the decoder's prompts."""

    def __init__(
        self, kind: MemoryKind, *, clip_width: int, width: int, prompt_width: int, gating: float, copies: bool
    ) -> None:
        """`gating`: probability with which a token is silenced in training; in use all are scaled by the rest.
        `copies`: whether `[REF], [PAD]` is asked for the reference."""
        super().__init__()
        self.clip_width = clip_width
        self.mask_projector = self.box_projector = None
        if kind in ("mask", "both"):
            self.mask_projector = nn.Sequential(nn.Linear(clip_width, width), nn.GELU(), nn.Linear(width, width))
        if kind in ("box", "both"):
            self.box_projector = nn.Linear(2 * prompt_width, width)
        self.reference_head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, prompt_width), nn.LayerNorm(prompt_width)
        )
        self.pad = nn.Parameter(torch.zeros(prompt_width), requires_grad=copies)
        self.no_reference = nn.Parameter(torch.zeros(prompt_width))
        self.roles = nn.Parameter(torch.zeros(2, prompt_width))
        self.gating = gating

    def mask_tokens(self, vectors: Tensor) -> Tensor:
        """Mask tokens [m, W] from CLIP vectors [m, Cl]."""
        assert self.mask_projector is not None
        return self._gated(self.mask_projector(vectors))

    def box_tokens(self, boxes: Tensor, prompt_encoder: PromptEncoder) -> Tensor:
        """Box tokens [m, W]: SAM's own positional embedding of the two corners, projected.

        Args:
            boxes: float [m, 4], (x0, y0, x1, y1) in pixels of SAM's input frame.
            prompt_encoder: SAM's.
        """
        assert self.box_projector is not None
        corners, _ = prompt_encoder(points=None, boxes=boxes, masks=None)
        return self._gated(self.box_projector(corners.flatten(1)))

    def forward(self, seg: Tensor, reference_states: Tensor, *, has_reference: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder prompts for the targets and for their references.

        Args:
            seg: [n, D], one prompt per target.
            reference_states: [n, W], the state at `[REF]`; anything where there is none.
            has_reference: bool [n].

        Returns:
            [n, 2, D] (`[REF], [SEG]`) and [n, 2, D] (`[REF], [PAD]`), the latter of use where there is a reference.
        """
        reference = torch.where(has_reference[:, None], self.reference_head(reference_states), self.no_reference)
        target = torch.stack([reference, seg], dim=1)
        copied = torch.stack([reference, self.pad.expand_as(reference)], dim=1)
        return target + self.roles, copied + self.roles

    def _gated(self, tokens: Tensor) -> Tensor:
        if not self.gating:
            return tokens
        if not self.training:
            return tokens * (1 - self.gating)
        return tokens * (torch.rand(len(tokens), 1, device=tokens.device) >= self.gating)


def region_crop(picture: Image.Image, mask: np.ndarray) -> Image.Image:
    """The masked part of an upright RGB picture on black, cut to the mask's box and padded to a square.

    Args:
        picture: of any size.
        mask: bool [H, W] in the picture's pixels, not empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    cut = np.asarray(picture)[top:bottom, left:right] * mask[top:bottom, left:right, None]
    side = max(cut.shape[:2])
    square = np.zeros((side, side, 3), np.uint8)
    square[: cut.shape[0], : cut.shape[1]] = cut
    return Image.fromarray(square)


@torch.no_grad()
def encode_regions(encoders: VisionEncoders, pictures: Sequence[Image.Image], masks: Sequence[np.ndarray]) -> Tensor:
    """CLIP's CLS vectors [n, Cl] of the masked crops, at LLaVA's layer.

    Args:
        encoders: frozen.
        pictures: n upright RGB pictures, the same one as often as needed.
        masks: n bool [H, W], none of them empty.
    """
    crops = [region_crop(picture, mask) for picture, mask in zip(pictures, masks, strict=True)]
    pixels = normalised_frames(crops, encoders.clip_size_px, mean=CLIP_MEAN, std=CLIP_STD).to(encoders.device)
    states = encoders.clip(pixel_values=pixels, output_hidden_states=True).hidden_states
    return states[encoders.clip_layer][:, 0]


def frame_box(mask: np.ndarray, side: int) -> tuple[float, float, float, float]:
    """The mask's tight box (x0, y0, x1, y1) in a square frame of `side` pixels with the picture at its top left.

    Args:
        mask: bool [H, W], not empty.
        side: of the frame (SAM's input).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    scale = side / max(mask.shape)
    return columns[0] * scale, rows[0] * scale, (columns[-1] + 1) * scale, (rows[-1] + 1) * scale
