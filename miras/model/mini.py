"""Mini backbones: small LLaVA, ConvNeXt and SAM of the real classes, and the tokenizer that goes with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from miras.dialogue.rendering import IMAGE, MARKERS
from miras.model.config import Mini, MiniSam
from miras.model.mining import PatchMining
from miras.model.sam import Sam, SamShape, save_sam
from miras.model.weights import MINING, write_manifest

END, PADDING = "</s>", "<pad>"


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE learned from `texts`: common words are one token, any text can be written."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PADDING, END, *MARKERS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        additional_special_tokens=list(MARKERS),
    )


def build_llava(mini: Mini, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A LLaVA of mini size with random weights."""
    clip, language = mini.clip, mini.language
    image_id: Any = tokenizer.convert_tokens_to_ids(IMAGE)
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                image_size=clip.image_size_px,
                patch_size=clip.patch_px,
                hidden_size=clip.width,
                intermediate_size=2 * clip.width,
                num_hidden_layers=clip.layers,
                num_attention_heads=clip.heads,
            ),
            text_config=LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=language.width,
                intermediate_size=language.feed_forward,
                num_hidden_layers=language.layers,
                num_attention_heads=language.heads,
                num_key_value_heads=language.heads,
                max_position_embeddings=2048,
                initializer_range=0.05,  # width 128 and few steps: the usual 0.02 starts slower (assumed)
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
            image_token_index=image_id,
            vision_feature_layer=-1,  # every layer counts at this size
            tie_word_embeddings=False,
        )
    )


def build_convnext(mini: Mini) -> ConvNextModel:
    """A ConvNeXt of mini size with random weights."""
    shape = mini.convnext
    return ConvNextModel(
        ConvNextConfig(hidden_sizes=list(shape.widths), depths=list(shape.depths), num_stages=len(shape.widths))
    )


def sam_shape(mini: MiniSam) -> SamShape:
    """The mini SAM's sizes; every layer attends globally, position is absolute."""
    return SamShape(
        image_size_px=mini.image_size_px,
        patch_px=mini.patch_px,
        width=mini.width,
        layers=mini.layers,
        heads=mini.heads,
        global_attention=list(range(mini.layers)),
        window=0,
        prompt_width=mini.prompt_width,
        relative_position=False,
    )


def save_mini(
    folder: Path,
    mini: Mini,
    *,
    tokenizer: PreTrainedTokenizerFast,
    llava: LlavaForConditionalGeneration,
    convnext: ConvNextModel,
    sam: Sam,
    mining: PatchMining,
) -> None:
    """Writes mini backbones in the form of public ones, with their manifest."""
    llava.save_pretrained(folder / "llava")
    tokenizer.save_pretrained(folder / "llava")
    convnext.save_pretrained(folder / "convnext")
    save_sam(sam, folder / "sam.pth")
    save_file(mining.state_dict(), folder / MINING)
    write_manifest(
        folder,
        {
            "kind": "mini",
            "llava": "llava",
            "convnext": "convnext",
            "convnext_image_size_px": mini.convnext.image_size_px,
            "convnext_grid": mini.convnext.grid,
            "sam": "sam.pth",
            "sam_shape": sam_shape(mini.sam).model_dump(),
        },
        parts={"llava": folder / "llava", "convnext": folder / "convnext", "sam": folder / "sam.pth"},
    )
