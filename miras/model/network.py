"""The network of both papers as settings of one.

language model (LLaVA) + CLIP tokens + optional ConvNeXt mining (eq. 4) + projector + optional region alignment
(eq. 6) + SAM mask decoder + optional mask memory (SegLLM). It works on the frozen encoders' outputs
(`PictureFeatures`), which are stored once.
Letters: B rows, T tokens, N image tokens, W language width, D prompt width, n targets, m referenced masks, s mask side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from peft import LoraConfig, inject_adapter_in_model
from segment_anything.modeling import MaskDecoder, PromptEncoder
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from miras.model import losses
from miras.model.alignment import RegionAlignment
from miras.model.batch import Batch, Losses, MaskLogits, MemoryTokens
from miras.model.config import NetworkConfig
from miras.model.decoder import decode_masks
from miras.model.losses import LossWeights
from miras.model.memory import MaskMemory
from miras.model.mining import PatchMining
from miras.model.new_rows import NewRowsEmbedding, NewRowsHead
from miras.model.packed_attention import NAME as PACKED
from miras.model.packed_attention import Packing, packing
from miras.model.vision import PictureFeatures

# Part of the network -> how the names of its parameters begin. What a training stage can freeze.
PARTS = {
    "language": ("language.", "text_output."),
    "mining": ("mining.",),
    "projector": ("projector.",),
    "prompt_head": ("prompt_head.",),
    "alignment": ("alignment.",),
    "decoder": ("mask_decoder.",),
    "memory": ("memory.",),
}


class MirasNetwork(nn.Module):
    """Language model, mining, prompt head, region alignment, mask memory and mask decoder."""

    def __init__(
        self,
        config: NetworkConfig,
        *,
        llava: LlavaForConditionalGeneration,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        high_width: int,
        new_words: Sequence[int],
    ) -> None:
        """`high_width`: channels of the high-resolution map, 0 without second encoder; `new_words`: ids of the markers,
        which alone are trained in embedding and head beside adapters."""
        super().__init__()
        self.config = config
        self.language = llava.model.language_model
        self.language.set_attn_implementation(PACKED)
        self.text_output = llava.lm_head
        if config.language_training == "lora":
            add_adapters(self.language, rank=config.lora_rank, alpha=config.lora_alpha)
            self.language.set_input_embeddings(NewRowsEmbedding(self.language.get_input_embeddings(), new_words))
            self.text_output = NewRowsHead(llava.lm_head, new_words)
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
        self.memory = None
        if config.mask_memory != "off":
            self.memory = MaskMemory(
                config.mask_memory,
                clip_width=low_width,
                width=width,
                prompt_width=prompt_width,
                gating=config.memory_gating,
                copies=config.reference_loss,
            )
        self._learned = [name for name, value in self.named_parameters() if value.requires_grad]

    def freeze(self, parts: Collection[str]) -> None:
        """Takes parts (keys of `PARTS`) out of training; what they learned before is still stored."""
        for name, value in self.named_parameters():
            value.requires_grad_(name in self._learned and not name.startswith(prefixes(parts)))

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that the optimiser sees and a checkpoint holds."""
        return ((name, value) for name, value in self.named_parameters() if value.requires_grad)

    def learned(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that differ from the backbones' after training, frozen in this stage or not."""
        own = dict(self.named_parameters())
        return ((name, own[name]) for name in self._learned)

    def set_precision(self, backbone: torch.dtype) -> None:
        """Makes what training changes float32 (published weights may be float16, too coarse), all else `backbone`."""
        learned = set(self._learned)
        for name, value in self.named_parameters():
            value.data = value.data.to(torch.float32 if name in learned else backbone)

    def image_tokens(self, features: PictureFeatures) -> Tensor:
        """Image tokens in the language model's width [B, N, W] (eq. 4)."""
        tokens = features.clip
        if self.mining is not None:
            if features.high is None:
                raise ValueError("network.dual_encoder is on but the features have no high-resolution map")
            tokens = self.mining(tokens, features.high)
        return self.projector(tokens)

    def embed(self, ids: Tensor, *, image_start: Tensor, image_tokens: Tensor, memory: MemoryTokens) -> Tensor:
        """Input embeddings [B, T, W]: word embeddings with image and memory tokens in their places.

        Args:
            ids: int [B, T]; N image ids from `image_start` on.
            image_start: int [B], -1 without picture.
            image_tokens: [B, N, W].
            memory: the masks that questions speak of.
        """
        embedded = self.language.get_input_embeddings()(ids)
        has_picture = image_start >= 0
        places = torch.arange(ids.shape[1], device=ids.device) - image_start[:, None]
        is_image = has_picture[:, None] & (places >= 0) & (places < image_tokens.shape[1])
        spread = places.clamp(0, image_tokens.shape[1] - 1)[..., None].expand(-1, -1, embedded.shape[-1])
        embedded = torch.where(is_image[..., None], image_tokens.to(embedded.dtype).gather(1, spread), embedded)
        return embedded if self.memory is None else self._with_memory(embedded, memory)

    def _with_memory(self, embedded: Tensor, memory: MemoryTokens) -> Tensor:
        """`embedded` with the memory tokens in their places; with none, the tokens of a made-up mask add nothing."""
        assert self.memory is not None
        vectors, boxes = memory.vectors, memory.boxes
        if not len(memory.row):  # ranks with and without references must run the same modules
            vectors, boxes = embedded.new_zeros(1, self.memory.clip_width), embedded.new_zeros(1, 4)
        found = []
        if self.memory.mask_projector is not None:
            found.append((memory.mask_at, self.memory.mask_tokens(vectors)))
        if self.memory.box_projector is not None:
            found.append((memory.box_at, self.memory.box_tokens(boxes, self.prompt_encoder)))
        for places, tokens in found:
            if len(memory.row):
                embedded = embedded.index_put((memory.row, places), tokens.to(embedded.dtype))
            else:
                embedded = embedded + 0.0 * tokens.sum()
        return embedded

    def states(
        self,
        embedded: Tensor,
        *,
        packed: Packing | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Last-layer states [B, T, W] of the language model.

        Args:
            embedded: [B, T, W].
            packed: how rows are packed and where they end; None: each is one dialogue without padding.
            positions: int [B, T], of each token in its dialogue read alone; None: its place in the row.
        """
        rows, tokens, _ = embedded.shape
        return self.language(
            inputs_embeds=embedded,
            attention_mask=embedded.new_ones(1, 1, 1, 1),  # read by nobody: without one, the library makes its own
            position_ids=positions,
            use_cache=False,
            packed=packed or ((tokens,),) * rows,
        ).last_hidden_state

    def seg_prompts(self, spans: Tensor, *, is_padding: Tensor, query_at: Tensor, aligned: Tensor) -> Tensor:
        """`[SEG]` prompts [n, D] from the states of each target's span (eq. 6).

        Args:
            spans: [n, S, W] states from `[OBJ]` to the state that predicts `[SEG]`, padded at the end.
            is_padding: bool [n, S].
            query_at: int [n], place of the predicting state in its span.
            aligned: bool [n], False passes the alignment by (training with half of the rows).
        """
        projected = self.prompt_head(spans)
        query = projected[torch.arange(len(spans), device=spans.device), query_at]
        if self.alignment is None:
            return query
        return torch.where(aligned[:, None], self.alignment(query, projected, is_padding=is_padding), query)

    def decoder_prompts(
        self, seg: Tensor, reference_states: Tensor, *, has_reference: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The decoder's prompts [n, P, D] for targets, and [n, 2, D] for what `[REF]` stands for (SegLLM, eq. 1).

        Args:
            seg: [n, D] from `seg_prompts`.
            reference_states: [n, W], states at `[REF]`, any where there is none.
            has_reference: bool [n].
        """
        if self.memory is None:
            return seg[:, None], None
        prompts: tuple[Tensor, Tensor] = self.memory(seg, reference_states, has_reference=has_reference)
        return prompts

    def mask_logits(self, prompts: Tensor, *, image_embeddings: Tensor, picture_index: Tensor) -> Tensor:
        """Low-resolution mask logits [n, s, s], all targets of all pictures in one call.

        Args:
            prompts: [n, P, D].
            image_embeddings: [B, D, g, g].
            picture_index: int [n].
        """
        return decode_masks(
            self.mask_decoder,
            self.prompt_encoder,
            image_embeddings=image_embeddings,
            prompts=prompts,
            image_index=picture_index,
        )

    def forward(self, batch: Batch, weights: LossWeights) -> Losses:
        """The losses of eq. 8 over a batch; rows without targets add text loss only."""
        return self.losses(batch, *self.forward_logits(batch), weights=weights)

    def forward_logits(self, batch: Batch) -> tuple[Tensor, MaskLogits]:
        """Last-layer states [B, T, W] and mask logits."""
        tokens = self.image_tokens(batch.features)[batch.picture_index]
        embedded = self.embed(batch.ids, image_start=batch.image_start, image_tokens=tokens, memory=batch.memory)
        embedded = embedded + 0.0 * tokens.sum()  # rows without picture: ranks must run the same modules
        states = self.states(embedded, packed=packing(batch.parts), positions=batch.positions)
        return states, self._decode(batch, states)

    def losses(self, batch: Batch, states: Tensor, logits: MaskLogits, *, weights: LossWeights) -> Losses:
        """The losses of eq. 8 from `forward_logits`."""
        text = losses.text_cross_entropy(
            states[:, :-1], self.text_output, batch.labels[:, 1:], chunks=batch.text_chunks
        )
        text = text / max(batch.counts.text, 1.0)
        bce, dice, total = text.new_zeros(()), text.new_zeros(()), weights.text * text
        if len(batch.target_row):
            sums = losses.mask_sums(logits.targets, batch.target_masks, weights)
            bce, dice, mask = (value / batch.counts.targets for value in sums)
            total = total + mask
        else:
            total = total + 0.0 * logits.targets.sum()  # keeps every parameter in the graph on every rank
        reference = text.new_zeros(())
        if self.memory is not None and self.config.reference_loss:
            if len(batch.reference_masks):
                *_, mask = losses.mask_sums(logits.references, batch.reference_masks, weights)
                reference = mask / batch.counts.references
                total = total + reference
            else:
                total = total + 0.0 * logits.references.sum()
        return Losses(total, text.detach(), bce.detach(), dice.detach(), reference.detach())

    def _decode(self, batch: Batch, states: Tensor) -> MaskLogits:
        row, span, aligned, at = batch.target_row, batch.target_span, batch.target_aligned, batch.reference_at
        index = batch.picture_index[row]
        if not len(row):  # one made-up target: ranks with and without masks must run the same modules
            row = index = torch.zeros_like(batch.picture_index[:1])
            at = torch.full_like(row, -1)
            span, aligned = torch.zeros(1, 2, dtype=torch.long, device=row.device), torch.ones_like(row).bool()
        spans, is_padding = gather_spans(states, row=row, span=span)
        seg = self.seg_prompts(spans, is_padding=is_padding, query_at=span[:, 1] - span[:, 0], aligned=aligned)
        has_reference = at >= 0
        targets, copied = self.decoder_prompts(seg, states[row, at.clamp(min=0)], has_reference=has_reference)
        count = len(row)
        if copied is None or not self.config.reference_loss:
            logits = self.mask_logits(targets, image_embeddings=batch.features.sam, picture_index=index)
            return MaskLogits(logits, logits[:0])
        if not has_reference.any():  # a made-up one: the same modules on every rank
            has_reference = torch.arange(count, device=row.device) == 0
        logits = self.mask_logits(
            torch.cat([targets, copied[has_reference]]),
            image_embeddings=batch.features.sam,
            picture_index=torch.cat([index, index[has_reference]]),
        )
        return MaskLogits(logits[:count], logits[count:])


def prefixes(parts: Collection[str]) -> tuple[str, ...]:
    """How the names of the given parts' parameters begin."""
    return tuple(prefix for part in parts for prefix in PARTS[part])


def add_adapters(language: nn.Module, *, rank: int, alpha: int) -> None:
    """Freezes the language model and adds LoRA to queries and values."""
    language.requires_grad_(False)
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
