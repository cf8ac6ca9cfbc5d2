"""Reader of ReasonSeg: questions that need reasoning, one target mask per picture, with explanations where given.

A folder of one split: `<name>.jpg` with `<name>.json` of {"text": [...], "is_sentence": bool, "shapes": [...]}. The
texts of a picture are other wordings for the same target.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region, Rejected, Rle, Turn
from miras.errors import DataError
from miras.generate.wording import Forms
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, RejectedRegion, covering, read_json, rejection
from miras.sources.labelme import ENCODINGS, shape_mask
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, ImageIds, UprightPicture, printable
from miras.sources.told import (
    UNNAMED,
    RejectedDialogue,
    answer_with,
    checked_text,
    named_picture,
    noun_phrase,
    one_turn,
    pick,
    question_for,
)

SKIPPED_LABEL = "flag"  # deprecated by the data set's authors
IGNORED_LABEL = "ignore"  # neither target nor background
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")

_REQUESTS: Forms = (
    "Please show it with a mask.",
    "Segment it, please.",
    "Can you mark it in the picture?",
    "I would like to see the mask.",
    "Please outline what you mean.",
    "Answer with a mask.",
)


class ReasonSegSource(Section):
    """One split of ReasonSeg."""

    reader: Literal["reasonseg"]
    folder: str = Field(min_length=1)
    """Folder of the split: pictures and *.json side by side."""
    explanations: str
    """explanatory/train.json; "": there are none for this split."""


@dataclass
class _Explanations:
    """Texts that say why, by name of the picture; what was used is taken out."""

    path: Path
    by_picture: dict[str, list[tuple[int, str, str]]] = field(default_factory=lambda: defaultdict(list))
    """(position in the file, question, answer)."""
    rejected: list[Rejected] = field(default_factory=list)


def read(source: ReasonSegSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures of a split with their target and a dialogue per wording, kind "referring".

    The data set names no target: where a text is a phrase it names it, else it is called "thing asked for". An
    explanation whose question is one of the texts becomes the answer to it, any other one a dialogue of its own.
    Explanations of pictures that are not in the folder are rejected, last.

    Raises:
        DataError: there is no such folder or no *.json in it, or the file of explanations is unreadable.
    """
    folder = Path(source.folder)
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"{printable(folder)}: no *.json in it. Set `folder` of the source to a split of ReasonSeg.")
    explanations = _explanations(source.explanations)
    ids = ImageIds()
    for path in progress(files, total=min(len(files), limits.max_pictures), name="reading reasonseg", unit="pictures"):
        yield from _read_file(path, explanations, limits=limits, ids=ids)
    yield from explanations.rejected
    for name, items in explanations.by_picture.items():
        for position, _, _ in items:
            where = f"{printable(explanations.path)}: item {position}"
            yield rejection(RejectedDialogue, where, f"the folder has no usable picture {name!r}")


def _explanations(name: str) -> _Explanations:
    found = _Explanations(Path(name))
    if not name:
        return found
    items = read_json(found.path, encodings=ENCODINGS)
    if not isinstance(items, list):
        raise DataError(f"{printable(name)}: expected a list of explanations, found {type(items).__name__}.")
    for position, item in enumerate(items):
        try:
            if not isinstance(item, dict) or not isinstance(item.get("image"), str):
                raise DataError('expected an object with the name of a picture under "image"')
            query = checked_text(item.get("query"), what='the text under "query"')
            answer = checked_text(item.get("outputs"), what='the text under "outputs"')
            found.by_picture[Path(item["image"]).stem].append((position, query, " ".join(answer.split())))
        except DataError as error:
            found.rejected.append(rejection(RejectedDialogue, f"{printable(name)}: item {position}", error))
    return found


