"""Reader of public MRSeg dialogues (SegLLM): rounds of questions that speak of earlier masks.

See `mrseg_markers` for the form, `mrseg_masks` for where masks come from, `mrseg_export` for the way back.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Dialogue, DialogueKind, Region, Rejected, Turn
from miras.errors import DataError
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, rejection
from miras.sources.json_elements import element_at, walk
from miras.sources.limits import ReadLimits
from miras.sources.mrseg_markers import MaskName, NamedTurn, image_of, rounds_of, turns_of
from miras.sources.mrseg_masks import FoundMask, MaskFiles, MaskStore
from miras.sources.pictures import FilePicture, ImageIds, UprightPicture, picture_folder, printable
from miras.sources.records import Original
from miras.sources.told import RejectedDialogue, named_picture

# The public records name pictures of COCO's val folders that are in the train folders, as its loader knows.
_OTHER_FOLDERS = (("val2014", "train2014"), ("val2017", "train2017"), ("new_", ""))


class MrsegSource(Section):
    """MRSeg records, their pictures and the files that hold their masks."""

    reader: Literal["mrseg"]
    conversations: str = Field(min_length=1)
    """A JSON file of records, or a folder of such files."""
    pictures: str = Field(min_length=1)
    """Folder that the pictures' names are relative to."""
    masks: dict[str, MaskFiles]
    """Data set, as the markers call it -> where its masks are."""


@dataclass
class RecordIndex:
    """Where the records of each picture stand, and which masks they name."""

    files: list[Path]
    places: dict[str, array[int]] = field(default_factory=dict)
    """Picture -> number of the file, position, first byte and length of each of its records in turn."""
    wanted: dict[str, set[str]] = field(default_factory=dict)
    """Data set -> annotation ids."""
    rejected: list[Rejected] = field(default_factory=list)


