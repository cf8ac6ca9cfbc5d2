"""The stage `ingest`: pictures and regions of one source, in the form every later stage reads.

It has no resumable state: rendering makes some thousand pictures a second and users' pictures are copied,
so an interrupted run leaves nothing behind and the next one starts over.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel

from miras.dialogue.records import Picture, Region, Rejected
from miras.errors import DataError
from miras.files import finished_folder, write_records
from miras.generate.phrases import identify
from miras.paths import Paths
from miras.progress import progress
from miras.sources import coco, labelme, scenes
from miras.sources.annotations import NotAnArea, RejectedPicture, RejectedRegion, rejection
from miras.sources.config import IngestConfig, SourceName
from miras.sources.pictures import FilePicture, encode_png
from miras.sources.records import SourcePicture

log = logging.getLogger(__name__)

NUM_REASONS_SHOWN = 5


@dataclass
class _Tally:
    """What was read so far."""

    num_pictures: int = 0
    num_regions: int = 0
    num_masks: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def count(self, kind: type[Rejected]) -> int:
        return sum(isinstance(item, kind) for item in self.rejected)

    def rejected_share(self) -> float:
        """The larger of two shares: rejected among all pictures, rejected among the regions of those kept."""
        pictures, regions = self.count(RejectedPicture), self.count(RejectedRegion)
        return max(pictures / max(1, pictures + self.num_pictures), regions / max(1, regions + self.num_regions))


def run(*, paths: Paths, work: Path, ingest: IngestConfig) -> None:
    """Writes pictures, `Picture`, `Region` and `Rejected` tables into the folder `paths.ingest`.

    Points and lines in annotations are listed as rejected but do not count towards `max_rejected_share`.
    When the stage refuses the source, the list of rejected records is kept in `work`.

    Raises:
        DataError: the source is unreadable as a whole, has no picture or no mask, or too much of it is
            rejected.
    """
    with finished_folder(Path(paths.ingest)) as folder:
        tally = _store(READERS[ingest.source](ingest), folder, paths, max_pictures=ingest.max_pictures)
        write_records(folder / paths.rejected_table.name, tally.rejected)
        rejected_copy = work / paths.rejected_table.name
        write_records(rejected_copy, tally.rejected)
        _refuse_unusable(tally, ingest, rejected_copy)
    log.info(
        "ingested source=%s pictures=%d regions=%d rejected_pictures=%d rejected_regions=%d not_areas=%d",
        ingest.source,
        tally.num_pictures,
        tally.num_regions,
        tally.count(RejectedPicture),
        tally.count(RejectedRegion),
        tally.count(NotAnArea),
    )


def _read_scenes(config: IngestConfig) -> Iterator[SourcePicture]:
    rendered = scenes.read(count=config.max_pictures, size_px=config.scene_size_px, seed=config.seed)
    yield from progress(rendered, total=config.max_pictures, name="rendering scenes", unit="pictures")


def _read_coco(config: IngestConfig) -> Iterator[SourcePicture | Rejected]:
    return coco.read(
        Path(config.annotations),
        pictures=_pictures_folder(config),
        ignore_categories=config.ignore_categories,
        max_megapixels=config.max_megapixels,
        max_pictures=config.max_pictures,
    )


def _read_labelme(config: IngestConfig) -> Iterator[SourcePicture | Rejected]:
    return labelme.read(
        Path(config.annotations),
        pictures=_pictures_folder(config),
        ignore_categories=config.ignore_categories,
        max_megapixels=config.max_megapixels,
        max_pictures=config.max_pictures,
    )


READERS: dict[SourceName, Callable[[IngestConfig], Iterable[SourcePicture | Rejected]]] = {
    "scenes": _read_scenes,
    "coco": _read_coco,
    "labelme": _read_labelme,
}


def _pictures_folder(config: IngestConfig) -> Path | None:
    if not config.pictures:
        return None
    folder = Path(config.pictures)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Set ingest.pictures to the folder of the pictures.")
    return folder


def _store(items: Iterable[SourcePicture | Rejected], folder: Path, paths: Paths, *, max_pictures: int) -> _Tally:
    """Writes pictures as they come; a picture stored before under another name is rejected."""
    tally = _Tally()
    origins: dict[str, str] = {}  # by sha256 of the stored bytes
    pictures_folder = folder / paths.pictures.name
    pictures_folder.mkdir()
    with ExitStack() as tables:
        pictures = tables.enter_context((folder / paths.picture_table.name).open("w", encoding="utf-8"))
        regions = tables.enter_context((folder / paths.region_table.name).open("w", encoding="utf-8"))
        for item in items:
            if tally.num_pictures == max_pictures:
                break
            if isinstance(item, Rejected):
                tally.rejected.append(item)
                continue
            content, suffix = _stored_form(item)
            sha256 = hashlib.sha256(content).hexdigest()
            if sha256 in origins:
                tally.rejected.append(_same_picture(item, origins[sha256]))
                continue
            origins[sha256] = item.origin
            file_name = item.image_id + suffix
            (pictures_folder / file_name).write_bytes(content)
            _write_line(pictures, _picture_record(item, file_name, sha256))
            _write_regions(regions, item, tally)
    return tally


def _stored_form(picture: SourcePicture) -> tuple[bytes, str]:
    """Content and suffix of the file to store."""
    if isinstance(picture, FilePicture):
        return picture.content, picture.suffix
    return encode_png(picture.pixels), ".png"


def _same_picture(picture: SourcePicture, earlier_origin: str) -> Rejected:
    reason = (
        f"the same picture as {earlier_origin}, which is kept: two copies could end up in two splits. "
        "Join their annotations"
    )
    return rejection(RejectedPicture, picture.origin, reason)


def _picture_record(picture: SourcePicture, file_name: str, sha256: str) -> Picture:
    return Picture(
        image_id=picture.image_id,
        file_name=file_name,
        height=picture.pixels.height,
        width=picture.pixels.width,
        sha256=sha256,
        origin=picture.origin,
    )


def _write_regions(table: TextIO, picture: SourcePicture, tally: _Tally) -> None:
    regions = _named(picture.regions)
    for region in regions:
        _write_line(table, region)
    tally.num_pictures += 1
    tally.num_regions += len(regions)
    tally.num_masks += sum(region.mask is not None for region in regions)


def _named(regions: tuple[Region, ...]) -> tuple[Region, ...]:
    """The regions with phrases; one that words cannot tell from another is called by its category alone,
    which is then not unique in the picture, so that no dialogue may point at it."""
    if all(region.phrase for region in regions):
        return regions
    phrases = identify(regions)
    return tuple(
        region.model_copy(update={"phrase": phrases.get(region.region_id, region.category)}) for region in regions
    )


def _write_line(table: TextIO, record: BaseModel) -> None:
    table.write(record.model_dump_json() + "\n")


def _refuse_unusable(tally: _Tally, config: IngestConfig, rejected_copy: Path) -> None:
    source = config.annotations or config.source
    faults = [item for item in tally.rejected if not isinstance(item, NotAnArea)]
    listed = "".join(f"\n  {item.where}: {item.reason}" for item in faults[:NUM_REASONS_SHOWN])
    if tally.rejected:
        listed += f"\n  All {len(tally.rejected)} are listed in {rejected_copy}."
    if tally.num_pictures == 0:
        raise DataError(f"{source}: an empty source: no picture could be read.{listed}")
    if tally.num_masks == 0:
        raise DataError(
            f"{source}: a source without masks: {tally.num_pictures} pictures, no usable outline. Needed are "
            "COCO instances with polygons or run-length codes (boxes alone are not enough), or Labelme files "
            f"with polygons, rectangles, circles or bitmaps.{listed}"
        )
    if tally.rejected_share() > config.max_rejected_share:
        pictures, regions = tally.count(RejectedPicture), tally.count(RejectedRegion)
        raise DataError(
            f"{source}: {pictures} of {pictures + tally.num_pictures} pictures and {regions} of "
            f"{regions + tally.num_regions} regions could not be read; ingest.max_rejected_share allows "
            f"{config.max_rejected_share:.0%}. Correct them, or raise the limit to leave them out.{listed}"
        )