def _read_file(
    path: Path, explanations: _Explanations, *, limits: ReadLimits, ids: ImageIds
) -> Iterator[FilePicture | Rejected]:
    where = printable(path)
    try:
        content = read_json(path, encodings=ENCODINGS)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError('no list under "shapes": not a ReasonSeg file')
        if not isinstance(content.get("is_sentence"), bool):
            raise DataError(f'expected true or false under "is_sentence", found {content.get("is_sentence")!r}')
        picture = _picture(path, limits)
    except DataError as error:
        yield rejection(RejectedPicture, where, error)
        return
    origin = path.stem + picture.suffix
    image_id = ids.allot(origin)
    regions: tuple[Region, ...] = ()
    dialogues: list[Dialogue] = []
    try:
        target, ignored = target_mask(content["shapes"], picture)
        texts = list(_texts(content))
        phrase = _phrase(content, texts)
        region = Region(region_id=f"{image_id}-r0", image_id=image_id, phrase=phrase, mask=target, ignored=ignored)
        regions = (region,)
        explained = explanations.by_picture.pop(path.stem, [])
        dialogues = list(_dialogues(texts, region, explained, is_sentence=content["is_sentence"]))
    except DataError as error:
        yield rejection(RejectedRegion, where, error)
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=origin,
        regions=regions,
        dialogues=tuple(dialogues),
        content=picture.content,
        suffix=picture.suffix,
    )


def _picture(path: Path, limits: ReadLimits) -> UprightPicture:
    beside = [path.with_suffix(suffix).name for suffix in PICTURE_SUFFIXES if path.with_suffix(suffix).is_file()]
    return named_picture(
        beside[0] if beside else f"{path.stem}.jpg", folder=path.parent, root=path.parent, limits=limits
    )


def target_mask(shapes: list[Any], picture: UprightPicture) -> tuple[Rle, Rle | None]:
    """The target and the pixels that scoring leaves out: all shapes painted from large to small, so that what lies on
    top counts; an "ignore" is neither target nor background.

    Raises:
        DataError: a shape that is no outline, or no pixel of a target is left.
    """
    outlines: list[tuple[int, bool, Rle]] = []
    for number, shape in enumerate(shapes):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DataError(f'shapes[{number}]: expected an object with text under "label"')
        label = shape["label"].lower()
        if label == SKIPPED_LABEL:
            continue
        try:
            outline = shape_mask(shape, height=picture.pixels.height, width=picture.pixels.width)
        except DataError as error:
            raise DataError(f"shapes[{number}]: {error}") from None
        outlines.append((masks.area_px(outline), IGNORED_LABEL not in label, outline))
    painted, ignored = (np.zeros((picture.pixels.height, picture.pixels.width), dtype=bool) for _ in range(2))
    for _, is_target, outline in sorted(outlines, key=lambda item: item[0], reverse=True):
        inside = masks.decode(outline)
        painted[inside], ignored[inside] = is_target, not is_target
    if not painted.any():
        raise DataError('no pixel of a target: all shapes are "flag" or "ignore", or covered by these')
    return covering(masks.encode(painted)), masks.encode(ignored) if ignored.any() else None


def _texts(content: dict[str, Any]) -> Iterator[str]:
    texts = content.get("text")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts:
        raise DataError(f'no list of texts under "text", found {texts!r}')
    for number, text in enumerate(texts):
        yield " ".join(checked_text(text, what=f"text[{number}]").split())


def _phrase(content: dict[str, Any], texts: list[str]) -> str:
    return UNNAMED if content.get("is_sentence") else noun_phrase(texts[0])


def _dialogues(
    texts: list[str], region: Region, explained: list[tuple[int, str, str]], *, is_sentence: bool
) -> Iterator[Dialogue]:
    answers = {_key(query): answer for _, query, answer in explained}
    known = {_key(text) for text in texts}
    # An explanation asks in full sentences, whatever the picture's own texts do.
    asked = [(text, is_sentence) for text in texts] + [
        (query, True) for _, query, _ in explained if _key(query) not in known
    ]
    for number, (text, is_full) in enumerate(asked):
        dialogue_id = f"{region.image_id}-reasonseg-{number}"
        phrase = region.phrase if is_full else noun_phrase(text)
        answer = answer_with(1, key=dialogue_id)
        turn = Turn(
            question=f"{text} {pick(_REQUESTS, dialogue_id)}" if is_full else question_for(phrase, key=dialogue_id),
            answer=f"{answers[_key(text)]} {answer}" if _key(text) in answers else answer,
            targets=(region.region_id,),
            names=(phrase,),
        )
        yield one_turn(dialogue_id, region.image_id, turn, kind="referring", focus=phrase)


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
