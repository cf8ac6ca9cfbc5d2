"""What `benchmarks.train` measures on: rendered scenes with dialogues, random networks, stored features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    ConvNextModel,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from benchmarks.plain_lisa import train_whole_vocabulary
from miras.config import Section, parse_sections, read_yaml
from miras.dialogue.records import Dialogue, Region
from miras.files import write_json
from miras.generate.annotated import write_about
from miras.generate.config import GenerateConfig
from miras.generate.phrases import identify
from miras.model.blueprint import convnext_config, llava_config
from miras.model.config import BackbonesConfig, NetworkConfig
from miras.model.feature_encoding import ENCODE, Table
from miras.model.feature_shards import write_shard
from miras.model.features import INDEX, FeatureIndex, FeatureStore
from miras.model.mini import build_convnext, build_llava, sam_shape, train_tokenizer
from miras.model.network import MirasNetwork
from miras.model.sam import SAM_SHAPES, SamShape, build_sam
from miras.model.tokens import RowBuilder
from miras.model.vision import VisionEncoders
from miras.model.weights import assemble, new_words
from miras.sources import scenes
from miras.train.collate import Collator
from miras.train.config import TrainConfig
from miras.train.loop import parameter_groups
from miras.train.mixture import Mixture, Row

PRESETS = Path(__file__).parents[1] / "presets"
SECTIONS: dict[str, type[Section]] = {
    "generate": GenerateConfig,
    "backbones": BackbonesConfig,
    "network": NetworkConfig,
    "stage2": TrainConfig,
}
_FROM = {"backbones": ("backbones",), "settings": ("generate", "network", "stage2")}  # preset -> its sections
DIALOGUES_PER_ROW = 4  # as many as a picture has to offer: three PRIST dialogues and a question
Passes = Callable[[], Iterable[Callable[[], Tensor]]]


@dataclass(frozen=True)
class Scale:
    """What one value of `--size` measures."""

    backbones: str
    """Preset whose backbones are built."""
    settings: str
    """Preset whose network and stage 2 are trained."""
    picture_px: int
    steps: tuple[tuple[int, int], ...]
    """Packed rows in a step and rows in a pass."""
    quick_steps: tuple[tuple[int, int], ...]
    is_bf16: bool


SWEEP = tuple((rows, rows) for rows in (1, 2, 4, 8, 16))
SCALES = {
    "tiny": Scale("tiny", "tiny", 128, steps=((16, 4), (16, 16)), quick_steps=((8, 4),), is_bf16=False),
    "7b": Scale("paper", "paper", 640, steps=SWEEP, quick_steps=SWEEP[:2], is_bf16=True),
    "rehearsal": Scale("tiny", "paper", 128, steps=SWEEP[:2], quick_steps=SWEEP[:1], is_bf16=True),
}


@dataclass(frozen=True)
class Settings:
    """The sections of the presets that a benchmark reads."""

    generate: GenerateConfig
    backbones: BackbonesConfig
    network: NetworkConfig
    stage2: TrainConfig


@dataclass(frozen=True)
class Data:
    """Rendered scenes and the dialogues about them."""

    pictures: dict[str, Image.Image]
    regions: dict[str, Region]
    dialogues: list[Dialogue]
    tokenizer: PreTrainedTokenizerFast


@dataclass(frozen=True)
class Model:
    """A network with random weights, its frozen encoders and its optimiser."""

    network: MirasNetwork
    encoders: VisionEncoders
    shape: SamShape
    optimiser: torch.optim.Optimizer
    device: torch.device
    is_bf16: bool

    @property
    def encoder_dtype(self) -> torch.dtype:
        """Of the encoders' weights and inputs; on a CPU torch lacks operations of theirs in bfloat16."""
        return torch.bfloat16 if self.is_bf16 and self.device.type == "cuda" else torch.float32

    def step(self, passes: Passes, *, clip_norm: float) -> None:
        """One optimiser step on the sum of the losses of several passes."""
        try:
            for loss in passes():
                loss().backward()
            nn.utils.clip_grad_norm_([value for _, value in self.network.trainable()], clip_norm)
            self.optimiser.step()
        finally:
            self.optimiser.zero_grad()

    def precision(self) -> torch.autocast:
        """What the forward pass runs under."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16)

    def held_bytes(self, *, with_encoders: bool) -> int:
        """Parameters, buffers and the optimiser's state."""
        modules = [self.network, self.encoders] if with_encoders else [self.network]
        own = chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)
        state = (value for entry in self.optimiser.state.values() for value in entry.values())
        return sum(value.numel() * value.element_size() for value in chain(own, state) if isinstance(value, Tensor))


