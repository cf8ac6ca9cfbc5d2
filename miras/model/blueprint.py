"""The whole model without weights, on torch's meta device: its parts can be counted before anything is downloaded.

Sizes of public parts come from their `config.json` where it is at hand (a local folder or the local hub cache), else
from the table of published names below. Nothing is fetched and no memory is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import (
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
)

from miras.dialogue.rendering import MARKERS
from miras.errors import ConfigError
from miras.model.config import BackbonesConfig, Mini, NetworkConfig, Public
from miras.model.mini import build_convnext, build_llava, sam_shape, train_tokenizer
from miras.model.network import MirasNetwork
from miras.model.sam import SAM_SHAPES, SamShape, build_sam
from miras.model.vision import VisionEncoders
from miras.model.weights import assemble, new_words

# Published shapes, from the checkpoints' own configurations.
CLIP_LARGE = CLIPVisionConfig(
    image_size=336,
    patch_size=14,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    projection_dim=768,
)
VICUNA_7B = LlamaConfig(
    vocab_size=32064,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
)
VICUNA_13B = LlamaConfig(
    vocab_size=32064,
    hidden_size=5120,
    intermediate_size=13824,
    num_hidden_layers=40,
    num_attention_heads=40,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
)
MISTRAL_7B = MistralConfig(
    vocab_size=32064,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=32768,
    rms_norm_eps=1e-5,
    sliding_window=None,
)
LLAVA = {
    "llava-hf/llava-1.5-7b-hf": VICUNA_7B,
    "llava-hf/llava-1.5-13b-hf": VICUNA_13B,
    "llava-hf/llava-v1.6-vicuna-7b-hf": VICUNA_7B,
    "llava-hf/llava-v1.6-vicuna-13b-hf": VICUNA_13B,
    "llava-hf/llava-v1.6-mistral-7b-hf": MISTRAL_7B,
}
CONVNEXT = {  # size -> (blocks of each stage, channels of the first; each further stage has twice as many)
    "tiny": ([3, 3, 9, 3], 96),
    "small": ([3, 3, 27, 3], 96),
    "base": ([3, 3, 27, 3], 128),
    "large": ([3, 3, 27, 3], 192),
    "xlarge": ([3, 3, 27, 3], 256),
}
_CONVNEXT_NAME = re.compile(r"facebook/convnext-(tiny|small|base|large|xlarge)-(224|384)(-22k)?(-1k)?")

# Part -> how the names of its parameters in the network look; the first that fits counts.
_NETWORK_PARTS = {
    "LoRA": r"language\..*\.lora_[AB]\.",
    "new-token rows": r"(language\.embed_tokens|text_output)\.rows$",
    "embedding and head": r"language\.embed_tokens\.|text_output\.",
    "language model": r"language\.",
    "projector": r"projector\.",
    "mining": r"mining\.",
    "prompt head": r"prompt_head\.",
    "alignment": r"alignment\.",
    "memory": r"memory\.",
    "prompt encoder": r"prompt_encoder\.",
    "mask decoder": r"mask_decoder\.",
}
_ENCODER_PARTS = {"CLIP": r"clip\.", "ConvNeXt": r"convnext\.", "SAM encoder": r"sam\."}


@dataclass(frozen=True)
class Blueprint:
    """The model on the meta device."""

    network: MirasNetwork
    encoders: VisionEncoders


@dataclass(frozen=True)
class PartSize:
    """Parameters of one part."""

    part: str
    total: int
    trainable: int


def draw_blueprint(backbones: BackbonesConfig, network: NetworkConfig) -> Blueprint:
    """The model that the two sections of params.yaml describe, without weights.

    A mini language model gets its full vocabulary, which the tokenizer of a small data set may not reach.

    Raises:
        ConfigError: not exactly one of `mini` and `public`; a public name whose sizes are not known here; no second
            encoder where `network.dual_encoder` needs one.
    """
    if (backbones.mini is None) == (backbones.public is None):
        raise ConfigError("params.yaml: backbones: give exactly one of `mini` and `public`; set the other to null.")
    with torch.device("meta"):
        if backbones.mini is not None:
            return _mini_blueprint(backbones.mini, network)
        assert backbones.public is not None
        return _public_blueprint(backbones.public, network)


def part_sizes(blueprint: Blueprint, *, frozen: Sequence[str] = ()) -> list[PartSize]:
    """Parameters by part, encoders first; parts that the configuration leaves out are absent.

    Args:
        blueprint: the model.
        frozen: parts of the network that a training stage does not train (`stage1.frozen`).
    """
    blueprint.network.freeze(frozen)
    return _sizes(blueprint.encoders, _ENCODER_PARTS) + _sizes(blueprint.network, _NETWORK_PARTS)


def _sizes(module: nn.Module, parts: dict[str, str]) -> list[PartSize]:
    totals, trainable = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0)
    for name, value in module.named_parameters():
        part = next(part for part, pattern in parts.items() if re.match(pattern, name))
        totals[part] += value.numel()
        trainable[part] += value.numel() * value.requires_grad
    return [PartSize(part, totals[part], trainable[part]) for part in parts if totals[part]]


def _mini_blueprint(mini: Mini, network: NetworkConfig) -> Blueprint:
    tokenizer = train_tokenizer([], vocabulary=mini.language.vocabulary)
    tokenizer.add_tokens([f"<word {number}>" for number in range(mini.language.vocabulary - len(tokenizer))])
    return _assemble(
        network,
        llava=build_llava(mini, tokenizer),
        convnext=build_convnext(mini),
        high_size_px=mini.convnext.image_size_px,
        high_grid=mini.convnext.grid,
        shape=sam_shape(mini.sam),
        new_words=new_words(tokenizer),
    )


def _public_blueprint(public: Public, network: NetworkConfig) -> Blueprint:
    if network.dual_encoder and not public.convnext:
        raise ConfigError(
            "params.yaml: network.dual_encoder is true, but backbones.public.convnext is empty. "
            "Name a ConvNeXt checkpoint there or set network.dual_encoder to false."
        )
    config = llava_config(public.llava)
    markers = len(MARKERS) - 1  # `<image>` is LLaVA's own word
    text: Any = config.text_config
    return _assemble(
        network,
        llava=LlavaForConditionalGeneration(config),
        convnext=ConvNextModel(convnext_config(public.convnext)) if public.convnext else None,
        high_size_px=public.convnext_image_size_px,
        high_grid=public.convnext_grid,
        shape=SAM_SHAPES[public.sam_type],
        new_words=range(
            text.vocab_size - markers, text.vocab_size
        ),  # the published embeddings have spare rows at their end
    )


def _assemble(
    config: NetworkConfig,
    *,
    llava: LlavaForConditionalGeneration,
    convnext: ConvNextModel | None,
    high_size_px: int,
    high_grid: int,
    shape: SamShape,
    new_words: Sequence[int],
) -> Blueprint:
    sam = build_sam(shape)
    encoders = VisionEncoders(
        clip=llava.model.vision_tower,
        clip_layer=llava.config.vision_feature_layer,  # type: ignore[arg-type]  # an int in every LLaVA-1.5 and 1.6
        convnext=convnext,
        high_size_px=high_size_px,
        high_grid=high_grid,
        sam=sam.image_encoder,
    )
    network = assemble(config, llava=llava, sam=sam, convnext=convnext, new_words=new_words)
    return Blueprint(network, encoders)


def llava_config(name: str) -> LlavaConfig:
    """The sizes of a LLaVA checkpoint named by folder or hub name.

    Raises:
        ConfigError: neither its `config.json` is at hand nor its name in the table, or it is no LLaVA.
    """
    file = stored_config(name, kinds=("llava", "llava_next"))
    if file is not None:
        return LlavaConfig.from_pretrained(file.parent)
    if name not in LLAVA:
        raise _unknown("backbones.public.llava", name, known=", ".join(LLAVA))
    return LlavaConfig(vision_config=CLIP_LARGE, text_config=LLAVA[name])


def convnext_config(name: str) -> ConvNextConfig:
    """The sizes of a ConvNeXt checkpoint named by folder or hub name; raises as `llava_config`."""
    file = stored_config(name, kinds=("convnext",))
    if file is not None:
        return ConvNextConfig.from_pretrained(file.parent)
    published = _CONVNEXT_NAME.fullmatch(name)
    if published is None:
        raise _unknown("backbones.public.convnext", name, known="facebook/convnext-<size>-<224 or 384>[-22k][-1k]")
    depths, width = CONVNEXT[published[1]]
    return ConvNextConfig(depths=depths, hidden_sizes=[width * 2**stage for stage in range(4)])


def stored_config(name: str, *, kinds: Sequence[str]) -> Path | None:
    """The `config.json` of a checkpoint in a local folder or the local hub cache; None if there is none.

    Raises:
        ConfigError: it cannot be read, or describes another kind of model.
    """
    if Path(name).is_dir():
        file = Path(name) / "config.json"
    else:
        try:
            cached = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            return None
        if not isinstance(cached, str):
            return None
        file = Path(cached)
    try:
        kind = json.loads(file.read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}: no configuration of a checkpoint ({type(error).__name__}: {error}), named by backbones.public. "
            "Expected the config.json that transformers writes; download the checkpoint again."
        ) from None
    if kind not in kinds:
        raise ConfigError(f"{file}: a {kind} model, expected {' or '.join(kinds)}. Correct backbones.public.")
    return file


def _unknown(key: str, name: str, *, known: str) -> ConfigError:
    return ConfigError(
        f"params.yaml: {key}: {name} is neither a folder here, nor in the local hub cache, nor a published name whose "
        f"sizes are known ({known}). Download its config.json into a folder and name the folder."
    )
