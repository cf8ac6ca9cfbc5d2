"""The network of both papers as settings of one (design section 4).

language model (LLaVA) + CLIP tokens + optional ConvNeXt mining (eq. 4) + projector + optional region alignment
(eq. 6) + SAM mask decoder. It works on the frozen encoders' outputs (`PictureFeatures`), which are stored once.
Letters: B rows, T tokens, N image tokens, W language width, D prompt width, n targets, s mask side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration
from transformers.cache_utils import Cache

from miras.model import losses
from miras.model.alignment import RegionAlignment
from miras.model.config import NetworkConfig
from miras.model.decoder import decode_masks
from miras.model.mining import PatchMining
from miras.model.vision import PictureFeatures


@dataclass(frozen=True)
class Batch:
    """Training rows with their targets."""

    ids: Tensor
    """int [B, T], padded at the end."""
    labels: Tensor
    """int [B, T], -100 where nothing is to be learned."""
    attention: Tensor
    """int [B, T], 1 where the row is."""
    image_start: Tensor
    """int [B], position of the first image token."""
    features: PictureFeatures
    """Of the batch's distinct pictures."""
    picture_index: Tensor
    """int [B], the picture of each row."""
    target_row: Tensor
    """int [n], the row of each target."""
    target_span: Tensor
    """int [n, 2], first and last position of its states."""
    target_masks: Tensor
    """float [n, s, s] in [0, 1]."""


@dataclass(frozen=True)
class Losses:
    """Scalars of one batch; `total` is eq. 8."""

    total: Tensor
    text: Tensor
    bce: Tensor
    dice: Tensor


