"""A network small enough to test in milliseconds, made of the real classes."""

from __future__ import annotations

from pathlib import Path

import torch

from miras.model.batch import Batch, MemoryTokens
from miras.model.config import Mini, NetworkConfig
from miras.model.mini import build_convnext, build_llava, sam_shape, save_mini, train_tokenizer
from miras.model.mining import PatchMining
from miras.model.network import MirasNetwork
from miras.model.sam import build_sam
from miras.model.tokens import RowBuilder, TokenRow
from miras.model.vision import PictureFeatures
from miras.model.weights import Backbones
from miras.train.collate import chunks, count

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
        "mask_memory": "off",
        "reference_loss": False,
        "memory_gating": 0.0,
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


def make_network(backbones: Backbones, **changes: object) -> tuple[MirasNetwork, RowBuilder]:
    """An untrained network, and the builder of its rows."""
    config = network_config(**changes)
    tokenizer = backbones.tokenizer()
    torch.manual_seed(1)
    network = backbones.network(config, tokenizer).eval()
    builder = RowBuilder(
        tokenizer,
        num_image_tokens=backbones.num_image_tokens,
        system_prompt="",
        max_tokens=config.max_tokens,
        mask_memory=config.mask_memory,
    )
    return network, builder


def no_memory() -> MemoryTokens:
    """Of a batch whose questions speak of no mask."""
    none = torch.zeros(0, dtype=torch.long)
    return MemoryTokens(none, none, none, torch.zeros(0, 16), torch.zeros(0, 4))


def make_batch(
    rows: list[TokenRow], features: PictureFeatures, pictures: list[int], memory: MemoryTokens | None = None
) -> Batch:
    """Rows with random target masks of 32 px."""
    longest = max(len(row.ids) for row in rows)

    def pad(values: list[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([value + [filler] * (longest - len(value)) for value in values])

    spans = [(number, span) for number, row in enumerate(rows) for span in row.spans]
    reference_at = [at for row in rows for at in row.references]
    return Batch(
        ids=pad([row.ids for row in rows], 0),
        labels=pad([row.labels for row in rows], -100),
        parts=pad([row.parts for row in rows], -1),
        positions=pad([row.positions for row in rows], 0),
        image_start=torch.tensor([row.image_start for row in rows]),
        features=features,
        picture_index=torch.tensor(pictures),
        target_row=torch.tensor([number for number, _ in spans], dtype=torch.long),
        target_span=torch.tensor([span for _, span in spans], dtype=torch.long).view(-1, 2),
        target_aligned=torch.ones(len(spans), dtype=torch.bool),
        target_masks=torch.rand(len(spans), 32, 32).round(),
        reference_at=torch.tensor(reference_at, dtype=torch.long),
        reference_masks=torch.rand(sum(at >= 0 for at in reference_at), 32, 32).round(),
        memory=memory or no_memory(),
        counts=count(rows),
        text_chunks=chunks(rows),
    )