def read_settings(scale: Scale) -> Settings:
    """The presets of a scale, without mask memory (a plain LISA-style step has none)."""
    of = {name: read_yaml(PRESETS / f"{preset}.yaml") for name, preset in vars(scale).items() if name in _FROM}
    values = {section: of[preset][section] for preset, sections in _FROM.items() for section in sections}
    found: dict[str, Any] = parse_sections(values, SECTIONS, source=f"presets/{scale.settings}.yaml")
    network = found["network"].model_copy(update={"mask_memory": "off", "reference_loss": False})
    stage2 = found["stage2"].model_copy(update={"dialogues_per_row": DIALOGUES_PER_ROW})
    return Settings(found["generate"], found["backbones"], network, stage2)


def make_data(settings: Settings, *, pictures: int, picture_px: int) -> Data:
    """Scenes with phrases as `ingest` makes them and dialogues as `generate` writes them."""
    images: dict[str, Image.Image] = {}
    regions: dict[str, Region] = {}
    dialogues: list[Dialogue] = []
    for source in scenes.read(count=pictures, size_px=picture_px, seed=0):
        phrases = identify(source.regions)
        named = [
            region.model_copy(update={"phrase": phrases.get(region.region_id, region.category)})
            for region in source.regions
        ]
        images[source.image_id] = source.pixels
        regions |= {region.region_id: region for region in named}
        written = write_about(source.image_id, named, scenes.CATEGORIES, settings.generate)
        dialogues += written.dialogues
    texts = [text for dialogue in dialogues for turn in dialogue.turns for text in (turn.question, turn.answer)]
    texts += [region.phrase for region in regions.values()]
    texts += ["USER: ASSISTANT:", settings.network.system_prompt] * len(dialogues)
    mini = settings.backbones.mini
    vocabulary = mini.language.vocabulary if mini else 1500
    return Data(images, regions, dialogues, train_tokenizer(texts, vocabulary=vocabulary))