class MirasNetwork(nn.Module):
    """Language model, mining, prompt head, region alignment and mask decoder."""

    def __init__(
        self,
        config: NetworkConfig,
        *,
        llava: LlavaForConditionalGeneration,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        high_width: int,
    ) -> None:
        """`high_width`: channels of the high-resolution map, 0 without second encoder."""
        super().__init__()
        self.config = config
        self.language = llava.model.language_model
        if config.language_training == "lora":
            add_adapters(self.language, rank=config.lora_rank, alpha=config.lora_alpha)
        self.text_output = llava.lm_head
        self.projector = llava.model.multi_modal_projector
        self.prompt_encoder, self.mask_decoder = prompt_encoder, mask_decoder
        self.prompt_encoder.requires_grad_(False)
        for unused in (mask_decoder.iou_prediction_head, *mask_decoder.output_hypernetworks_mlps[1:]):
            unused.requires_grad_(False)  # no loss reaches them: one mask per prompt, its IoU is not predicted
        width, low_width = llava.lm_head.in_features, llava.model.vision_tower.config.hidden_size
        prompt_width = int(mask_decoder.transformer_dim)
        self.prompt_head = nn.Sequential(  # the norm gives prompts the scale the decoder is used to
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, prompt_width), nn.LayerNorm(prompt_width)
        )
        self.mining = PatchMining(low_width=low_width, high_width=high_width) if config.dual_encoder else None
        self.alignment = RegionAlignment(prompt_width) if config.region_alignment != "off" else None

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that the optimiser sees and a checkpoint holds."""
        return ((name, value) for name, value in self.named_parameters() if value.requires_grad)

    def image_tokens(self, features: PictureFeatures) -> Tensor:
        """Image tokens in the language model's width [B, N, W] (eq. 4)."""
        tokens = features.clip
        if self.mining is not None:
            if features.high is None:
                raise ValueError("network.dual_encoder is on but the features have no high-resolution map")
            tokens = self.mining(tokens, features.high)
        return self.projector(tokens)

    def embed(self, ids: Tensor, *, image_start: Tensor, image_tokens: Tensor) -> Tensor:
        """Input embeddings [B, T, W]: word embeddings with the image tokens in their place.

        Args:
            ids: int [B, T]; N image ids from `image_start` on.
            image_start: int [B].
            image_tokens: [B, N, W].
        """
        embedded = self.language.get_input_embeddings()(ids)
        places = image_start[:, None] + torch.arange(image_tokens.shape[1], device=ids.device)
        places = places[..., None].expand(-1, -1, embedded.shape[-1])
        return embedded.scatter(1, places, image_tokens.to(embedded.dtype))

    def states(
        self,
        embedded: Tensor,
        *,
        attention: Tensor,
        positions: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last-layer states [B, T, W] of the language model."""
        return self.language(
            inputs_embeds=embedded,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def prompts(self, spans: Tensor, *, is_padding: Tensor, query_at: Tensor, aligned: Tensor) -> Tensor:
        """Mask prompts [n, D] from the states of each target's span (eq. 6).

        Args:
            spans: [n, S, W] states from `[OBJ]` to the state that predicts `[SEG]`, padded at the end.
            is_padding: bool [n, S].
            query_at: int [n], place of the predicting state in its span.
            aligned: bool [n], False bypasses the alignment (training with half of the rows).
        """
        projected = self.prompt_head(spans)
        query = projected[torch.arange(len(spans), device=spans.device), query_at]
        if self.alignment is None:
            return query
        return torch.where(aligned[:, None], self.alignment(query, projected, is_padding=is_padding), query)

    def mask_logits(self, prompts: Tensor, *, image_embeddings: Tensor, picture_index: Tensor) -> Tensor:
        """Low-resolution mask logits [n, s, s], all targets of all pictures in one call.

        Args:
            prompts: [n, D].
            image_embeddings: [B, D, g, g].
            picture_index: int [n].
        """
        return decode_masks(
            self.mask_decoder,
            self.prompt_encoder,
            image_embeddings=image_embeddings,
            prompts=prompts[:, None],
            image_index=picture_index,
        )

    def forward(self, batch: Batch) -> Losses:
        """The losses of eq. 8 over a batch; rows without targets add text loss only."""
        return self.losses(batch, *self.forward_logits(batch))

    def forward_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Last-layer states [B, T, W] and mask logits [n, s, s] (one made-up row when n is 0)."""
        tokens = self.image_tokens(batch.features)[batch.picture_index]
        embedded = self.embed(batch.ids, image_start=batch.image_start, image_tokens=tokens)
        states = self.states(embedded, attention=batch.attention)
        return states, self._target_logits(batch, states)

    def losses(self, batch: Batch, states: Tensor, logits: Tensor) -> Losses:
        """The losses of eq. 8 from `forward_logits`."""
        text = losses.text_cross_entropy(states[:, :-1], self.text_output, batch.labels[:, 1:])
        if len(batch.target_row):
            bce = losses.mask_bce(logits, batch.target_masks)
            dice = losses.mask_dice(logits, batch.target_masks)
        else:
            bce = dice = logits.sum() * 0.0  # keeps every parameter in the graph on every rank
        total = losses.TEXT_WEIGHT * text + losses.BCE_WEIGHT * bce + losses.DICE_WEIGHT * dice
        return Losses(total, text.detach(), bce.detach(), dice.detach())

    def _target_logits(self, batch: Batch, states: Tensor) -> Tensor:
        row, span, pictures = batch.target_row, batch.target_span, batch.picture_index
        if not len(row):  # one made-up target: ranks with and without masks must run the same modules
            row, span = torch.zeros_like(pictures[:1]), torch.zeros(1, 2, dtype=torch.long, device=row.device)
        spans, is_padding = gather_spans(states, row=row, span=span)
        prompts = self.prompts(
            spans, is_padding=is_padding, query_at=span[:, 1] - span[:, 0], aligned=self._aligned(row)
        )
        return self.mask_logits(prompts, image_embeddings=batch.features.sam, picture_index=pictures[row])

    def _aligned(self, row: Tensor) -> Tensor:
        """bool [n]: which targets use the alignment; with `half` a coin per row while training."""
        if self.config.region_alignment == "half" and self.training:
            return torch.rand(int(row.max()) + 1, device=row.device)[row] < 0.5
        return torch.ones_like(row, dtype=torch.bool)


def add_adapters(language: nn.Module, *, rank: int, alpha: int) -> None:
    """Freezes the language model but its embeddings and adds LoRA to queries and values (fact sheet 1.10)."""
    for name, value in language.named_parameters():
        value.requires_grad_("embed_tokens" in name)  # the markers' rows are new and have to be learned
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]), language
    )


def gather_spans(states: Tensor, *, row: Tensor, span: Tensor) -> tuple[Tensor, Tensor]:
    """States of ragged spans, padded at the end.

    Args:
        states: [B, T, W].
        row: int [n].
        span: int [n, 2], first and last position, inclusive.

    Returns:
        [n, S, W] and bool [n, S], True where padded.
    """
    lengths = span[:, 1] - span[:, 0] + 1
    offsets = torch.arange(int(lengths.max()), device=states.device)
    is_padding = offsets >= lengths[:, None]
    places = torch.minimum(span[:, :1] + offsets, span[:, 1:])
    return states[row[:, None], places], is_padding
