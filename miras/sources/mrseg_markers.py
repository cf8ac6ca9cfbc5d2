"""The markers of public MRSeg records: read into rounds, and written.

A record is `{"task": "segmentation", "base": ..., "conv_id"?: ..., "conversations": [{"from", "value", "ind"?}, ...]}`.

- `[IMAGE256:<image>]` in the first question;
- `[MASK-ENCODE:<image>|<dataset>|<id>][BOX-ENCODE:<the same>]` before the text: a mask that the question speaks of;
- `ind`: the round or rounds, from 1, whose masks these are; -1 or absent: none;
- `[MASK-DECODE:<relation>:<reference id>:<id>:<image>:<dataset>]`, with two reference ids, or
  `[MASK-DECODE:<image>|<dataset>|<id>]` in the answer: its target;
- `<FAKE_MASK_OUT>` in an answer: wrong on purpose, not to be learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from miras.dialogue.records import TARGET_SLOT
from miras.errors import DataError
from miras.sources.pictures import printable
from miras.sources.told import answer_with, checked_text

ROLES = ("human", "gpt")  # question, answer
FAKE = "<FAKE_MASK_OUT>"
NO_ROUND = -1  # "ind" of a question that speaks of no mask
_MARKER = re.compile(r"\[([A-Z][A-Z0-9-]*):([^\]]*)\]")
_IMAGE = re.compile(r"IMAGE\d+")
_WORD = re.compile(r"\w")
_SPACE_BEFORE_STOP = re.compile(r" +([.,;:!?])")
_SEPARATORS = re.compile(r"[|:\[\]]")


class MaskName(NamedTuple):
    """An annotation of a data set; the id may be a number, a class, any text, or "" (ReasonSeg: the picture's mask)."""

    dataset: str
    annotation: str


@dataclass(frozen=True)
class Decode:
    """A target in an answer."""

    target: MaskName
    image: str
    relation: str = "none"
    """ "none", "relational", ...; not said in the form of three fields."""
    references: tuple[str, ...] = ()
    """Ids of the masks it was found by, as stated; "none" left out."""


@dataclass(frozen=True)
class Round:
    """A question and its answer as the record has them."""

    question: str
    """Without markers."""
    answer: str
    """A slot for each target; a sentence of ours where the record has nothing but the marker."""
    targets: tuple[MaskName, ...]
    shown: tuple[MaskName, ...]
    """Masks given with the question, each once, in order."""
    indices: tuple[int, ...]
    """Rounds from 0 that `ind` names."""
    is_fake: bool


@dataclass(frozen=True)
class NamedTurn:
    """A turn of our form whose regions are still names of annotations."""

    question: str
    answer: str
    targets: tuple[MaskName, ...]
    refers_to: tuple[int, ...]
    """Earlier turns, from 0."""
    points_at: tuple[MaskName, ...]
    round: int
    """Of the record, from 0, that it was made of."""


def image_of(record: Any) -> str:
    """The name of the record's picture.

    Raises:
        DataError: no such record, no `[IMAGE256:...]` in its first question, or several pictures.
    """
    messages = _messages(record)
    images = [
        body for message in messages for kind, body in _MARKER.findall(message["value"]) if _IMAGE.fullmatch(kind)
    ]
    if not images or not _MARKER.search(messages[0]["value"]):
        raise DataError("no [IMAGE256:...] in the first question")
    if len(set(images)) > 1:
        raise DataError(f"markers of several pictures: {', '.join(sorted(set(images)))}")
    return images[0]


def rounds_of(record: Any, *, key: str) -> tuple[Round, ...]:
    """The rounds of a record.

    Args:
        key: the dialogue's id, which decides the sentences of ours.

    Raises:
        DataError: it is not of the form, a marker is unknown or incomplete, or speaks of another picture.
    """
    messages, image = _messages(record), image_of(record)
    pairs = zip(messages[::2], messages[1::2], strict=True)
    return tuple(_round(question, answer, number, image, key) for number, (question, answer) in enumerate(pairs))


def turns_of(rounds: Sequence[Round]) -> tuple[NamedTurn, ...]:
    """The turns to learn from: rounds that are wrong on purpose are left out.

    A mask given with a question is a reference to the round it came from: the one that `ind` names, without `ind` the
    latest one before with that target. Where there is none, or its round is left out, the person points at the mask.
    """
    kept = [number for number, item in enumerate(rounds) if not item.is_fake]
    place = {number: at for at, number in enumerate(kept)}
    turns: list[NamedTurn] = []
    for number in kept:
        item = rounds[number]
        refers_to: list[int] = []
        points_at: list[MaskName] = []
        for name in item.shown:
            allowed = item.indices or tuple(reversed(range(number)))
            source = next((earlier for earlier in allowed if name in rounds[earlier].targets), None)
            if source is not None and source in place:
                refers_to.append(place[source])
            else:
                points_at.append(name)
        if not item.shown:
            for earlier in item.indices:
                if earlier in place and rounds[earlier].targets:
                    refers_to.append(place[earlier])
                else:
                    points_at += rounds[earlier].targets
        turns.append(
            NamedTurn(
                question=item.question,
                answer=item.answer,
                targets=item.targets,
                refers_to=tuple(dict.fromkeys(refers_to)),
                points_at=tuple(dict.fromkeys(points_at)),
                round=number,
            )
        )
    return tuple(turns)


def question_message(
    text: str, *, image: str, is_first: bool, shown: Sequence[MaskName], rounds: Sequence[int]
) -> dict[str, Any]:
    """A question with its markers; `rounds` from 0 become `ind`.

    Raises:
        DataError: a name holds a sign that separates fields.
    """
    encodes = "".join(
        f"[{kind}-ENCODE:{_safe(image)}|{_safe(name.dataset)}|{_safe(name.annotation)}]"
        for name in shown
        for kind in ("MASK", "BOX")
    )
    before = (f"[IMAGE256:{_safe(image)}] " if is_first else "") + (f"{encodes} " if encodes else "")
    message: dict[str, Any] = {"from": ROLES[0], "value": before + text}
    if rounds:
        numbers = [number + 1 for number in rounds]
        message["ind"] = numbers[0] if len(numbers) == 1 else numbers
    return message


def answer_message(text: str, *, image: str, targets: Sequence[MaskName], shown: Sequence[MaskName]) -> dict[str, Any]:
    """An answer with a marker in each slot; of more than two references the form has room for two.

    Raises:
        DataError: a name holds a sign that separates fields.
    """
    references = [_safe(name.annotation) for name in shown[:2]] or ["none"]
    relation = "relational" if shown else "none"
    for target in targets:
        fields = [relation, *references, target.annotation, image, target.dataset]
        marker = f"[MASK-DECODE:{':'.join(map(_safe, fields))}]"
        text = text.replace(TARGET_SLOT, marker, 1)
    return {"from": ROLES[1], "value": text}


def _messages(record: Any) -> list[dict[str, Any]]:
    messages = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not messages:
        raise DataError('no list of messages under "conversations"')
    if len(messages) % 2:
        raise DataError(f"{len(messages)} messages; expected an answer to every question")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("value"), str):
            raise DataError(f'message {number + 1}: expected an object with text under "value"')
        if message.get("from") != ROLES[number % 2]:
            raise DataError(f"message {number + 1} is by {message.get('from')!r}, expected {ROLES[number % 2]}")
    return messages


