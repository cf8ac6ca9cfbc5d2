"""Stage `features`: the frozen encoders' outputs, once per picture, in safetensors shards read by memory map.

Shards finished before an interruption are kept in the stage's work folder and are not made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from miras.dialogue.records import Picture
from miras.errors import DataError
from miras.files import finished_file, finished_folder, read_records, write_json
from miras.model.allocator import keep_freed_memory
from miras.model.config import FeaturesConfig
from miras.model.vision import PictureFeatures, VisionEncoders
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.progress import progress

INDEX = "index.json"
PARTS = ("clip", "high", "sam")


class FeatureIndex(BaseModel):
    """What `index.json` holds."""

    fingerprint: str
    """Of the encoders (`BackbonesManifest.fingerprint`)."""
    shards: dict[str, list[str]]
    """Shard file name -> image ids, in row order."""


def run(*, paths: Paths, work: Path, features: FeaturesConfig) -> None:
    """Writes `paths.features`."""
    backbones = Backbones(Path(paths.backbones))
    encoders = backbones.encoders()
    keep_freed_memory()
    torch.set_flush_denormal(True)
    pictures = list(read_records(paths.picture_table, Picture))
    shards: dict[str, list[str]] = {}
    with progress(total=len(pictures), name="features", unit="picture") as bar:
        for start in range(0, len(pictures), features.shard_size):
            group = pictures[start : start + features.shard_size]
            name = f"{start // features.shard_size:05d}.safetensors"
            shards[name] = [picture.image_id for picture in group]
            if not (work / name).exists():
                write_shard(work / name, encoders, group, folder=paths.pictures, batch_size=features.batch_size)
            bar.update(len(group))
    with finished_folder(Path(paths.features)) as folder:
        for name in shards:
            (folder / name).hardlink_to(work / name)
        index = FeatureIndex(fingerprint=backbones.manifest.fingerprint, shards=shards)
        write_json(folder / INDEX, index.model_dump())


def write_shard(
    path: Path, encoders: VisionEncoders, pictures: Sequence[Picture], *, folder: Path, batch_size: int
) -> None:
    """Encodes pictures and writes float16 tensors `clip` [n, N, Cl], `high` [n, Ch, grid, grid], `sam` [n, D, g, g]."""
    parts: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for start in range(0, len(pictures), batch_size):
        encoded = encoders([open_rgb(folder / p.file_name) for p in pictures[start : start + batch_size]])
        for part in PARTS:
            value = getattr(encoded, part)
            if value is not None:
                parts[part].append(value.half().cpu())
    with finished_file(path) as aside:
        save_file({part: torch.cat(values).contiguous() for part, values in parts.items() if values}, aside)


def open_rgb(path: Path) -> Image.Image:
    """A stored picture; `ingest` has made sure that it is upright RGB."""
    with Image.open(path) as opened:
        return opened.convert("RGB")


class FeatureStore:
    """Stored features by image id; reads only the rows asked for."""

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        """Raises DataError when the store is absent, or was made by encoders with another fingerprint."""
        self.folder = folder
        try:
            index = FeatureIndex.model_validate(json.loads((folder / INDEX).read_text("utf-8")))
        except FileNotFoundError:
            raise DataError(f"{folder / INDEX}: no such file; run `dvc repro features`.") from None
        if index.fingerprint != fingerprint:
            raise DataError(
                f"{folder}: made by encoders {index.fingerprint[:12]}, but the backbones are {fingerprint[:12]}. "
                "Run `dvc repro features`."
            )
        self._places = {
            image_id: (shard, row) for shard, ids in index.shards.items() for row, image_id in enumerate(ids)
        }
        self._open: dict[str, safe_open] = {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def read(self, image_ids: Iterable[str]) -> PictureFeatures:
        """Float32 features of the given pictures, in their order.

        Raises:
            DataError: a picture is not in the store, or a shard is damaged.
        """
        rows = [self._row(image_id) for image_id in image_ids]
        stacked = {
            part: torch.stack([row[part] for row in rows]).float() if part in rows[0] else None for part in PARTS
        }
        clip, sam = stacked["clip"], stacked["sam"]
        assert clip is not None
        assert sam is not None
        return PictureFeatures(clip, stacked["high"], sam)

    def _row(self, image_id: str) -> dict[str, Tensor]:
        if image_id not in self._places:
            raise DataError(f"{self.folder}: no features of picture {image_id}; run `dvc repro features`.")
        shard, row = self._places[image_id]
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(self.folder / shard, framework="pt")
            opened = self._open[shard]
            return {part: opened.get_slice(part)[row] for part in opened.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{self.folder / shard}: damaged ({error}). Delete {self.folder} and run `dvc repro features`."
            ) from error