def read(source: MrsegSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with the masks that their dialogues name, and the dialogues.

    A dialogue with a question about a mask, or with several rounds, is of kind "mrseg"; a single direct question is
    "semantic" (classes) or "referring", one without any mask "vqa". Rounds that are wrong on purpose are left out of
    the dialogue. What a `Dialogue` cannot hold (relation names, base, conv_id, spelling of markers, left-out rounds)
    is in `originals`. A dialogue that names a mask which cannot be found is rejected.

    Raises:
        DataError: a file is unreadable as a whole, or a folder is missing.
    """
    folder = picture_folder(source.pictures)
    assert folder is not None
    index = build_index(Path(source.conversations))
    yield from index.rejected
    store = MaskStore(source.masks, wanted=index.wanted, max_megapixels=limits.max_megapixels)
    ids = ImageIds()
    total = min(len(index.places), limits.max_pictures)
    for name in progress(index.places, total=total, name="reading mrseg", unit="pictures"):
        try:
            picture = _picture(name, folder, limits)
        except DataError as error:
            reason = f"{error}; {len(index.places[name]) // 4} dialogues go with it"
            yield rejection(RejectedPicture, f"{printable(source.conversations)}: picture {name!r}", reason)
            continue
        yield from _told(name, picture, index, store, image_id=ids.allot(printable(name)))


def build_index(conversations: Path) -> RecordIndex:
    """Where what stands; records that are not of the form are rejected here.

    Raises:
        DataError: there is no file, or one is unreadable as a whole.
    """
    files = sorted(conversations.glob("*.json")) if conversations.is_dir() else [conversations]
    if not files:
        raise DataError(f"{printable(conversations)}: no *.json in it. Set `conversations` of the source.")
    index = RecordIndex(files)
    for number, path in enumerate(files):
        for position, element in enumerate(walk(path)):
            if element.member:
                raise DataError(f"{printable(path)}: expected a list of records, found an object with keys.")
            try:
                name = image_of(element.value)
                rounds = rounds_of(element.value, key="")
            except DataError as error:
                index.rejected.append(rejection(RejectedDialogue, _where(path, position), error))
                continue
            index.places.setdefault(name, array("Q")).extend((number, position, element.offset, element.length))
            for mask in (mask for item in rounds for mask in (*item.targets, *item.shown)):
                index.wanted.setdefault(mask.dataset, set()).add(mask.annotation)
    return index


def _picture(name: str, folder: Path, limits: ReadLimits) -> UprightPicture:
    names = [name, *(name.replace(old, new) for old, new in _OTHER_FOLDERS if old in name)]
    present = [item for item in names if (folder / item).is_file()]
    return named_picture((present or names)[0], folder=folder, root=folder, limits=limits)


def _told(
    name: str, picture: UprightPicture, index: RecordIndex, store: MaskStore, *, image_id: str
) -> Iterator[FilePicture | Rejected]:
    regions = _Regions(name, picture, store, image_id)
    dialogues: list[Dialogue] = []
    originals: list[Original] = []
    places = index.places[name]
    for number, position, offset, length in zip(places[::4], places[1::4], places[2::4], places[3::4], strict=True):
        path = index.files[number]
        with path.open("rb") as file:
            record: dict[str, Any] = element_at(file, offset, length)
        dialogue_id = f"{image_id}-{re.sub(r'[^A-Za-z0-9._-]+', '_', path.stem)}-{position}"
        try:
            dialogues.append(_dialogue(record, dialogue_id, regions))
            originals.append(Original(dialogue_id=dialogue_id, record=record))
        except DataError as error:
            yield rejection(RejectedDialogue, _where(path, position), error)
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=printable(name),
        regions=tuple(regions.found.values()),
        dialogues=tuple(dialogues),
        originals=tuple(originals),
        content=picture.content,
        suffix=picture.suffix,
    )


@dataclass
class _Regions:
    """The regions of one picture, made when a dialogue first names them."""

    image: str
    picture: UprightPicture
    store: MaskStore
    image_id: str
    found: dict[MaskName, Region] = field(default_factory=dict)

    def of(self, names: Sequence[MaskName]) -> list[Region]:
        """Their regions.

        Raises:
            DataError: one cannot be found; none is added then.
        """
        new: dict[MaskName, FoundMask] = {
            name: self.store.find(name, image=self.image, picture=self.picture)
            for name in dict.fromkeys(names)
            if name not in self.found
        }
        for name, found in new.items():
            self.found[name] = Region(
                region_id=f"{self.image_id}-r{len(self.found)}",
                image_id=self.image_id,
                phrase="",
                mask=found.mask,
                category=found.category,
                attributes={"dataset": name.dataset, "annotation": name.annotation},
            )
        return [self.found[name] for name in names]


def _dialogue(record: dict[str, Any], dialogue_id: str, regions: _Regions) -> Dialogue:
    named = turns_of(rounds_of(record, key=dialogue_id))
    if not named:
        raise DataError("every round is wrong on purpose (<FAKE_MASK_OUT>); nothing is left to learn from")
    regions.of([name for turn in named for name in (*turn.targets, *turn.points_at)])
    turns = tuple(_turn(turn, regions) for turn in named)
    return Dialogue(
        dialogue_id=dialogue_id,
        image_id=regions.image_id,
        kind=_kind(named, regions),
        focus="",
        turns=turns,
    )


def _turn(turn: NamedTurn, regions: _Regions) -> Turn:
    targets = regions.of(turn.targets)
    return Turn(
        question=turn.question,
        answer=turn.answer,
        targets=tuple(region.region_id for region in targets),
        names=tuple(region.category for region in targets),
        refers_to=turn.refers_to,
        points_at=tuple(region.region_id for region in regions.of(turn.points_at)),
    )


def _kind(turns: Sequence[NamedTurn], regions: _Regions) -> DialogueKind:
    targets = [name for turn in turns for name in turn.targets]
    if not targets:
        return "vqa"
    if len(turns) > 1 or turns[0].refers_to or turns[0].points_at:
        return "mrseg"
    return "semantic" if regions.store.is_semantic(targets[0].dataset) else "referring"


def _where(path: Path, position: int) -> str:
    return f"{printable(path)}: record {position}"
