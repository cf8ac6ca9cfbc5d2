"""Stage `features`: the frozen encoders' outputs, once per picture, in safetensors shards read by memory map.

Three tables: `pictures` (CLIP tokens, ConvNeXt map), `sam` (only of pictures that a dialogue has a target in) and
`regions` (CLIP vectors of regions that a question speaks of). Rows are keyed by content: a picture file's sha256, or
that and a mask. Shards outlive the run in `<work>/../store/<table>-<version>/`, where the version says which encoders
made them; a run makes only the rows that are not there, and the result is hard-linked from there. A finished run
leaves nothing there that its result does not use, and merges shards that are mostly out of use.
Letters: B pictures, S of them with SAM's embedding, n regions; Cl D channels, g SAM embedding side.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from miras.dialogue.records import SPLITS, Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import finished_folder, read_records, write_json
from miras.launch.profiles import Launch, read_launch
from miras.model.config import FeaturesConfig
from miras.model.feature_encoding import TABLES, Job, Plan, Row, Table, encode, table_version
from miras.model.feature_encoding import open_rgb as open_rgb  # for who has a store and a picture file
from miras.model.feature_shards import Shard, compacted, provided, whole_shards
from miras.model.vision import PictureFeatures
from miras.model.weights import Backbones, BackbonesManifest
from miras.paths import Paths

log = logging.getLogger(__name__)

INDEX = "index.json"
SUMMARY = "summary.json"
STORE = "store"

_REMEDY = "Run `dvc repro --force --single-item features`: what is whole is not made again."


class FeatureIndex(BaseModel):
    """What `index.json` holds."""

    fingerprint: str
    """Of the encoders (`BackbonesManifest.fingerprint`)."""
    sam_shape: tuple[int, int, int]
    """(D, g, g)."""
    pictures: dict[str, str]
    """Image id -> key in `pictures` and, where it is there, in `sam`."""
    regions: dict[str, str]
    """Region id -> key in `regions`."""
    shards: dict[str, list[str]]
    """File name, `<table>-<hash>.safetensors` -> keys of use in it."""


@dataclass(frozen=True)
class Wanted:
    """What the data set needs."""

    pictures: dict[str, str]
    """Image id -> key."""
    regions: dict[str, str]
    """Region id -> key."""
    rows: dict[Table, dict[str, Row]]
    """Table -> rows by key."""

    @property
    def num_rows(self) -> int:
        """Of all tables."""
        return sum(len(rows) for rows in self.rows.values())


def run(*, paths: Paths, work: Path, features: FeaturesConfig) -> None:
    """Writes `paths.features`; the launch profile says how many processes encode."""
    build(paths=paths, work=work, config=features, launch=read_launch())


def build(*, paths: Paths, work: Path, config: FeaturesConfig, launch: Launch) -> None:
    """The stage with a given launch profile.

    Raises:
        DataError: a picture is missing or is not the one that was ingested.
    """
    manifest = Backbones(Path(paths.backbones)).manifest
    wanted = read_wanted(paths)
    store = work.parent / STORE
    folders = {table: store / f"{table}-{table_version(table, manifest.fingerprint)}" for table in TABLES}
    shards = {table: whole_shards(folder) for table, folder in folders.items()}
    jobs = [
        Job(table=table, folder=str(folders[table]), rows=rows)
        for table in TABLES
        for rows in _missing(wanted.rows[table], shards[table], shard_size=config.shard_size)
    ]
    log.info("features rows=%d to_encode=%d", wanted.num_rows, sum(len(job.rows) for job in jobs))
    plan = Plan(backbones=paths.backbones, pictures=str(paths.pictures), batch_size=config.batch_size, jobs=jobs)
    encode(plan, work=work, launch=launch)
    for job in jobs:
        shards[job.table].append(Shard(job.path))
    used = {
        table: _in_order(
            compacted(provided(shards[table], wanted.rows[table]), shard_size=config.shard_size), wanted.rows[table]
        )
        for table in TABLES
    }
    _publish(Path(paths.features), manifest, wanted, used)
    _remove_unused(store, {shard.path for table in TABLES for shard in used[table]})


def _missing(rows: Mapping[str, Row], shards: Sequence[Shard], *, shard_size: int) -> list[list[Row]]:
    """The rows that no shard holds, in groups of `shard_size`."""
    stored = {key for shard in shards for key in shard.keys}
    missing = [row for key, row in rows.items() if key not in stored]
    return [missing[start : start + shard_size] for start in range(0, len(missing), shard_size)]


def read_wanted(paths: Paths) -> Wanted:
    """What the pictures and the dialogues of every split need.

    SAM's embedding is for pictures with a target, in order; region vectors are for regions with a mask that a
    question speaks of. Pictures of the same content share a row.
    """
    pictures = {picture.image_id: picture for picture in read_records(paths.picture_table, Picture)}
    with_target: set[str] = set()
    spoken_of: set[str] = set()
    for split in SPLITS:
        for dialogue in read_records(paths.split_dialogues(split), Dialogue):
            if any(turn.targets for turn in dialogue.turns):
                with_target.add(dialogue.image_id)
            for number in range(len(dialogue.turns)):
                spoken_of.update(dialogue.references(number))
    regions = read_records(paths.checked_regions, Region) if spoken_of else []
    region_rows = {
        region.region_id: region_row(region, pictures[region.image_id])
        for region in regions
        if region.region_id in spoken_of and region.mask is not None
    }
    rows = {image_id: picture_row(picture) for image_id, picture in pictures.items()}
    return Wanted(
        pictures={image_id: row.key for image_id, row in rows.items()},
        regions={region_id: row.key for region_id, row in region_rows.items()},
        rows={
            "pictures": {row.key: row for row in rows.values()},
            "sam": {row.key: row for image_id, row in rows.items() if image_id in with_target},
            "regions": {row.key: row for row in region_rows.values()},
        },
    )


def picture_row(picture: Picture) -> Row:
    """The row of a picture, keyed by its content."""
    return Row(key=picture.sha256, file_name=picture.file_name, sha256=picture.sha256)


def region_row(region: Region, picture: Picture) -> Row:
    """The row of a region, keyed by its mask and its picture's content."""
    assert region.mask is not None
    key = hashlib.sha256(f"{picture.sha256} {region.mask.model_dump_json()}".encode()).hexdigest()[:32]
    return Row(key=key, file_name=picture.file_name, sha256=picture.sha256, mask=region.mask)


