"""Stage `backbones`: checks and pins the public weights a preset names, or makes mini ones.

Mini backbones stand in for pretrained ones, which do not exist this small: their encoders are trained with dense
labels (`pretraining`), their language model starts random and is trained whole in stage 1 and 2.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from PIL import Image

from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import ConfigError, DataError, ServiceUnavailableError
from miras.files import finished_folder, read_records, write_json
from miras.metrics_log import METRICS
from miras.model.allocator import keep_freed_memory
from miras.model.config import BackbonesConfig, Mini, Public
from miras.model.convnext import TIMM_FILES, load_convnext
from miras.model.dense_targets import DenseBatch, DenseSource
from miras.model.mini import build_convnext, build_llava, sam_shape, save_mini, train_tokenizer
from miras.model.pretraining import MiniEncoders, pretrain
from miras.model.sam import SAM_SHAPES, build_sam, load_sam
from miras.model.vision import frame
from miras.model.weights import write_manifest
from miras.paths import Paths
from miras.sources import scenes

logger = logging.getLogger(__name__)

WEIGHT_FILES = ("*.json", "*.safetensors", "*.model")

PRETRAINING_SEED_OFFSET = 10_000_000_000  # scenes of the data set start at seed * 1_000_003: never the same ones


def run(*, paths: Paths, work: Path, backbones: BackbonesConfig) -> None:
    """Writes `paths.backbones`.

    Raises:
        ConfigError: not exactly one of `backbones.mini` and `backbones.public` is given.
        DataError: public weights are missing or are not what they should be.
    """
    if (backbones.mini is None) == (backbones.public is None):
        raise ConfigError("params.yaml: backbones: give exactly one of `mini` and `public`; set the other to null.")
    with finished_folder(Path(paths.backbones)) as folder:
        if backbones.mini is not None:
            make_mini(folder, backbones.mini, paths, work)
        elif backbones.public is not None:
            pin_public(folder, backbones.public)


def make_mini(folder: Path, mini: Mini, paths: Paths, work: Path) -> None:
    """Trains the tokenizer and the mini encoders and writes them in the form of public weights."""
    keep_freed_memory()
    torch.manual_seed(mini.pretraining.seed)
    torch.set_flush_denormal(True)
    tokenizer = train_tokenizer(dialogue_texts(paths), vocabulary=mini.language.vocabulary)
    llava, convnext, sam = build_llava(mini, tokenizer), build_convnext(mini), build_sam(sam_shape(mini.sam))
    source = rendered_source(mini) if mini.pretraining.pictures == "rendered" else train_split_source(mini, paths)
    model = MiniEncoders(mini, clip=llava.model.vision_tower, convnext=convnext, sam=sam, source=source)
    figures = pretrain(model, source, mini=mini, work=work)
    shutil.copyfile(work / METRICS, folder / METRICS)
    logger.info("mini encoders trained %s", " ".join(f"{k}={v:.3f}" for k, v in figures.items()))
    save_mini(folder, mini, tokenizer=tokenizer, llava=llava, convnext=convnext, sam=sam, mining=model.mining)
    write_json(folder / "summary.json", {name: round(value, 4) for name, value in figures.items()})


def dialogue_texts(paths: Paths) -> Iterator[str]:
    """Every question, answer and phrase of the training split, for the tokenizer."""
    yield from ["USER: ASSISTANT:"] * 1000
    for dialogue in read_records(paths.split_dialogues("train"), Dialogue):
        for turn in dialogue.turns:
            yield turn.question
            yield turn.answer.replace("{target}", "")
    for region in read_records(paths.checked_regions, Region):
        yield region.phrase


def rendered_source(mini: Mini) -> DenseSource:
    """Endless rendered scenes, other ones than any data set's."""
    size, count = largest_input_px(mini), mini.pretraining.batch_size

    def batch(step: int) -> DenseBatch:
        first = PRETRAINING_SEED_OFFSET + mini.pretraining.seed * 1_000_000_000 + step * count
        rendered = [scenes.render_scene(first + number, size_px=size) for number in range(count)]
        labels = [scenes.dense_labels(scene) for scene in rendered]
        maps = {
            name: np.stack([getattr(label, name) for label in labels]).astype(np.int64)
            for name in ("part", "category", "colour", "text", "instance")
        }
        return DenseBatch(
            pictures=[Image.fromarray(scene.pixels) for scene in rendered],
            instance=maps.pop("instance"),
            maps=maps,
        )

    return DenseSource(
        batch,
        {
            "part": 1 + len(scenes.ALL_PARTS),
            "category": 1 + len(scenes.CATEGORIES),
            "colour": 1 + len(scenes.COLOURS),
            "text": 1 + len(scenes.TEXTS),
        },
    )


def largest_input_px(mini: Mini) -> int:
    """Side of the pictures to learn from: no encoder sees an enlarged one."""
    return max(mini.clip.image_size_px, mini.convnext.image_size_px, mini.sam.image_size_px)


