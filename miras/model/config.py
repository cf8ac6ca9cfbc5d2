"""Sections `backbones`, `features` and `network` of params.yaml. Light: no torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from miras.config import Section

MemoryKind = Literal["off", "mask", "box", "both"]


class MiniClip(Section):
    """Size of the mini low-resolution encoder (transformers' CLIPVisionModel)."""

    image_size_px: int
    """Side of its square input."""
    patch_px: int
    """Side of a patch; (image_size_px / patch_px) squared is the number of image tokens."""
    width: int
    layers: int
    heads: int


class MiniConvNext(Section):
    """Size of the mini high-resolution encoder (transformers' ConvNextModel)."""

    image_size_px: int
    """Side of its square input."""
    widths: list[int]
    """Channels of each stage."""
    depths: list[int]
    """Blocks of each stage."""
    grid: int
    """Side of the grid that all stages are resized to and concatenated on."""


class MiniSam(Section):
    """Size of the mini SAM (segment_anything's own classes)."""

    image_size_px: int
    """Side of the letterboxed input."""
    patch_px: int
    """Side of a patch; masks come out at 4 * image_size_px / patch_px."""
    width: int
    layers: int
    heads: int
    prompt_width: int
    """Channels of the image embedding and of prompts (256 in the published SAM)."""


class MiniLanguage(Section):
    """Size of the mini language model (transformers' LlamaModel); trained whole in stage 1 and 2."""

    vocabulary: int
    """Entries of the byte-level BPE, at most."""
    width: int
    layers: int
    heads: int
    feed_forward: int


class MiniPretraining(Section):
    """Training of the mini encoders with dense labels; stands in for public weights (none exist this small)."""

    pictures: Literal["rendered", "train_split"]
    """rendered: endless rendered scenes; train_split: regions of the training split of the data set."""
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float
    seed: int


class Mini(Section):
    """A family of mini backbones, made here."""

    clip: MiniClip
    convnext: MiniConvNext
    sam: MiniSam
    language: MiniLanguage
    pretraining: MiniPretraining


class Public(Section):
    """Published weights by hub name or local path; checked and pinned by hash."""

    llava: str
    """A LLaVA-1.5/1.6 checkpoint in the Hugging Face `-hf` format, with its CLIP tower."""
    convnext: str
    """A ConvNeXt checkpoint in transformers' form, or with timm's names (OpenCLIP's, too); empty: no second encoder."""
    sam: str
    """A `sam_vit_*.pth` file."""
    sam_type: Literal["vit_b", "vit_l", "vit_h"]
    convnext_image_size_px: int
    convnext_grid: int


class BackbonesConfig(Section):
    """Where the frozen and pretrained parts come from: exactly one of `mini` and `public`."""

    mini: Mini | None
    public: Public | None


class FeaturesConfig(Section):
    """How the frozen encoders' outputs are stored."""

    batch_size: int = Field(ge=1)
    """Pictures or regions encoded at a time."""
    shard_size: int = Field(ge=1)
    """Pictures or regions per safetensors file; at most as many are lost when the stage is killed."""


class NetworkConfig(Section):
    """Which parts the network has: `lisa`, `miras`, `segllm` and `miras-memory` differ only here."""

    dual_encoder: bool
    """Patch information mining with the high-resolution encoder (PRIST paper, eq. 4)."""
    region_alignment: Literal["off", "half", "full"]
    """Cross-attention over the `[OBJ]...[SEG]` span (eq. 6); half: for a random half of the training rows."""
    mask_memory: MemoryKind
    """Tokens for each mask that a question speaks of, before the question, and `[REF]` in the answer (SegLLM)."""
    reference_loss: bool
    """Whether `[REF]` has to give back the referenced mask (SegLLM paper, eq. 1, first term)."""
    memory_gating: float = Field(ge=0, lt=1)
    """Probability with which a memory token is silenced in training (SegLLM's code: 0.5; 0: never)."""
    language_training: Literal["full", "lora"]
    """full: every weight of the language model; lora: adapters on the query and value projections, and new words."""
    lora_rank: int
    lora_alpha: int
    system_prompt: str
    """Text before the first turn; LLaVA's own for public weights, empty for the mini language model."""
    max_tokens: int
    """Longest dialogue, image tokens included; a longer one is an error, never cut."""

    @model_validator(mode="after")
    def _memory_settings_have_a_memory(self) -> NetworkConfig:
        if self.mask_memory == "off" and (self.reference_loss or self.memory_gating):
            raise ValueError("reference_loss and memory_gating need mask_memory; set it, or set them to false and 0")
        return self
