"""Reader of PRIST files: dialogues as published, text only (their pictures and masks are not public).

A record: `{"img_id": "<id>.jpg", "dialogue": [{"from": "human"|"gpt", "value": text}, ...], "focus": text}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.dialogue.records import TARGET_SLOT, Dialogue, Region, Rejected, Turn
from miras.dialogue.rendering import IMAGE, OBJ, SEG
from miras.errors import DataError
from miras.sources.annotations import read_json, rejection
from miras.sources.pictures import printable

ROLES = ("human", "gpt")  # question, answer
_SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class PristRecord:
    """A dialogue with the region it leads to."""

    dialogue: Dialogue
    region: Region
    """Its phrase is the focus; it has no mask."""


def read_prist(path: Path) -> Iterator[PristRecord | Rejected]:
    """The dialogues of a PRIST file in order, and what could not be read.

    The `[SEG]` of the last answer becomes the slot of the target. `dialogue_id` is the picture's id and the
    record's position in the file, `image_id` the file name without its ending.
    The file is read whole (10 MB for the training set); records are checked one at a time.

    Raises:
        DataError: the file is missing, not JSON, or not a list.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of PRIST records, found {type(records).__name__}.")
    for index, record in enumerate(records):
        try:
            yield _record(record, index)
        except DataError as error:
            yield rejection(Rejected, f"{path}: record {index}", error)


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
    return PristRecord(dialogue=dialogue, region=region)


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