def train_split_source(mini: Mini, paths: Paths) -> DenseSource:
    """The regions of the training split, painted from large to small, as classes per pixel, cropped and lit at random.

    Nothing is mirrored: left and right in a name may be the object's own (a car's left door).
    """
    image_ids = {dialogue.image_id for dialogue in read_records(paths.split_dialogues("train"), Dialogue)}
    pictures = {p.image_id: p for p in read_records(paths.picture_table, Picture) if p.image_id in image_ids}
    regions: dict[str, list[Region]] = {image_id: [] for image_id in pictures}
    for region in read_records(paths.checked_regions, Region):
        if region.image_id in regions and region.mask is not None:
            regions[region.image_id].append(region)
    names = sorted({region.category for group in regions.values() for region in group})
    size = largest_input_px(mini)
    samples = [
        _painted(pictures[image_id], group, names, size=size, folder=paths.pictures)
        for image_id, group in sorted(regions.items())
    ]

    def batch(step: int) -> DenseBatch:
        generator = np.random.default_rng((mini.pretraining.seed, step))
        numbers = generator.integers(len(samples), size=mini.pretraining.batch_size)
        chosen = [_jittered(samples[number], generator) for number in numbers]
        return DenseBatch(
            pictures=[Image.fromarray(pixels) for pixels, _, _ in chosen],
            maps={"category": np.stack([category for _, category, _ in chosen])},
            instance=np.stack([instance for _, _, instance in chosen]),
        )

    return DenseSource(batch, {"category": 1 + len(names)})


def _jittered(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random window (60 to 100 % of the side) of pixels and labels, back at full size, with other light."""
    size = sample[0].shape[0]
    side = int(size * generator.uniform(0.6, 1.0))
    top, left = generator.integers(size - side + 1, size=2)
    index = (np.arange(size) * side / size).astype(int)
    rows, columns = (top + index)[:, None], (left + index)[None, :]
    light, tint = generator.uniform(0.7, 1.3), generator.uniform(0.9, 1.1, size=3)
    pixels = np.clip(sample[0][rows, columns] * (light * tint), 0, 255).astype(np.uint8)
    return pixels, sample[1][rows, columns], sample[2][rows, columns]


def _painted(
    picture: Picture, regions: list[Region], names: list[str], *, size: int, folder: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture in its square frame with its category and instance per pixel, uint8 and int64 [size, size]."""
    with Image.open(folder / picture.file_name) as opened:
        pixels, (height, width) = frame(opened.convert("RGB"), size)
    category, instance = np.zeros((2, size, size), np.int64)
    by_size = sorted(regions, key=lambda region: -masks.area_px(region.mask) if region.mask else 0)
    for number, region in enumerate(by_size, 1):
        assert region.mask is not None
        small = Image.fromarray(masks.decode(region.mask)).resize((width, height), Image.Resampling.NEAREST)
        where = np.asarray(small, bool)
        category[:height, :width][where] = 1 + names.index(region.category)
        instance[:height, :width][where] = number
    return pixels, category, instance


def pin_public(folder: Path, public: Public) -> None:
    """Fetches or finds public weights, checks that they load as what they should be, and records their hashes.

    Raises:
        DataError: a file is missing or does not fit `sam_type`.
        ServiceUnavailableError: a hub name is not here and the hub cannot be reached.
    """
    places = {"llava": resolve(public.llava), "sam": Path(public.sam)}
    if public.convnext:
        places["convnext"] = resolve(public.convnext, WEIGHT_FILES + TIMM_FILES)
        load_convnext(places["convnext"])
    if not places["sam"].is_file():
        raise DataError(f"{public.sam}: no such file (backbones.public.sam). Download a sam_vit_*.pth and name it.")
    load_sam(SAM_SHAPES[public.sam_type], places["sam"])
    write_manifest(
        folder,
        {
            "kind": "public",
            "llava": str(places["llava"]),
            "convnext": str(places.get("convnext", "")),
            "convnext_image_size_px": public.convnext_image_size_px,
            "convnext_grid": public.convnext_grid,
            "sam": str(places["sam"].resolve()),
            "sam_shape": SAM_SHAPES[public.sam_type].model_dump(),
        },
        parts=places,
    )
    write_json(folder / "summary.json", {"parts": len(places)})
    shutil.rmtree(folder / "llava", ignore_errors=True)


def resolve(name: str, files: tuple[str, ...] = WEIGHT_FILES) -> Path:
    """The local folder of a checkpoint named by path or hub name, fetched if need be."""
    if Path(name).is_dir():
        return Path(name).resolve()
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except HFValidationError:
        raise DataError(f"{name}: neither a folder nor a hub name (backbones.public).") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ServiceUnavailableError(
            f"{name}: not in the local cache and the hub does not give it ({type(error).__name__}). "
            "Download it once where there is a network, or name a local folder in backbones.public."
        ) from error
