"""Reader and writer of PRIST files: dialogues that lead to a mask; with or without their pictures.

A record: `{"img_id": "<id>.jpg", "dialogue": [{"from": "human"|"gpt", "value": text}, ...], "focus": text}`. Masks are
Labelme files `<id>.json` (see `miras.sources.prist_masks`). The public test file has neither pictures nor masks:
`read_records`, `read_prist`, `write` and `prist_statistics.statistics` work on its text alone, `read` needs both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import TARGET_SLOT, Dialogue, Picture, Region, Rejected, Turn
from miras.dialogue.rendering import IMAGE, OBJ, SEG
from miras.errors import DataError
from miras.files import finished_file
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, category_name, read_json, rejection
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, ImageIds, UprightPicture, picture_folder, printable
from miras.sources.prist_masks import MaskFile, Resolution, read_manifest
from miras.sources.records import Original
from miras.sources.told import RejectedDialogue, named_picture

ROLES = ("human", "gpt")  # question, answer
_SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class PristSource(Section):
    """PRIST dialogues with their pictures and masks."""

    reader: Literal["prist"]
    records: str = Field(min_length=1)
    """The JSON file of dialogues."""
    pictures: str = Field(min_length=1)
    """Folder of the pictures."""
    masks: str = Field(min_length=1)
    """Folder of the Labelme files, one per picture."""
    manifest: str = ""
    """File that says which label is meant where foci are ambiguous, as `prist_masks.write_manifest` writes it; "" takes
    the one of the public test file that comes with miras."""


@dataclass(frozen=True)
class PristRecord:
    """A dialogue with the region it leads to."""

    dialogue: Dialogue
    region: Region
    """Its phrase is the focus; it has no mask."""
    original: Original
    """The record as it stood in the file."""


def read(source: PristSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their dialogues and one region per label that a focus means.

    Two dialogues of a picture with one focus share its region. A picture that is missing, or whose mask file is, is
    rejected with its dialogues; a focus that no label or several fit, and an ambiguous one that the manifest does not
    settle, takes its dialogue with it.

    Raises:
        DataError: the records or the manifest are unreadable, or a folder is missing.
    """
    path = Path(source.records)
    manifest = read_manifest(Path(source.manifest) if source.manifest else None)
    folder, mask_folder = picture_folder(source.pictures), Path(source.masks)
    assert folder is not None
    if not mask_folder.is_dir():
        raise DataError(f"{mask_folder}: no such folder. Set `masks` of the source to the folder of Labelme files.")
    by_picture: dict[str, list[PristRecord]] = {}
    for item in read_prist(path):
        if isinstance(item, Rejected):
            yield item
        else:
            by_picture.setdefault(item.original.record["img_id"], []).append(item)
    ids = ImageIds()
    total = min(len(by_picture), limits.max_pictures)
    for name in progress(by_picture, total=total, name="reading prist", unit="pictures"):
        records, where = by_picture[name], f"{printable(path)}: picture {name}"
        try:
            picture = named_picture(name, folder=folder, root=folder, limits=limits)
            mask_file = MaskFile.read(mask_folder / f"{Path(name).stem}.json", picture.pixels)
        except DataError as error:
            yield rejection(RejectedPicture, where, f"{error}; {len(records)} dialogues go with it")
            continue
        yield from _picture(picture, mask_file, records, manifest, image_id=ids.allot(name), where=where)


