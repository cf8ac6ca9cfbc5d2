"""Pictures into encoder frames, and the three frozen encoders.

Every encoder sees the whole picture in one frame: longer side scaled to the encoder's size, the rest of the
square filled with the encoder's mean colour at the bottom or right (zero after normalisation).
Letters: B pictures, S encoder input side, N image tokens, g SAM embedding side, Cl Ch D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from transformers import CLIPVisionModel, ConvNextModel

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SAM_MEAN, SAM_STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)


@dataclass(frozen=True)
class PictureFeatures:
    """What the frozen encoders say of B pictures."""

    clip: Tensor
    """[B, N, Cl] tokens without CLS."""
    high: Tensor | None
    """[B, Ch, grid, grid] all ConvNeXt stages on one grid; None without second encoder."""
    sam: Tensor
    """[S, D, g, g] image embedding of the first S pictures: all of them, unless fewer were asked for."""

    def __getitem__(self, rows: Tensor) -> PictureFeatures:
        """The features of the pictures that `rows` (int [k]) names, in that order."""
        return PictureFeatures(self.clip[rows], None if self.high is None else self.high[rows], self.sam[rows])


def frame(picture: Image.Image, size_px: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The picture scaled to fit a square of `size_px` at its top left, black elsewhere.

    Returns:
        uint8 [S, S, 3], and (height, width) of the part that holds the picture.
    """
    scale = size_px / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    scaled = picture if (width, height) == picture.size else picture.resize((width, height), Image.Resampling.BICUBIC)
    square = np.zeros((size_px, size_px, 3), np.uint8)
    square[:height, :width] = np.asarray(scaled)
    return square, (height, width)


def normalised_frames(
    pictures: Sequence[Image.Image], size_px: int, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Encoder input [B, 3, S, S]: normalised, zero where the square holds no picture."""
    if not pictures:
        return torch.zeros(0, 3, size_px, size_px)
    framed = [frame(picture, size_px) for picture in pictures]
    pixels = torch.from_numpy(np.stack([square for square, _ in framed])).permute(0, 3, 1, 2).float() / 255
    normalised = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    for row, (_, (height, width)) in enumerate(framed):
        normalised[row, :, height:] = 0
        normalised[row, :, :, width:] = 0
    return normalised


def mask_to_frame(mask: np.ndarray, side: int) -> np.ndarray:
    """A picture's mask in the frame of the mask decoder.

    Args:
        mask: bool [H, W] in pixels of the picture.
        side: side of the decoder's output.

    Returns:
        float32 [side, side], the covered share of every cell.
    """
    square = torch.zeros(1, 1, max(mask.shape), max(mask.shape))
    square[0, 0, : mask.shape[0], : mask.shape[1]] = torch.from_numpy(np.ascontiguousarray(mask))
    if square.shape[-1] >= side:
        return F.adaptive_avg_pool2d(square, side)[0, 0].numpy()
    return F.interpolate(square, size=(side, side), mode="nearest")[0, 0].numpy()


def masks_from_frame(logits: Tensor, *, height: int, width: int) -> Tensor:
    """Decoder logits [n, s, s] as bool masks [n, H, W] in pixels of the picture (logit > 0)."""
    side = max(height, width)
    scaled = F.interpolate(logits[:, None].float(), size=(side, side), mode="bilinear", align_corners=False)
    return scaled[:, 0, :height, :width] > 0


class VisionEncoders(nn.Module):
    """CLIP, ConvNeXt and SAM image encoders, frozen and in evaluation mode."""

    def __init__(
        self,
        *,
        clip: CLIPVisionModel,
        clip_layer: int,
        convnext: ConvNextModel | None,
        high_size_px: int,
        high_grid: int,
        sam: ImageEncoderViT,
    ) -> None:
        """`clip_layer` indexes CLIP's hidden states (-2 in LLaVA); sizes in pixels of the square inputs."""
        super().__init__()
        self.clip, self.convnext, self.sam = clip, convnext, sam
        self.clip_layer, self.high_size_px, self.high_grid = clip_layer, high_size_px, high_grid
        self.clip_size_px = int(clip.config.image_size)  # type: ignore[arg-type]  # an int in every CLIP
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        return next(self.sam.parameters()).device

    def train(self, mode: bool = True) -> VisionEncoders:
        """Frozen encoders stay in evaluation mode."""
        return super().train(False)

    def forward(self, pictures: Sequence[Image.Image]) -> PictureFeatures:
        """Features of upright RGB pictures of any size."""
        return PictureFeatures(*self.language_side(pictures), self.mask_side(pictures))

    @torch.no_grad()
    def language_side(self, pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor | None]:
        """What the language model sees: `PictureFeatures.clip` and `PictureFeatures.high`."""
        low = normalised_frames(pictures, self.clip_size_px, mean=CLIP_MEAN, std=CLIP_STD).to(self.device)
        high = None
        if self.convnext is not None:
            frames = normalised_frames(pictures, self.high_size_px, mean=CLIP_MEAN, std=CLIP_STD)
            high = high_resolution_map(self.convnext, frames.to(self.device), grid=self.high_grid)
        return clip_tokens(self.clip, low, layer=self.clip_layer), high

    @torch.no_grad()
    def mask_side(self, pictures: Sequence[Image.Image]) -> Tensor:
        """What the mask decoder sees: `PictureFeatures.sam`."""
        frames = normalised_frames(pictures, self.sam.img_size, mean=SAM_MEAN, std=SAM_STD)
        embeddings: Tensor = self.sam(frames.to(self.device))
        return embeddings


def clip_tokens(clip: CLIPVisionModel, pixels: Tensor, *, layer: int) -> Tensor:
    """CLIP patch tokens [B, N, Cl] of hidden layer `layer`, CLS dropped."""
    return clip(pixel_values=pixels, output_hidden_states=True).hidden_states[layer][:, 1:]


def high_resolution_map(convnext: ConvNextModel, pixels: Tensor, *, grid: int) -> Tensor:
    """All ConvNeXt stages resized to one grid and concatenated: [B, Ch, grid, grid]."""
    stages = convnext(pixel_values=pixels, output_hidden_states=True).hidden_states[1:]
    return torch.cat(
        [
            F.interpolate(stage, size=(grid, grid), mode="bilinear", align_corners=False, antialias=True)
            if stage.shape[-1] != grid
            else stage
            for stage in stages
        ],
        dim=1,
    )
