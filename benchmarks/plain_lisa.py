"""The other sides of `benchmarks.train`: a plain LISA-style training step, and features computed in the step.

The plain step trains the same network on the same dialogues, and does with them what the public code of LISA and MIRAS
does in stage 2, where a sample is a dialogue with its picture. It does what that code does; no code of
theirs is in it:

- the frozen encoders run inside the step, for every row: CLIP and ConvNeXt all rows at once, SAM one row at a time,
  rows without masks too;
- one dialogue per row, rows of any length together, padded to the longest;
- the states of every layer are asked for, the prompt head runs at all positions, and the output layer gives float32
  logits [B, T, V] of all positions;
- with adapters, the whole embedding and output layer are trained;
- prompts and mask decoder run row by row in a loop, the region alignment target by target;
- masks are scaled to the picture's own pixels before they are compared.

Kinder than the public code: positions of `[SEG]` are right, a dialogue keeps all its masks in one row, CUDA's cache is
not emptied for each picture, the frozen parameters are not given to the optimiser, and pictures, masks and tokens are
made ready before the clock starts, as if data loader workers cost nothing.
Letters: B rows, P pictures, T tokens, V vocabulary, W language width, D prompt width, n targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.model.losses import LossWeights, mask_bce, mask_dice
from miras.model.network import MirasNetwork
from miras.model.new_rows import NewRowsEmbedding, NewRowsHead
from miras.model.tokens import IGNORED, TokenRow
from miras.model.vision import (
    CLIP_MEAN,
    CLIP_STD,
    SAM_MEAN,
    SAM_STD,
    PictureFeatures,
    VisionEncoders,
    clip_tokens,
    high_resolution_map,
    normalised_frames,
)
from miras.train.mixture import Row


@dataclass(frozen=True)
class Frames:
    """Encoder inputs of P pictures, [P, 3, S, S] each with its encoder's side."""

    clip: Tensor
    convnext: Tensor | None
    sam: Tensor


@dataclass(frozen=True)
class PlainBatch:
    """Rows of one dialogue each, all of them about a picture."""

    ids: Tensor
    """int [B, T]."""
    labels: Tensor
    """int [B, T], -100 where nothing is to be learned."""
    attention: Tensor
    """int [B, T], 1 where a row is."""
    image_start: list[int]
    spans: list[list[tuple[int, int]]]
    """Per row and target the first and last position of its states."""
    picture: list[int]
    """Per row."""
    frames: Frames
    masks: list[Tensor]
    """Per row float [n, H, W], in the picture's pixels."""


