"""A dialogue as a client sends it, and as the model reads it.

The request alone says what was said before: the server's memory makes answers faster, not different. The one exception
is an answer that comes back without its marks (a client that knows nothing of the field `miras`): its marks are taken
from what the server remembers having said, if it does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from miras.dialogue.masks import box_xyxy_px, decode, encode
from miras.dialogue.records import Frozen, Rle
from miras.dialogue.rendering import MARKERS, OBJ, SEG, plain_text
from miras.errors import DataError
from miras.model.records import Response
from miras.model.talk import Said
from miras.serve.refusals import RefusedError
from miras.sources.coco import unpack_runs

MAX_MASK_BYTES = 256 * 2**20  # of the unpacked masks that a dialogue speaks of, a byte per pixel
MAX_MASKS = 256  # that a dialogue speaks of
MAX_CODE_CHARACTERS = 2_000_000  # of their run lengths together: about a second to check
NOWHERE = -1


class Target(Frozen):
    """One thing that an answer points at, as sent and given back."""

    phrase: str
    start: int | None = None
    """Place of the phrase in the answer's text, characters; -1: it is not in it. None (from clients only): wherever
    it comes first after the targets before."""
    score: float = 0.0
    """How sure the model is, 0 to 1."""
    box_xyxy: tuple[int, int, int, int] = (0, 0, 0, 0)
    """(x0, y0, x1, y1) in pixels, ends exclusive; all zero for an empty mask."""
    mask: Rle
    """In pixels of the upright picture; may be empty."""


@dataclass(frozen=True)
class Question:
    """What a client asks."""

    text: str
    refers_to: tuple[int, ...] = ()
    """Earlier turns, from 0, whose masks it speaks of."""
    masks: tuple[Rle, ...] = ()
    """The client's own masks that it speaks of."""


@dataclass(frozen=True)
class PastTurn:
    """A question with the answer it got."""

    question: Question
    text: str
    """As the client saw it."""
    targets: tuple[Target, ...] | None
    """None: the client did not give them back."""


@dataclass(frozen=True)
class Asked:
    """A dialogue with its next question."""

    picture: Image.Image
    """Upright RGB."""
    picture_name: str
    """Hash of the file's bytes."""
    past: tuple[PastTurn, ...]
    question: Question


@dataclass(frozen=True)
class Resolved:
    """What the model reads."""

    said: tuple[Said, ...]
    question: str
    masks: tuple[np.ndarray, ...]
    """Boolean (h, w) that the question speaks of."""
    keys: tuple[str, ...]
    """Hash of the picture alone, of it and the first turn, ..., of the whole past."""
    asked_key: str
    """Hash of past and question."""
    without_marks: tuple[int, ...]
    """Turns whose answers came without marks and that nobody remembers; they are read as plain text."""


def resolve(asked: Asked, remembered: Callable[[str], Sequence[Target] | None]) -> Resolved:
    """The dialogue as the model reads it.

    Args:
        asked: of the client.
        remembered: marks of an answer by `answer_key`, None where it is not known.

    Raises:
        RefusedError: a question speaks of what is not there.
    """
    size = (asked.picture.height, asked.picture.width)
    keys, said, marked, unknown = [_hash(asked.picture_name)], [], list[tuple[Target, ...]](), []
    masks = _Masks(size)
    for number, turn in enumerate(asked.past):
        codes = _spoken_of(turn.question, marked, masks, where=f"question {number}")
        key = _hash(keys[-1], turn.question.text, *(code.counts for code in codes))
        found = turn.targets if turn.targets is not None else remembered(answer_key(key, turn.text))
        if found is None:
            unknown.append(number)
        targets = tuple(found or ())
        text = marked_text(turn.text, targets, where=f"answer {number}")
        marked.append(targets)
        said.append(Said(turn.question.text, masks.arrays(codes), Response(answer=text, groups=(), seconds=0.0)))
        keys.append(state_key(key, turn.text, targets))
    codes = _spoken_of(asked.question, marked, masks, where="the question")
    key = _hash(keys[-1], asked.question.text, *(code.counts for code in codes))
    return Resolved(tuple(said), asked.question.text, masks.arrays(codes), tuple(keys), key, tuple(unknown))


def answer_key(asked_key: str, text: str) -> str:
    """Hash under which an answer's marks are remembered."""
    return _hash(asked_key, text)


def state_key(asked_key: str, text: str, targets: Sequence[Target]) -> str:
    """Hash of a dialogue after an answer."""
    marks = [[target.phrase, target.start, target.mask.counts] for target in targets]
    return _hash(asked_key, text, json.dumps(marks))