def _round(question: dict[str, Any], answer: dict[str, Any], number: int, image: str, key: str) -> Round:
    try:
        shown = tuple(dict.fromkeys(_encodes(question["value"], image, is_first=number == 0)))
        decodes = tuple(_decodes(answer["value"], image))
        targets = tuple(decode.target for decode in decodes)
        return Round(
            question=checked_text(_tidy(_MARKER.sub(" ", question["value"])), what="the question"),
            answer=_answer(answer["value"], num_targets=len(targets), key=f"{key}/{number}"),
            targets=targets,
            shown=shown,
            indices=_indices(question.get("ind"), number),
            is_fake=FAKE in answer["value"],
        )
    except DataError as error:
        raise DataError(f"round {number + 1}: {error}") from None


def _encodes(value: str, image: str, *, is_first: bool) -> Iterator[MaskName]:
    for kind, body in _MARKER.findall(value):
        if _IMAGE.fullmatch(kind):
            if not is_first:
                raise DataError(f"[{kind}:...] stands in a later question; expected in the first one only")
            continue
        if kind not in ("MASK-ENCODE", "BOX-ENCODE"):
            raise DataError(f"unknown marker [{kind}:...] in a question")
        fields = body.split("|")
        if len(fields) != 3:
            raise DataError(f"[{kind}:{body}] has {len(fields)} fields, expected <image>|<dataset>|<id>")
        yield _name(fields[1], fields[2], image=fields[0], expected=image)


def _decodes(value: str, image: str) -> Iterator[Decode]:
    for kind, body in _MARKER.findall(value):
        if kind != "MASK-DECODE":
            raise DataError(f"unknown marker [{kind}:...] in an answer")
        fields = body.split(":")
        if len(fields) == 1 and body.count("|") == 2:
            stated, dataset, annotation = body.split("|")
            yield Decode(_name(dataset, annotation, image=stated, expected=image), stated)
        elif len(fields) in (5, 6):
            relation, *references, annotation, stated, dataset = fields
            target = _name(dataset, annotation, image=stated, expected=image)
            yield Decode(target, stated, relation, tuple(text for text in references if text != "none"))
        else:
            raise DataError(f"[MASK-DECODE:{body}] has {len(fields)} fields, expected 3 with |, 5 or 6 with :")


def _name(dataset: str, annotation: str, *, image: str, expected: str) -> MaskName:
    if image != expected:
        raise DataError(f"a mask of the picture {image!r} in a dialogue about {expected!r}")
    if not dataset:
        raise DataError("a marker names no data set")
    return MaskName(dataset, annotation.strip("'"))  # a lone quote stands for "no id" in some ReasonSeg records


def _indices(raw: object, number: int) -> tuple[int, ...]:
    """Rounds from 0, each once."""
    values = raw if isinstance(raw, list) else [raw]
    indices: list[int] = []
    for value in values:
        if value is None or value == NO_ROUND:
            continue
        if type(value) is not int or not 1 <= value <= number:
            raise DataError(f"ind is {printable(repr(raw))}; expected earlier rounds (1 to {number}), -1 or none")
        indices.append(value - 1)
    return tuple(dict.fromkeys(indices))


def _answer(value: str, *, num_targets: int, key: str) -> str:
    text = value.replace(FAKE, " ")
    if TARGET_SLOT in text:
        raise DataError(f"the answer holds {TARGET_SLOT}, which only miras may write")
    # What the markers stand for is put back after the check, which refuses slots in a source's own text.
    words = _MARKER.sub(" ", text)
    if not _WORD.search(words):
        if num_targets == 0:
            raise DataError("the answer has neither words nor a mask")
        return answer_with(num_targets, key=key)
    checked_text(words, what="the answer")
    return _tidy(_MARKER.sub(TARGET_SLOT, text))


def _tidy(text: str) -> str:
    """Single blanks, none before a full stop."""
    return _SPACE_BEFORE_STOP.sub(r"\1", " ".join(text.split()))


def _safe(text: str) -> str:
    if _SEPARATORS.search(text):
        raise DataError(f"the name {text!r} holds a sign that separates the fields of a marker (| : [ ])")
    return text