class PlainLisa:
    """The plain forward pass over the parts of a `MirasNetwork` without mask memory."""

    def __init__(self, network: MirasNetwork, encoders: VisionEncoders) -> None:
        self.network, self.encoders = network, encoders

    def loss(self, batch: PlainBatch, weights: LossWeights) -> Tensor:
        """Eq. 8: cross-entropy, and the mean over masks of BCE and Dice."""
        tokens = self._image_tokens(batch)
        words = self.network.language.get_input_embeddings()(batch.ids)
        embedded = torch.stack([_spliced(*row) for row in zip(words, tokens, batch.image_start, strict=True)])
        found = self.network.language(
            inputs_embeds=embedded, attention_mask=batch.attention, output_hidden_states=True, use_cache=False
        )
        states = found.hidden_states[-1]
        text = all_logits_cross_entropy(states[:, :-1], self.network.text_output, batch.labels[:, 1:])
        total = weights.text * text / (batch.labels[:, 1:] != IGNORED).sum().clamp(min=1)
        num_masks = sum(len(spans) for spans in batch.spans)
        return total + self._mask_losses(batch, self.network.prompt_head(states), weights) / max(num_masks, 1)

    def _image_tokens(self, batch: PlainBatch) -> Tensor:
        """[B, N, W], encoded anew for every row."""
        rows = torch.tensor(batch.picture)
        with torch.no_grad(), own_precision(self.encoders):
            clip = clip_tokens(self.encoders.clip, batch.frames.clip[rows], layer=self.encoders.clip_layer)
            high = None
            if self.encoders.convnext is not None and batch.frames.convnext is not None:
                pixels = batch.frames.convnext[rows]
                high = high_resolution_map(self.encoders.convnext, pixels, grid=self.encoders.high_grid)
        return self.network.image_tokens(PictureFeatures(clip, high, clip.new_zeros(0)))

    def _mask_losses(self, batch: PlainBatch, projected: Tensor, weights: LossWeights) -> Tensor:
        """Sum over masks of their weighted terms; `projected`: [B, T, D]."""
        total = projected.new_zeros((), dtype=torch.float32)
        for row, spans in enumerate(batch.spans):
            with torch.no_grad(), own_precision(self.encoders):
                embedding = self.encoders.sam(batch.frames.sam[batch.picture[row]][None])
            if not spans:
                continue
            prompts = torch.stack([self._prompt(projected[row], span) for span in spans])
            true = batch.masks[row]
            logits = self._masks(embedding, prompts, height=true.shape[1], width=true.shape[2])
            bce, dice = mask_bce(logits, true).sum(), mask_dice(logits, true).sum()
            total = total + weights.bce * bce + weights.dice * dice
        return total

    def _prompt(self, projected: Tensor, span: tuple[int, int]) -> Tensor:
        """The prompt [D] of one target from its row's projected states [T, D]."""
        states = projected[None, span[0] : span[1] + 1]
        if self.network.alignment is None:
            return states[0, -1]
        is_padding = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
        aligned: Tensor = self.network.alignment(states[:, -1], states, is_padding=is_padding)
        return aligned[0]

    def _masks(self, embedding: Tensor, prompts: Tensor, *, height: int, width: int) -> Tensor:
        """Mask logits [n, H, W] of one picture, in its own pixels, from prompts [n, D]."""
        encoder = self.network.prompt_encoder
        dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(prompts), -1, *embedding.shape[-2:])
        low, _ = self.network.mask_decoder(
            image_embeddings=embedding,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        side = self.encoders.sam.img_size
        frame = F.interpolate(low.float(), size=(side, side), mode="bilinear", align_corners=False)
        scale = side / max(height, width)
        inside = frame[..., : round(height * scale), : round(width * scale)]
        return F.interpolate(inside, size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def all_logits_cross_entropy(states: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    """Sum of cross-entropy over supervised tokens, by way of float32 logits [B, T, V] of all positions.

    Args:
        states: [B, T, W].
        head: the output layer.
        labels: int [B, T], already shifted, -100 where unsupervised.
    """
    logits = head(states).float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")


def train_whole_vocabulary(network: MirasNetwork) -> None:
    """Trains embedding and output layer whole where only their new rows would be."""
    for module in (network.language.get_input_embeddings(), network.text_output):
        if isinstance(module, NewRowsEmbedding | NewRowsHead):
            module.base.float().requires_grad_(True)


def frames(encoders: VisionEncoders, pictures: Sequence[Image.Image], dtype: torch.dtype = torch.float32) -> Frames:
    """The pictures as the encoders take them, on the CPU."""
    convnext = None
    if encoders.convnext is not None:
        convnext = normalised_frames(pictures, encoders.high_size_px, mean=CLIP_MEAN, std=CLIP_STD).to(dtype)
    return Frames(
        clip=normalised_frames(pictures, encoders.clip_size_px, mean=CLIP_MEAN, std=CLIP_STD).to(dtype),
        convnext=convnext,
        sam=normalised_frames(pictures, encoders.sam.img_size, mean=SAM_MEAN, std=SAM_STD).to(dtype),
    )


def plain_batch(
    rows: Sequence[Row],
    built: Sequence[TokenRow],
    *,
    pictures: Mapping[str, Image.Image],
    regions: Mapping[str, Region],
    encoders: VisionEncoders,
    dtype: torch.dtype = torch.float32,
) -> PlainBatch:
    """Rows of one dialogue each and their tokens as a batch, on the CPU.

    Args:
        rows: each of one dialogue about a picture.
        built: their tokens (`Collator.token_rows`).
        pictures: by image id.
        regions: by region id.
        encoders: whose inputs are made.
        dtype: of the encoders' inputs.
    """
    longest = max(len(row.ids) for row in built)
    image_ids = sorted({row.image_id for row in rows})

    def padded(values: list[list[int]], filler: int) -> Tensor:
        return torch.tensor([value + [filler] * (longest - len(value)) for value in values])

    return PlainBatch(
        ids=padded([row.ids for row in built], 0),
        labels=padded([row.labels for row in built], IGNORED),
        attention=padded([[1] * len(row.ids) for row in built], 0),
        image_start=[row.image_start for row in built],
        spans=[row.spans for row in built],
        picture=[image_ids.index(row.image_id) for row in rows],
        frames=frames(encoders, [pictures[image_id] for image_id in image_ids], dtype),
        masks=[_true_masks(row, regions, pictures[row.image_id]) for row in rows],
    )


def _true_masks(row: Row, regions: Mapping[str, Region], picture: Image.Image) -> Tensor:
    rles = [
        regions[region_id].mask for dialogue in row.dialogues for turn in dialogue.turns for region_id in turn.targets
    ]
    found = [masks.decode(rle) for rle in rles if rle is not None]
    if not found:
        return torch.zeros(0, picture.height, picture.width)
    return torch.from_numpy(np.stack(found)).float()


def own_precision(encoders: VisionEncoders) -> torch.autocast:
    """Frozen encoders run in the precision of their weights."""
    return torch.autocast(encoders.device.type, enabled=False)


def _spliced(words: Tensor, image: Tensor, start: int) -> Tensor:
    """A row's embeddings [T, W] with its image tokens [N, W] in place."""
    return torch.cat([words[:start], image.to(words.dtype), words[start + len(image) :]])


class EncodingStore:
    """Stands in for the feature store: runs the frozen encoders whenever features are asked for."""

    def __init__(self, encoders: VisionEncoders, pictures: Mapping[str, Image.Image], dtype: torch.dtype) -> None:
        """Pictures are scaled and normalised here, once; `dtype`: of the encoders."""
        self.encoders = encoders
        self.frames = {image_id: frames(encoders, [picture], dtype) for image_id, picture in pictures.items()}

    @torch.no_grad()
    def read(self, image_ids: Sequence[str], *, num_sam: int) -> PictureFeatures:
        """As the store's, made of all pictures in one batch; SAM's of one even where no row has a target."""
        with own_precision(self.encoders):
            return self._encode([self.frames[image_id] for image_id in image_ids], max(num_sam, 1))

    def _encode(self, chosen: Sequence[Frames], num_sam: int) -> PictureFeatures:
        encoders = self.encoders
        clip = torch.cat([each.clip for each in chosen]).to(encoders.device)
        tokens, high = clip_tokens(encoders.clip, clip, layer=encoders.clip_layer), None
        if encoders.convnext is not None:
            pixels = torch.cat([each.convnext for each in chosen if each.convnext is not None]).to(encoders.device)
            high = high_resolution_map(encoders.convnext, pixels, grid=encoders.high_grid)
        sam = torch.cat([each.sam for each in chosen[:num_sam]])
        return PictureFeatures(tokens, high, encoders.sam(sam.to(encoders.device)))

    def read_regions(self, region_ids: Sequence[str]) -> Tensor:
        """Of no region: there is no mask memory here."""
        assert not region_ids
        return torch.zeros(0, self.encoders.clip.config.hidden_size)
