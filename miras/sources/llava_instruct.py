"""Reader of LLaVA-Instruct and ShareGPT4V: dialogues about pictures, and texts without one.

A file may hold more than a million records, several of them about one picture and far apart. It is gone through once;
what is kept is where each picture's records stand, not what they say.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO, Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Dialogue, Rejected, Turn
from miras.dialogue.rendering import IMAGE
from miras.errors import DataError
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, rejection
from miras.sources.json_elements import element_at, walk
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, ImageIds, picture_folder, printable
from miras.sources.records import TextOnly
from miras.sources.told import RejectedDialogue, checked_text, named_picture

ROLES = ("human", "gpt")  # question, answer
_IMAGE_AND_BLANKS = re.compile(rf"\s*{re.escape(IMAGE)}\s*")


class LlavaInstructSource(Section):
    """A file of LLaVA's form and the pictures it speaks of."""

    reader: Literal["llava_instruct"]
    records: str = Field(min_length=1)
    """The JSON file, such as llava_instruct_150k.json."""
    pictures: str = Field(min_length=1)
    """Folder that the names under "image" are relative to."""


@dataclass
class RecordIndex:
    """Where the records of each picture stand; three numbers per record."""

    places: dict[str, array[int]] = field(default_factory=dict)
    """Name of the picture -> position, first byte and length of each of its records in turn."""
    text_only: array[int] = field(default_factory=lambda: array("Q"))
    """The same of records without a picture."""
    rejected: list[Rejected] = field(default_factory=list)


def read(source: LlavaInstructSource, *, limits: ReadLimits) -> Iterator[FilePicture | TextOnly | Rejected]:
    """The pictures with their dialogues (kind "vqa"), without regions; then the dialogues without picture.

    Raises:
        DataError: the file is unreadable as a whole, or there is no such folder of pictures.
    """
    path, folder = Path(source.records), picture_folder(source.pictures)
    assert folder is not None
    index = build_index(path)
    yield from index.rejected
    ids = ImageIds()
    total = min(len(index.places), limits.max_pictures)
    with path.open("rb") as file:
        for name in progress(index.places, total=total, name="reading llava_instruct", unit="pictures"):
            yield from _picture(name, index.places[name], file, path, folder=folder, limits=limits, ids=ids)
        yield from text_dialogues(index, file, path)


def build_index(path: Path) -> RecordIndex:
    """Where what stands; the records themselves are checked when they are read.

    Raises:
        DataError: the file is no list of records, or broken.
    """
    index = RecordIndex()
    for position, element in enumerate(walk(path)):
        if element.member:
            raise DataError(
                f"{printable(path)}: expected a list of records, found an object ({element.member!r}: ...)."
            )
        try:
            name = _picture_name(element.value)
        except DataError as error:
            index.rejected.append(rejection(RejectedDialogue, f"{printable(path)}: record {position}", error))
            continue
        places = index.places.setdefault(name, array("Q")) if name else index.text_only
        places.extend((position, element.offset, element.length))
    return index


def dialogues_at(
    places: array[int], file: BinaryIO, path: Path, *, image_id: str, prefix: str
) -> Iterator[Dialogue | Rejected]:
    """The dialogues of the records at these places, and those that are none.

    Args:
        prefix: of the dialogue ids; the record's position follows.
    """
    for position, offset, length in zip(places[::3], places[1::3], places[2::3], strict=True):
        record = element_at(file, offset, length)
        try:
            yield Dialogue(
                dialogue_id=f"{prefix}-{position}",
                image_id=image_id,
                kind="vqa",
                focus="",
                turns=turns_of(record.get("conversations")),
            )
        except DataError as error:
            yield rejection(RejectedDialogue, f"{printable(path)}: record {position} ({record.get('id')!r})", error)


def text_dialogues(index: RecordIndex, file: BinaryIO, path: Path) -> Iterator[TextOnly | Rejected]:
    """The dialogues without picture, one at a time; their ids begin with the file's name."""
    prefix = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem) + "-text"
    for item in dialogues_at(index.text_only, file, path, image_id="", prefix=prefix):
        yield item if isinstance(item, Rejected) else TextOnly((item,))


def turns_of(messages: object) -> tuple[Turn, ...]:
    """Questions and answers of a list of {"from", "value"}; `<image>` is taken out wherever it stands.

    Raises:
        DataError: not such a list, roles that do not alternate from human to gpt, no answer at the end, or a text that
            is empty without `<image>`.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f'no list of messages under "conversations", found {printable(repr(messages))[:40]}')
    texts = [_message(message, number) for number, message in enumerate(messages)]
    if len(texts) % 2:
        raise DataError(f"the dialogue ends with a question (message {len(texts)}); expected an answer")
    return tuple(Turn(question=texts[at], answer=texts[at + 1]) for at in range(0, len(texts), 2))


def _picture_name(record: object) -> str:
    """Name of its picture's file; "" where it has none."""
    if not isinstance(record, dict):
        raise DataError(f"expected an object with keys, found {type(record).__name__}")
    name = record.get("image")
    if name is None or name == "":
        return ""
    if not isinstance(name, str):
        raise DataError(f'expected the name of one picture under "image", found {printable(repr(name))[:60]}')
    return PureWindowsPath(name).as_posix()


def _message(message: Any, number: int) -> str:
    where = f"message {number + 1}"
    if not isinstance(message, dict):
        raise DataError(f"{where}: expected an object with keys, found {type(message).__name__}")
    if message.get("from") != ROLES[number % 2]:
        raise DataError(f"{where} is by {message.get('from')!r}; roles alternate, expected {ROLES[number % 2]}")
    value = message.get("value")
    return checked_text(without_image(value) if isinstance(value, str) else value, what=f"{where}'s text")


def without_image(text: str) -> str:
    """The text without `<image>`; a blank or line break stays where one stood between words."""
    kept = _IMAGE_AND_BLANKS.sub(lambda found: "\n" if "\n" in found.group() else " ", text)
    return kept.strip()


def _picture(
    name: str, places: array[int], file: BinaryIO, path: Path, *, folder: Path, limits: ReadLimits, ids: ImageIds
) -> Iterator[FilePicture | Rejected]:
    try:
        picture = named_picture(name, folder=folder, root=folder, limits=limits)
    except DataError as error:
        reason = f"{error}; {len(places) // 3} dialogues go with it"
        yield rejection(RejectedPicture, f"{printable(path)}: picture {name!r}", reason)
        return
    image_id = ids.allot(printable(name))
    dialogues: list[Dialogue] = []
    for item in dialogues_at(places, file, path, image_id=image_id, prefix=f"{image_id}-vqa"):
        if isinstance(item, Rejected):
            yield item
        else:
            dialogues.append(item)
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=printable(name),
        regions=(),
        dialogues=tuple(dialogues),
        content=picture.content,
        suffix=picture.suffix,
    )
