"""The stage `ingest`: pictures, regions and dialogues of the sources, in the form every later stage reads.

It has no resumable state: rendering makes some thousand pictures a second and users' pictures are copied,
so an interrupted run leaves nothing behind and the next one starts over.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel

from miras.dialogue.records import Dialogue, Picture, Region, Rejected
from miras.errors import DataError
from miras.files import finished_folder, write_records
from miras.generate.phrases import identify
from miras.generate.view import OTHERS
from miras.paths import Paths
from miras.sources.annotations import NotAnArea, RejectedPicture, RejectedRegion, rejection
from miras.sources.config import IngestConfig, Source
from miras.sources.ids import own_picture, own_texts
from miras.sources.pictures import FilePicture, encode_png
from miras.sources.readers import READERS, is_exhaustive, may_leave_out
from miras.sources.records import Original, SourcePicture, TextOnly
from miras.sources.told import RejectedDialogue

log = logging.getLogger(__name__)

NUM_REASONS_SHOWN = 5


@dataclass
class _Tally:
    """What was read so far."""

    num_pictures: int = 0
    num_regions: int = 0
    num_masks: int = 0
    num_dialogues: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def count(self, kind: type[Rejected]) -> int:
        return sum(isinstance(item, kind) for item in self.rejected)

    def rejected_share(self) -> float:
        """The largest share of rejected ones: of all pictures, of the regions of those kept, of the dialogues."""
        kept = {
            RejectedPicture: self.num_pictures,
            RejectedRegion: self.num_regions,
            RejectedDialogue: self.num_dialogues,
        }
        return max(self.count(kind) / max(1, self.count(kind) + number) for kind, number in kept.items())


@dataclass(frozen=True)
class _Stored:
    """A picture file that was written."""

    source: str
    origin: str
    file_name: str


@dataclass
class _Tables:
    """The open tables, and which picture files are stored."""

    pictures: TextIO
    regions: TextIO
    dialogues: TextIO
    originals: TextIO
    rejected: TextIO
    stored: dict[str, _Stored] = field(default_factory=dict)
    """By sha256 of the content."""

    @classmethod
    def open(cls, folder: Path, paths: Paths, files: ExitStack) -> _Tables:
        def table(path: Path) -> TextIO:
            return files.enter_context((folder / path.name).open("w", encoding="utf-8"))

        return cls(
            pictures=table(paths.picture_table),
            regions=table(paths.region_table),
            dialogues=table(paths.source_dialogues),
            originals=table(paths.source_originals),
            rejected=table(paths.rejected_table),
        )


def run(*, paths: Paths, work: Path, ingest: IngestConfig) -> None:
    """Writes pictures, `Picture`, `Region`, `Dialogue` and `Rejected` tables into the folder `paths.ingest`.

    Points and lines in annotations are listed as rejected but do not count towards `max_rejected_share`.
    When the stage refuses a source, the list of its rejected records is kept in `work`.

    Raises:
        DataError: a source is unreadable as a whole, has no picture, has neither masks nor dialogues, or too much of it
            is rejected.
    """
    with finished_folder(Path(paths.ingest)) as folder:
        (folder / paths.pictures.name).mkdir()
        with ExitStack() as files:
            tables = _Tables.open(folder, paths, files)
            pictures = folder / paths.pictures.name
            for name in ingest.sources:
                _store(name, pictures, tables, ingest, work)


def _store(name: str, pictures_folder: Path, tables: _Tables, ingest: IngestConfig, work: Path) -> None:
    """Writes a source's pictures as they come.

    A picture stored before by the same source is rejected; one that another source has, too, gets a record of its own
    but shares the file: it will fall into the same split, and is encoded once.
    """
    tally, source, has_others = _Tally(), ingest.sources[name], len(ingest.sources) > 1
    for item in READERS[source.reader](source, limits=ingest.limits()):
        if tally.num_pictures == ingest.max_pictures:
            break
        if isinstance(item, Rejected):
            tally.rejected.append(item)
            continue
        if isinstance(item, TextOnly):
            texts = own_texts(item, name) if has_others else item
            _write_dialogues(tables, texts.dialogues, (), tally)
            continue
        picture = own_picture(item, name) if has_others else item
        content, suffix = _stored_form(picture)
        sha256 = hashlib.sha256(content).hexdigest()
        earlier = tables.stored.get(sha256)
        if earlier and earlier.source == name:
            tally.rejected.append(_same_picture(picture, earlier.origin))
            continue
        if earlier is None:
            earlier = tables.stored[sha256] = _Stored(name, picture.origin, picture.image_id + suffix)
            (pictures_folder / earlier.file_name).write_bytes(content)
        _write_line(tables.pictures, _picture_record(picture, name, source, earlier.file_name, sha256))
        _write_regions(tables.regions, _regions_of(picture, source), tally)
        _write_dialogues(tables, picture.dialogues, picture.originals, tally)
    for refused in tally.rejected:
        _write_line(tables.rejected, refused)
    rejected_copy = work / f"rejected-{name}.jsonl"
    write_records(rejected_copy, tally.rejected)
    _refuse_unusable(name, tally, ingest, rejected_copy)
    log.info(
        "ingested source=%s reader=%s pictures=%d regions=%d dialogues=%d rejected_pictures=%d rejected_regions=%d "
        "rejected_dialogues=%d not_areas=%d",
        name,
        source.reader,
        tally.num_pictures,
        tally.num_regions,
        tally.num_dialogues,
        tally.count(RejectedPicture),
        tally.count(RejectedRegion),
        tally.count(RejectedDialogue),
        tally.count(NotAnArea),
    )


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


def _picture_record(picture: SourcePicture, name: str, source: Source, file_name: str, sha256: str) -> Picture:
    return Picture(
        image_id=picture.image_id,
        file_name=file_name,
        height=picture.pixels.height,
        width=picture.pixels.width,
        sha256=sha256,
        origin=picture.origin,
        source=name,
        licence=picture.licence,
        absent=picture.absent,
        is_exhaustive=is_exhaustive(source),
    )


def _regions_of(picture: SourcePicture, source: Source) -> tuple[Region, ...]:
    """The regions with phrases, marked (others = maybe) where there may be more of their classes than are outlined."""
    regions = picture.regions
    if may_leave_out(source):
        regions = tuple(
            region.model_copy(update={"attributes": {OTHERS: "maybe"} | region.attributes}) for region in regions
        )
    return _named(regions)


def _write_regions(table: TextIO, regions: Sequence[Region], tally: _Tally) -> None:
    for region in regions:
        _write_line(table, region)
    tally.num_pictures += 1
    tally.num_regions += len(regions)
    tally.num_masks += sum(region.mask is not None for region in regions)


def _write_dialogues(
    tables: _Tables, dialogues: Sequence[Dialogue], originals: Sequence[Original], tally: _Tally
) -> None:
    for dialogue in dialogues:
        _write_line(tables.dialogues, dialogue)
    for original in originals:
        _write_line(tables.originals, original)
    tally.num_dialogues += len(dialogues)


def _named(regions: tuple[Region, ...]) -> tuple[Region, ...]:
    """The regions with phrases; one that words cannot tell from another is called by its category alone,
    which is then not unique in the picture, so that no dialogue may point at it."""
    if all(region.phrase for region in regions):
        return regions
    phrases = identify(regions)
    return tuple(
        region
        if region.phrase
        else region.model_copy(update={"phrase": phrases.get(region.region_id, region.category)})
        for region in regions
    )


def _write_line(table: TextIO, record: BaseModel) -> None:
    table.write(record.model_dump_json() + "\n")


def _refuse_unusable(name: str, tally: _Tally, ingest: IngestConfig, rejected_copy: Path) -> None:
    faults = [item for item in tally.rejected if not isinstance(item, NotAnArea)]
    listed = "".join(f"\n  {item.where}: {item.reason}" for item in faults[:NUM_REASONS_SHOWN])
    if tally.rejected:
        listed += f"\n  All {len(tally.rejected)} are listed in {rejected_copy}."
    source = getattr(ingest.sources[name], "annotations", f"source {name} (reader {ingest.sources[name].reader})")
    if tally.num_pictures == 0:
        raise DataError(f"{source}: an empty source: no picture could be read.{listed}")
    if tally.num_masks == tally.num_dialogues == 0:
        raise DataError(
            f"{source}: a source without masks: {tally.num_pictures} pictures, no usable outline, no dialogue. Needed "
            "are COCO instances with polygons or run-length codes (boxes alone are not enough), or Labelme files "
            f"with polygons, rectangles, circles or bitmaps.{listed}"
        )
    if tally.rejected_share() > ingest.max_rejected_share:
        pictures, regions = tally.count(RejectedPicture), tally.count(RejectedRegion)
        dialogues = tally.count(RejectedDialogue)
        raise DataError(
            f"{source}: {pictures} of {pictures + tally.num_pictures} pictures, {regions} of "
            f"{regions + tally.num_regions} regions and {dialogues} of {dialogues + tally.num_dialogues} dialogues "
            "could not be read; ingest.max_rejected_share allows "
            f"{ingest.max_rejected_share:.0%}. Correct them, or raise the limit to leave them out.{listed}"
        )