def targets_of(response: Response) -> tuple[Target, ...]:
    """The targets of an answer, each with the place of its phrase in the answer's plain text."""
    text, found = plain_text(response.answer), []
    pieces, ends, past = response.answer.split(SEG), [], ""
    for piece in pieces[:-1]:
        past += piece
        ends.append(len(plain_text(past)))
    ends += [NOWHERE] * (len(response.groups) - len(ends))
    earliest = 0
    for group, end in zip(response.groups, ends, strict=False):
        phrase, code = plain_text(group.phrase), encode(group.mask)
        start = end - len(phrase)
        is_there = bool(phrase) and start >= earliest and text.startswith(phrase, start)
        earliest = end if is_there else earliest
        found.append(
            Target(
                phrase=phrase,
                start=start if is_there else NOWHERE,
                score=round(group.score, 4),
                box_xyxy=box_xyxy_px(code),
                mask=code,
            )
        )
    return tuple(found)


def marked_text(text: str, targets: Sequence[Target], *, where: str) -> str:
    """An answer as the model wrote it: every target's phrase between its markers.

    Raises:
        RefusedError: a phrase is not in the text.
    """
    if any(marker in text for marker in MARKERS):
        text = plain_text(text)  # typed by somebody: the model's own never reach a client
    pieces, place = [], 0
    for target in targets:
        if not target.phrase or target.start == NOWHERE:
            continue
        is_there = target.start is not None and target.start >= place and text.startswith(target.phrase, target.start)
        start = target.start if is_there and target.start is not None else text.find(target.phrase, place)
        if start < 0 or any(marker in target.phrase for marker in MARKERS):
            raise RefusedError(
                "cannot_be_taken",
                f"{where}: a target's phrase does not stand in the answer's text. Give the answer back as it came.",
                where="messages",
            )
        pieces += [text[place:start], OBJ, target.phrase, SEG]
        place = start + len(target.phrase)
    return "".join([*pieces, text[place:]])


def _spoken_of(question: Question, marked: Sequence[Sequence[Target]], masks: _Masks, *, where: str) -> list[Rle]:
    """The masks a question speaks of, none twice."""
    codes: list[Rle] = []
    for turn in dict.fromkeys(question.refers_to):
        if not 0 <= turn < len(marked):
            raise RefusedError(
                "cannot_be_taken",
                f"{where}: refers_to names turn {turn}; {len(marked)} turns stand before it, counted from 0.",
                where="refers_to",
            )
        found = [target.mask for target in marked[turn] if not masks.is_empty(target.mask)]
        if not found:
            raise RefusedError(
                "cannot_be_taken",
                f"{where}: the answer of turn {turn} marks nothing, or came without its field `miras`. Give that back "
                "as it came, or refer to another turn.",
                where="refers_to",
            )
        codes += found
    return list({code.counts: code for code in (*codes, *question.masks)}.values())


class _Masks:
    """Unpacks what clients send as masks with care: never beyond the picture, never too much."""

    def __init__(self, size: tuple[int, int]) -> None:
        """`size`: (height, width) of the picture."""
        self._size, self._count, self._characters = size, 0, 0
        self._most = min(MAX_MASKS, max(1, MAX_MASK_BYTES // (size[0] * size[1])))
        self._runs: dict[str, list[int]] = {}

    def is_empty(self, code: Rle) -> bool:
        """Whether it marks nothing."""
        return not any(self._unpacked(code)[1::2])

    def arrays(self, codes: Sequence[Rle]) -> tuple[np.ndarray, ...]:
        """Boolean (h, w) of each; raises RefusedError where one is no mask of some pixels of this picture."""
        self._count += len(codes)
        if self._count > self._most:
            message = f"The questions of this dialogue speak of more than {self._most} masks of such a picture."
            raise RefusedError("too_large", message, where="messages")
        return tuple(self._array(code) for code in codes)

    def _array(self, code: Rle) -> np.ndarray:
        height, width = self._size
        runs = self._unpacked(code)
        if code.size != self._size:
            raise _no_mask(f"its size is {list(code.size)}, the picture's {[height, width]} (height, width)")
        if any(run < 0 for run in runs) or sum(runs) != height * width:  # the C decoder trusts what it gets
            raise _no_mask("its runs do not add up to the picture")
        if not any(runs[1::2]):
            raise _no_mask("it is empty")
        return decode(code)

    def _unpacked(self, code: Rle) -> list[int]:
        if code.counts not in self._runs:
            self._characters += len(code.counts)
            if self._characters > MAX_CODE_CHARACTERS:
                message = f"The masks that this dialogue speaks of have more than {MAX_CODE_CHARACTERS:,} characters."
                raise RefusedError("too_large", message, where="messages")
            try:
                self._runs[code.counts] = unpack_runs(code.counts)
            except DataError as error:
                raise _no_mask(str(error)) from None
        return self._runs[code.counts]


def _no_mask(problem: str) -> RefusedError:
    message = f"mask: {problem}. Send COCO's compressed run lengths of some pixels of the picture."
    return RefusedError("cannot_be_taken", message, where="mask")


def _hash(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        coded = part.encode("utf-8", "surrogatepass")
        digest.update(len(coded).to_bytes(8, "big") + coded)
    return digest.hexdigest()