def read_records(path: Path) -> list[Any]:
    """The records of a PRIST file as they stand, sound or not (10 MB for the training set).

    Raises:
        DataError: the file is missing, not JSON, or not a list.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of PRIST records, found {type(records).__name__}.")
    return records


def read_prist(path: Path) -> Iterator[PristRecord | Rejected]:
    """The dialogues of a PRIST file in order, and what could not be read.

    The `[SEG]` of the last answer becomes the slot of the target; outer blanks of texts are dropped, and kept in
    `original`. `dialogue_id` is the picture's id and the record's position in the file, `image_id` the file name
    without its ending.

    Raises:
        DataError: the file is missing, not JSON, or not a list.
    """
    for index, record in enumerate(read_records(path)):
        try:
            yield _record(record, index)
        except DataError as error:
            yield rejection(RejectedDialogue, f"{path}: record {index}", error)


def write(
    dialogues: Iterable[Dialogue],
    regions: Mapping[str, Region],
    pictures: Mapping[str, Picture],
    path: Path,
    *,
    originals: Mapping[str, Original] | None = None,
) -> list[Rejected]:
    """Writes the PRIST dialogues to a file of the public form; returns those that have no such form.

    A dialogue with an original gets back its picture's name, and every text that is still the same gets back its
    blanks, so that an imported file comes out byte for byte. One at a time is in memory.

    Args:
        dialogues: of kind "prist": text turns and a last one with exactly one target.
        regions: by id; the focus of a dialogue that states none is its target's phrase.
        pictures: by id; a dialogue without original is given the name of its picture's file.
        path: of the file.
        originals: by dialogue id, as the reader gave them.
    """
    refused: list[Rejected] = []
    with finished_file(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        count = 0
        for dialogue in dialogues:
            try:
                record = _as_record(dialogue, regions, pictures, (originals or {}).get(dialogue.dialogue_id))
            except DataError as error:
                refused.append(rejection(RejectedDialogue, f"dialogue {dialogue.dialogue_id}", error))
                continue
            text = json.dumps(record, indent=2, ensure_ascii=False)
            file.write((",\n" if count else "[\n") + "\n".join(f"  {line}" for line in text.split("\n")))
            count += 1
        file.write("\n]" if count else "[]")
    return refused


def _picture(
    picture: UprightPicture,
    mask_file: MaskFile,
    records: list[PristRecord],
    manifest: Mapping[tuple[str, str], Resolution],
    *,
    image_id: str,
    where: str,
) -> Iterator[FilePicture | Rejected]:
    name = records[0].original.record["img_id"]
    foci = [item.dialogue.focus for item in records]
    regions: dict[str, Region] = {}  # by the label it was drawn under
    dialogues: list[Dialogue] = []
    originals: list[Original] = []
    for item in records:
        try:
            resolution = manifest.get((name, item.dialogue.focus))
            label = mask_file.label_of(item.dialogue.focus, foci=foci, resolution=resolution)
            if label not in regions:
                # The phrase is the focus, not the label: a dialogue has to end with what it led to.
                region_id = f"{image_id}-r{len(regions)}"
                phrase = category_name(item.dialogue.focus)
                mask = mask_file.mask_of(label)
                regions[label] = Region(region_id=region_id, image_id=image_id, phrase=phrase, mask=mask)
        except DataError as error:
            yield rejection(RejectedDialogue, f"{where}, dialogue {item.dialogue.dialogue_id}", error)
            continue
        turns = item.dialogue.turns
        last = turns[-1].model_copy(update={"targets": (regions[label].region_id,)})
        position = item.dialogue.dialogue_id.rsplit("-", 1)[1]
        changes = {"dialogue_id": f"{image_id}-prist-{position}", "image_id": image_id, "turns": (*turns[:-1], last)}
        dialogues.append(item.dialogue.model_copy(update=changes))
        originals.append(item.original.model_copy(update={"dialogue_id": changes["dialogue_id"]}))
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=name,
        regions=tuple(regions.values()),
        dialogues=tuple(dialogues),
        originals=tuple(originals),
        content=picture.content,
        suffix=picture.suffix,
    )


def _as_record(
    dialogue: Dialogue, regions: Mapping[str, Region], pictures: Mapping[str, Picture], original: Original | None
) -> dict[str, Any]:
    last = dialogue.turns[-1] if dialogue.turns else None
    if dialogue.kind != "prist" or last is None or len(last.targets) != 1:
        raise DataError(f"a dialogue of kind {dialogue.kind}; PRIST has one target, in its last turn")
    if any(turn.targets for turn in dialogue.turns[:-1]) or last.answer.count(TARGET_SLOT) != 1:
        raise DataError("a target before the last turn, or none in the last answer; PRIST has no form for that")
    if original is None and dialogue.image_id not in pictures:
        raise DataError(f"its picture {dialogue.image_id!r} is not among the pictures")
    if not dialogue.focus and last.targets[0] not in regions:
        raise DataError(f"no focus, and its target {last.targets[0]!r} is not among the regions")
    texts = [text for turn in dialogue.turns for text in (turn.question, turn.answer.replace(TARGET_SLOT, SEG))]
    focus = dialogue.focus or regions[last.targets[0]].phrase
    known = original.record if original else {}
    before = [message["value"] for message in known.get("dialogue", [])]
    return {
        "img_id": known["img_id"] if original else pictures[dialogue.image_id].file_name,
        "dialogue": [
            {"from": ROLES[number % 2], "value": _as_before(text, before[number] if number < len(before) else "")}
            for number, text in enumerate(texts)
        ],
        "focus": _as_before(focus, known.get("focus", "")),
    }


def _as_before(text: str, before: str) -> str:
    """The text with the outer blanks it had, where it is still the same text."""
    return before if before.strip() == text else text


def _record(record: Any, index: int) -> PristRecord:
    if not isinstance(record, dict):
        raise DataError(f"expected an object with keys, found {type(record).__name__}")
    file_name = _text(record, "img_id")
    if not _SAFE_FILE_NAME.fullmatch(file_name):
        raise DataError(f"img_id {file_name!r} is not a plain file name (letters, digits, . _ -)")
    image_id = Path(file_name).stem
    dialogue_id = f"{image_id}-{index}"
    region = Region(region_id=f"{dialogue_id}-focus", image_id=image_id, phrase=_text(record, "focus"), mask=None)
    dialogue = Dialogue(
        dialogue_id=dialogue_id,
        image_id=image_id,
        kind="prist",
        focus=region.phrase,
        turns=_turns(record.get("dialogue"), target=region.region_id),
    )
    return PristRecord(dialogue, region, Original(dialogue_id=dialogue_id, record=record))


def _turns(messages: object, *, target: str) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise DataError('no list under "dialogue"')
    if not messages:
        raise DataError("the dialogue is empty")
    texts = [_message(message, number) for number, message in enumerate(messages)]
    if len(texts) % 2:
        raise DataError(f"the dialogue ends with a question (message {len(texts)}); expected an answer")
    questions, answers = texts[::2], texts[1::2]
    for text in [*questions, *answers[:-1]]:
        if SEG in text:
            raise DataError(f"{SEG} stands in {text[:60]!r}; only the last answer may have it")
    if answers[-1].count(SEG) != 1:
        raise DataError(f"the last answer has {answers[-1].count(SEG)} {SEG}; expected one: {answers[-1][:60]!r}")
    turns = [
        Turn(question=question, answer=answer) for question, answer in zip(questions[:-1], answers[:-1], strict=True)
    ]
    last = Turn(question=questions[-1], answer=answers[-1].replace(SEG, TARGET_SLOT), targets=(target,))
    return (*turns, last)


def _message(message: Any, number: int) -> str:
    """Text of a message that has the role its place calls for; outer blanks are dropped."""
    expected = ROLES[number % 2]
    if not isinstance(message, dict):
        raise DataError(f"message {number + 1}: expected an object with keys, found {type(message).__name__}")
    role = message.get("from")
    if role not in ROLES:
        raise DataError(f"message {number + 1}: role {role!r}; expected one of {', '.join(ROLES)}")
    if role != expected:
        raise DataError(f"message {number + 1} is by {role}; roles alternate, expected {expected}")
    try:
        return _text(message, "value")
    except DataError as error:
        raise DataError(f"message {number + 1}: {error}") from None


def _text(record: dict[str, Any], key: str) -> str:
    if key not in record:
        raise DataError(f'there is no "{key}"')
    value = record[key]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f'expected text under "{key}", found {value!r}')
    if value != printable(value):
        raise DataError(f'the text under "{key}" is not valid Unicode')
    for marker in (OBJ, IMAGE, TARGET_SLOT):
        if marker in value:
            raise DataError(f'{marker} stands under "{key}"; it is written by the renderer, never stored')
    if key != "value" and SEG in value:
        raise DataError(f'{SEG} stands under "{key}"; only the last answer may have it')
    return value.strip()
