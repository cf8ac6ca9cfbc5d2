"""A network small enough to test in milliseconds, made of the real classes."""

from __future__ import annotations

from pathlib import Path

import torch

from miras.model.config import Mini, NetworkConfig
from miras.model.mini import build_convnext, build_llava, sam_shape, save_mini, train_tokenizer
from miras.model.mining import PatchMining
from miras.model.weights import Backbones, build_sam

TEXTS = [
    "what is the red mug on the left",
    "segment what we have been talking about",
    "handle of the left red mug",
    "here it is",
    "USER: ASSISTANT:",
]


def tiny_mini(tokens_per_side: int = 4) -> Mini:
    """Sizes of a few thousand parameters; `tokens_per_side` squared image tokens."""
    return Mini.model_validate(
        {
            "clip": {
                "image_size_px": 8 * tokens_per_side,
                "patch_px": 8,
                "width": 16,
                "layers": 2,
                "heads": 2,
            },
            "convnext": {
                "image_size_px": 64,
                "widths": [8, 16],
                "depths": [1, 1],
                "grid": 2 * tokens_per_side,
            },
            "sam": {
                "image_size_px": 64,
                "patch_px": 8,
                "width": 16,
                "layers": 1,
                "heads": 2,
                "prompt_width": 16,
            },
            "language": {"vocabulary": 320, "width": 32, "layers": 2, "heads": 2, "feed_forward": 64},
            "pretraining": {
                "pictures": "rendered",
                "steps": 2,
                "batch_size": 2,
                "learning_rate": 1e-3,
                "seed": 0,
            },
        }
    )


def network_config(**changes: object) -> NetworkConfig:
    """The `miras` setting, with changes."""
    settings = {
        "dual_encoder": True,
        "region_alignment": "full",
        "language_training": "full",
        "lora_rank": 8,
        "lora_alpha": 16,
        "system_prompt": "",
        "max_tokens": 512,
    }
    return NetworkConfig.model_validate(settings | changes)


def write_backbones(folder: Path, mini: Mini) -> Backbones:
    """Random mini backbones on disk, in the form the stage `backbones` writes."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(TEXTS, vocabulary=mini.language.vocabulary)
    llava, convnext, sam = build_llava(mini, tokenizer), build_convnext(mini), build_sam(sam_shape(mini.sam))
    mining = PatchMining(low_width=mini.clip.width, high_width=sum(mini.convnext.widths))
    save_mini(folder, mini, tokenizer=tokenizer, llava=llava, convnext=convnext, sam=sam, mining=mining)
    return Backbones(folder)
