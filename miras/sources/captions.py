"""Reader of COCO captions: each caption of a picture becomes a dialogue of kind "caption".

The file is gone through once; a picture's captions are found without searching.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Dialogue, Rejected, Turn
from miras.errors import DataError
from miras.generate.wording_queries import CAPTION_QUESTIONS
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, rejection
from miras.sources.json_elements import walk
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, ImageIds, picture_folder, printable
from miras.sources.told import RejectedDialogue, checked_text, licence_names, licence_of, named_picture, one_turn, pick


class CaptionsSource(Section):
    """A COCO captions file and its pictures."""

    reader: Literal["captions"]
    annotations: str = Field(min_length=1)
    """captions_train2017.json or one of its form."""
    pictures: str = Field(min_length=1)
    """Folder of the pictures."""


@dataclass
class CaptionIndex:
    """What was found in one pass."""

    images: list[Any] = field(default_factory=list)
    captions: dict[int, list[str]] = field(default_factory=dict)
    """By image id."""
    licences: dict[object, str] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


def read(source: CaptionsSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures that have captions, without regions; a picture without caption is rejected.

    Raises:
        DataError: the file as a whole is not COCO captions, or there is no such folder of pictures.
    """
    path, folder = Path(source.annotations), picture_folder(source.pictures)
    assert folder is not None
    index = build_index(path)
    ids = ImageIds()
    total = min(len(index.images), limits.max_pictures)
    for image in progress(index.images, total=total, name="reading captions", unit="pictures"):
        yield _picture(index, image, path, folder=folder, limits=limits, ids=ids)
    yield from index.rejected
    for image, captions in index.captions.items():
        reason = f"the id of no picture in the file; {len(captions)} captions speak of it"
        yield rejection(RejectedDialogue, f"{printable(path)}: image id {image}", reason)


def build_index(path: Path) -> CaptionIndex:
    """Pictures and captions.

    Raises:
        DataError: the file is unreadable as a whole, or holds no captions.
    """
    index, licences, seen = CaptionIndex(), [], set()
    num_annotations = 0
    for element in walk(path, lists=("images", "annotations", "licenses")):
        key, value = element.member, element.value
        seen.add(key)
        if key == "images":
            index.images.append(value)
        elif key == "licenses":
            licences.append(value)
        elif key == "annotations":
            num_annotations += 1
            try:
                image = value.get("image_id") if isinstance(value, dict) else None
                if type(image) is not int:
                    raise DataError(f'expected a whole number under "image_id", found {image!r}')
                caption = checked_text(value.get("caption"), what="the caption")
                index.captions.setdefault(image, []).append(" ".join(caption.split()))
            except DataError as error:
                where = f"{printable(path)}: annotations[{num_annotations - 1}]"
                index.rejected.append(rejection(RejectedDialogue, where, error))
    if not {"images", "annotations"} <= seen:
        raise DataError(f"{printable(path)}: nothing under images and annotations; expected a COCO captions file.")
    index.licences = licence_names(licences)
    return index


def _picture(
    index: CaptionIndex, image: Any, path: Path, *, folder: Path, limits: ReadLimits, ids: ImageIds
) -> FilePicture | Rejected:
    name = image.get("file_name") if isinstance(image, dict) else image
    where = f"{printable(path)}: image {name!r}"
    try:
        if not isinstance(image, dict):
            raise DataError(f"expected an object with keys, found {type(image).__name__}")
        key = image.get("id")
        captions = index.captions.pop(key, []) if isinstance(key, int) else []
        if not captions:
            raise DataError("no caption speaks of it, or an earlier picture has the same id")
        size = {"height": image.get("height"), "width": image.get("width")}
        picture = named_picture(name, folder=folder, root=path.parent, limits=limits, **size)
    except DataError as error:
        return rejection(RejectedPicture, where, error)
    image_id = ids.allot(printable(name))
    return FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=printable(name),
        regions=(),
        dialogues=tuple(_dialogue(caption, image_id, number) for number, caption in enumerate(captions)),
        licence=licence_of(image, index.licences),
        content=picture.content,
        suffix=picture.suffix,
    )


def _dialogue(caption: str, image_id: str, number: int) -> Dialogue:
    dialogue_id = f"{image_id}-caption-{number}"
    turn = Turn(question=pick(CAPTION_QUESTIONS, f"question/{dialogue_id}"), answer=caption)
    return one_turn(dialogue_id, image_id, turn, kind="caption")