def make_model(
    settings: Settings, tokenizer: PreTrainedTokenizerFast, *, device: torch.device, is_bf16: bool, is_plain: bool
) -> Model:
    """The network and its encoders with random weights, the same ones at every call.

    Args:
        settings: sizes and what is trained.
        tokenizer: with the markers.
        device: where to.
        is_bf16: what training never changes is bfloat16, and the step runs in mixed precision.
        is_plain: with adapters, embedding and output layer are trained whole.
    """
    torch.manual_seed(0)
    with torch.device(device):
        llava, convnext, size_px, grid, shape = _backbones(settings.backbones, tokenizer, is_bf16=is_bf16)
        sam = build_sam(shape)
        network = assemble(settings.network, llava=llava, sam=sam, convnext=convnext, new_words=new_words(tokenizer))
    layer: Any = llava.config.vision_feature_layer
    encoders = VisionEncoders(
        clip=llava.model.vision_tower,
        clip_layer=layer,
        convnext=convnext if settings.network.dual_encoder else None,
        high_size_px=size_px,
        high_grid=grid,
        sam=sam.image_encoder,
    )
    if is_bf16:
        network.set_precision(torch.bfloat16)
    network.freeze(settings.stage2.frozen)
    if is_plain:
        train_whole_vocabulary(network)
    if settings.network.language_training == "lora":
        network.language.gradient_checkpointing_enable({"use_reentrant": False})
    optimiser = torch.optim.AdamW(
        parameter_groups(network, decoder_rate=1.0), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    model = Model(network.train(), encoders, shape, optimiser, device, is_bf16)
    encoders.to(model.encoder_dtype)
    return model


def _backbones(
    config: BackbonesConfig, tokenizer: PreTrainedTokenizerFast, *, is_bf16: bool
) -> tuple[LlavaForConditionalGeneration, ConvNextModel, int, int, SamShape]:
    """LLaVA, ConvNeXt, its input side and grid, and SAM's sizes."""
    if config.mini is not None:
        mini = config.mini
        llava, convnext = build_llava(mini, tokenizer), build_convnext(mini)
        return llava, convnext, mini.convnext.image_size_px, mini.convnext.grid, sam_shape(mini.sam)
    assert config.public is not None
    public = config.public
    dtype = torch.bfloat16 if is_bf16 else torch.float32
    llava = AutoModelForImageTextToText.from_config(llava_config(public.llava), dtype=dtype)
    convnext = ConvNextModel(convnext_config(public.convnext))
    return llava, convnext, public.convnext_image_size_px, public.convnext_grid, SAM_SHAPES[public.sam_type]


def write_store(folder: Path, model: Model, pictures: Mapping[str, Image.Image]) -> FeatureStore:
    """The pictures' features as the stage `features` stores them."""
    ids, shards = list(pictures), {}
    tables: tuple[Table, ...] = ("pictures", "sam")
    for table in tables:
        batches = []
        for image_id in ids:
            is_bf16 = model.encoder_dtype == torch.bfloat16
            with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=is_bf16):
                found = ENCODE[table](model.encoders, [pictures[image_id]], [])
            batches.append({part: value.half().cpu() for part, value in found.items()})
        path = write_shard(folder, ids, {part: torch.cat([batch[part] for batch in batches]) for part in batches[0]})
        shards[f"{table}-{path.name}"] = ids
        path.rename(folder / f"{table}-{path.name}")
    side = model.shape.image_size_px // model.shape.patch_px
    index = FeatureIndex(
        fingerprint="benchmark",
        sam_shape=(model.shape.prompt_width, side, side),
        pictures={image_id: image_id for image_id in ids},
        regions={},
        shards=shards,
    )
    write_json(folder / INDEX, index.model_dump())
    return FeatureStore(folder, fingerprint="benchmark")


def make_collator(settings: Settings, data: Data, model: Model, store: Any, *, mask_side: int = 0) -> Collator:
    """The collator of stage 2.

    Args:
        settings: of the network and the stage.
        data: whose regions it knows.
        model: whose rows it makes.
        store: a `FeatureStore` or an `EncodingStore`.
        mask_side: at which masks are compared; 0: the preset's.
    """
    clip: Any = model.encoders.clip.config
    builder = RowBuilder(
        data.tokenizer,
        num_image_tokens=(clip.image_size // clip.patch_size) ** 2,
        system_prompt=settings.network.system_prompt,
        max_tokens=settings.network.max_tokens,
        mask_memory=settings.network.mask_memory,
    )
    shape = model.shape
    side = mask_side or settings.stage2.mask_side_px or 4 * shape.image_size_px // shape.patch_px
    return Collator(builder, store, data.regions, mask_side=side, frame_px=shape.image_size_px)


def packed_rows(settings: Settings, data: Data, count: int) -> list[Row]:
    """The first rows of stage 2."""
    mixture = Mixture(
        data.dialogues,
        weights=settings.stage2.mixture,
        dialogues_per_row=settings.stage2.dialogues_per_row,
        aligned_share=1.0,
        seed=settings.stage2.seed,
    )
    return mixture.rows(range(count))


def unpacked(rows: Sequence[Row]) -> list[Row]:
    """The same dialogues, one per row."""
    return [replace(row, dialogues=(dialogue,)) for row in rows for dialogue in row.dialogues]