def _in_order(shards: Mapping[Shard, list[str]], keys: Iterable[str]) -> dict[Shard, list[str]]:
    """Shards by the first of `keys` that each holds."""
    place = {key: number for number, key in enumerate(keys)}
    return dict(sorted(shards.items(), key=lambda item: min(place[key] for key in item[1])))


def _publish(
    output: Path, manifest: BackbonesManifest, wanted: Wanted, used: Mapping[Table, Mapping[Shard, list[str]]]
) -> None:
    side = manifest.sam_shape.image_size_px // manifest.sam_shape.patch_px
    index = FeatureIndex(
        fingerprint=manifest.fingerprint,
        sam_shape=(manifest.sam_shape.prompt_width, side, side),
        pictures=wanted.pictures,
        regions=wanted.regions,
        shards={f"{table}-{shard.path.name}": keys for table, shards in used.items() for shard, keys in shards.items()},
    )
    with finished_folder(output) as folder:
        for table, shards in used.items():
            for shard in shards:
                _link(shard.path, folder / f"{table}-{shard.path.name}")
        size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        write_json(folder / SUMMARY, {**{t: len(wanted.rows[t]) for t in TABLES}, "megabytes": round(size_mb, 1)})
        write_json(folder / INDEX, index.model_dump())


def _link(path: Path, to: Path) -> None:
    """A hard link, or a copy where the file system has none or is another."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def _remove_unused(store: Path, used: set[Path]) -> None:
    for folder in store.glob("*"):
        for path in set(folder.iterdir()) - used:
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


class FeatureStore:
    """Stored features by image id and region id; reads only the rows asked for."""

    def __init__(self, folder: Path, *, fingerprint: str) -> None:
        """Raises DataError when the store is absent or damaged, or made by encoders with another fingerprint."""
        self.folder = folder
        try:
            self._index = FeatureIndex.model_validate_json((folder / INDEX).read_bytes())
        except FileNotFoundError:
            raise DataError(f"{folder / INDEX}: no such file; run `dvc repro features`.") from None
        except ValidationError:
            raise DataError(f"{folder / INDEX}: damaged, not an index of features. {_REMEDY}") from None
        if self._index.fingerprint != fingerprint:
            raise DataError(
                f"{folder}: made by encoders {self._index.fingerprint[:12]}, but the backbones are "
                f"{fingerprint[:12]}. Run `dvc repro features`."
            )
        self._places = {
            (name.partition("-")[0], key): name for name, keys in self._index.shards.items() for key in keys
        }
        named = [("pictures", key) for key in self._index.pictures.values()]
        named += [("regions", key) for key in self._index.regions.values()]
        if not self._places.keys() >= set(named):
            raise DataError(f"{folder / INDEX}: damaged, it names rows that no shard holds. {_REMEDY}")
        self._open: dict[str, Shard] = {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._index.pictures

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Of the stored pictures."""
        return tuple(self._index.pictures)

    def has_sam(self, image_id: str) -> bool:
        """Whether SAM's embedding of the picture is stored: some dialogue has a target in it."""
        return ("sam", self._index.pictures.get(image_id, "")) in self._places

    def read(
        self, image_ids: Iterable[str], *, num_sam: int | None = None, dtype: torch.dtype = torch.float32
    ) -> PictureFeatures:
        """Features of the given pictures, in their order, on the CPU.

        Every part has at least one row, of zeros where nothing was asked for: a batch without pictures or without
        targets still runs every module.

        Args:
            image_ids: B of them.
            num_sam: `sam` is of the first S pictures alone; None: of all.
            dtype: what is stored as float16 is given as this.

        Raises:
            DataError: a picture is not in the store, or is without SAM's embedding, or a row is damaged.
        """
        ids = list(image_ids)
        rows = [self._row("pictures", self._picture_key(image_id)) for image_id in ids]
        rows = rows or [self._zeros]
        parts = {part: torch.stack([row[part] for row in rows]).to(dtype) for part in rows[0]}
        sam = self.read_sam(ids[:num_sam], dtype=dtype)
        if not len(sam):
            sam = torch.zeros(1, *self._index.sam_shape, dtype=dtype)
        return PictureFeatures(parts["clip"], parts.get("high"), sam)

    def read_sam(self, image_ids: Iterable[str], *, dtype: torch.dtype = torch.float32) -> Tensor:
        """SAM's embeddings [S, D, g, g] of the given pictures, in their order.

        Raises:
            DataError: a picture has none, see `has_sam`, or its row is damaged.
        """
        rows = []
        for image_id in image_ids:
            key = self._picture_key(image_id)
            if ("sam", key) not in self._places:
                raise DataError(
                    f"{self.folder}: no SAM embedding of picture {image_id}, since no dialogue had a target in it. "
                    "Run `dvc repro features` after adding dialogues, or encode the picture."
                )
            rows.append(self._row("sam", key)["sam"])
        return torch.stack(rows).to(dtype) if rows else torch.zeros(0, *self._index.sam_shape, dtype=dtype)

    def read_regions(self, region_ids: Iterable[str], *, dtype: torch.dtype = torch.float32) -> Tensor:
        """CLIP vectors [n, Cl] of the blacked-out crops of regions that dialogues speak of, in the given order.

        Raises:
            DataError: a region has none, or its row is damaged.
        """
        rows = []
        for region_id in region_ids:
            if region_id not in self._index.regions:
                raise DataError(
                    f"{self.folder}: no vector of region {region_id}: no question spoke of it when the features were "
                    "made, or it has no mask. Run `dvc repro features`."
                )
            rows.append(self._row("regions", self._index.regions[region_id])["region"])
        return torch.stack(rows).to(dtype) if rows else torch.zeros(0, self._zeros["clip"].shape[-1], dtype=dtype)

    @cached_property
    def _zeros(self) -> dict[str, Tensor]:
        """A row of `pictures` for no picture."""
        first = next(iter(self._index.pictures.values()))
        return {part: torch.zeros_like(tensor) for part, tensor in self._row("pictures", first).items()}

    def _picture_key(self, image_id: str) -> str:
        if image_id not in self:
            raise DataError(f"{self.folder}: no features of picture {image_id}; run `dvc repro features`.")
        return self._index.pictures[image_id]

    def _row(self, table: Table, key: str) -> dict[str, Tensor]:
        name = self._places[table, key]
        try:
            return self._shard(name).row(key)
        except DataError as error:
            raise DataError(f"{error} {_REMEDY}") from None

    def _shard(self, name: str) -> Shard:
        if name not in self._open:
            self._open[name] = Shard(self.folder / name)
        return self._open[name]
