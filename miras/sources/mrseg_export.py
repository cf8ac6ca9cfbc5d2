"""Writes dialogues in the public MRSeg form, and masks in the form that its loader takes for Visual Genome and PASCAL.

A dialogue that was imported comes out as it stood, message by message, as long as the message still says the same; a
message that was changed, and every dialogue of our own, is written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from miras.dialogue.records import TARGET_SLOT, Dialogue, Picture, Region, Rejected, Turn
from miras.errors import DataError
from miras.files import finished_file
from miras.sources.annotations import rejection
from miras.sources.mrseg_markers import (
    MaskName,
    NamedTurn,
    answer_message,
    image_of,
    question_message,
    rounds_of,
    turns_of,
)
from miras.sources.records import Original
from miras.sources.told import RejectedDialogue

OWN_DATASET = "miras"  # what markers call the masks that `write_masks` writes


def write(
    dialogues: Iterable[Dialogue],
    regions: Mapping[str, Region],
    pictures: Mapping[str, Picture],
    path: Path,
    *,
    originals: Mapping[str, Original] | None = None,
) -> list[Rejected]:
    """Writes a list of records; returns the dialogues that have no such form. One at a time is in memory.

    Args:
        dialogues: of any kind, about pictures.
        regions: by id; those of an import name their annotation, others are called by their id in the set "miras".
        pictures: by id; a dialogue without original is given the name of its picture's file.
        path: of the file.
        originals: by dialogue id, as the reader gave them.
    """
    refused: list[Rejected] = []
    with finished_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        count = 0
        for dialogue in dialogues:
            try:
                original = (originals or {}).get(dialogue.dialogue_id)
                record = record_of(dialogue, regions, pictures, original)
            except DataError as error:
                refused.append(rejection(RejectedDialogue, f"dialogue {dialogue.dialogue_id}", error))
                continue
            file.write((",\n" if count else "[\n") + json.dumps(record, ensure_ascii=False))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    return refused


def write_masks(regions: Iterable[Region], path: Path) -> int:
    """Writes an object of name -> run-length code, for the markers of the set "miras"; returns how many.

    A region goes by the name that markers give it: the annotation that it was imported from, else its id. Regions
    without mask, and those that name an annotation of another data set, are passed over.
    """
    count = 0
    with finished_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        for region in regions:
            name = _name_of(region)
            if region.mask is None or name.dataset != OWN_DATASET:
                continue
            code = json.dumps({"size": list(region.mask.size), "counts": region.mask.counts})
            file.write((",\n" if count else "{\n") + f"{json.dumps(name.annotation)}: {code}")
            count += 1
        file.write("\n}\n" if count else "{}\n")
    return count


def record_of(
    dialogue: Dialogue,
    regions: Mapping[str, Region],
    pictures: Mapping[str, Picture],
    original: Original | None,
) -> dict[str, Any]:
    """The record of a dialogue.

    Raises:
        DataError: it has no picture, names an unknown region, or a name that markers cannot hold.
    """
    turns = [_named(turn, number, regions) for number, turn in enumerate(dialogue.turns)]
    if original is not None:
        before = turns_of(rounds_of(original.record, key=dialogue.dialogue_id))
        if len(before) == len(turns):
            return _as_before(original.record, before, turns)
        image, record = image_of(original.record), {**original.record}
    else:
        if dialogue.image_id not in pictures:
            raise DataError(f"its picture {dialogue.image_id!r} is not among the pictures")
        image, record = pictures[dialogue.image_id].file_name, {"task": "segmentation", "base": "[null]"}
    record["conversations"] = [
        message
        for number, turn in enumerate(turns)
        for message in _messages(turn, turns, image=image, is_first=number == 0, rounds=turn.refers_to)
    ]
    return record


def _as_before(record: dict[str, Any], before: tuple[NamedTurn, ...], turns: list[NamedTurn]) -> dict[str, Any]:
    """The record, with the messages written anew that no longer say the same."""
    messages = list(record["conversations"])
    image = image_of(record)
    for old, new in zip(before, turns, strict=True):
        rounds = [before[at].round for at in new.refers_to]
        question, answer = _messages(new, turns, image=image, is_first=old.round == 0, rounds=rounds)
        is_same_reference = (old.refers_to, old.points_at) == (new.refers_to, new.points_at)
        if old.question != new.question or not is_same_reference:
            messages[2 * old.round] = question
        if (old.answer, old.targets) != (new.answer, new.targets) or not is_same_reference:
            messages[2 * old.round + 1] = answer
    return {**record, "conversations": messages}


def _named(turn: Turn, number: int, regions: Mapping[str, Region]) -> NamedTurn:
    if turn.answer.count(TARGET_SLOT) != len(turn.targets):
        raise DataError(f"turn {number + 1}: the answer has not one slot per target")
    missing = [region_id for region_id in (*turn.targets, *turn.points_at) if region_id not in regions]
    if missing:
        raise DataError(f"turn {number + 1}: region {missing[0]!r} is not among the regions")
    return NamedTurn(
        question=turn.question,
        answer=turn.answer,
        targets=tuple(_name_of(regions[region_id]) for region_id in turn.targets),
        refers_to=turn.refers_to,
        points_at=tuple(_name_of(regions[region_id]) for region_id in turn.points_at),
        round=number,
    )


def _name_of(region: Region) -> MaskName:
    stated = region.attributes
    if "dataset" in stated and "annotation" in stated:
        return MaskName(stated["dataset"], stated["annotation"])
    return MaskName(OWN_DATASET, region.region_id)


def _messages(
    turn: NamedTurn, turns: list[NamedTurn], *, image: str, is_first: bool, rounds: Iterable[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    earlier = [name for at in turn.refers_to for name in turns[at].targets]
    shown = list(dict.fromkeys((*earlier, *turn.points_at)))
    question = question_message(turn.question, image=image, is_first=is_first, shown=shown, rounds=list(rounds))
    return question, answer_message(turn.answer, image=image, targets=turn.targets, shown=shown)
