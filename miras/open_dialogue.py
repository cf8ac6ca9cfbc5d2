"""A dialogue with a model about a picture: ask, refer to earlier masks, undo, branch, save.

talk = Miras.from_pretrained("exported").dialogue("street.jpg")
answer = talk.ask("Which car is parked?")
talk.refer(0).ask("Only its windscreen.").targets[0].mask
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from pydantic import ValidationError

from miras.dialogue.masks import box_xyxy_px, decode, encode
from miras.dialogue.records import TARGET_SLOT, Frozen, Rle
from miras.dialogue.rendering import MARKERS, OBJ, SEG, plain_text
from miras.errors import DataError
from miras.evaluate.mask_runs import check_rle
from miras.files import finished_file
from miras.model.records import Group, Response
from miras.model.talk import Said, Talk, mask_name
from miras.sources.pictures import decode_image

if TYPE_CHECKING:
    from miras.model.talker import Talker

MAX_QUESTION_CHARACTERS = 4000
MAX_MEGAPIXELS = 100  # of a saved picture
SAVED_SUFFIX = ".miras.json"


@dataclass(frozen=True)
class Target:
    """One thing that an answer points at."""

    phrase: str
    mask: np.ndarray
    """Boolean (H, W), pixels of the upright picture; may be empty."""
    score: float
    """How sure the model is, 0 to 1: mean probability of the mask's pixels."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box (x0, y0, x1, y1), ends exclusive; all zero for an empty mask."""
        return box_xyxy_px(encode(self.mask))


@dataclass(frozen=True)
class Answer:
    """What the model said to one question."""

    question: str
    text: str
    """Without markers."""
    targets: tuple[Target, ...]
    """In the order of the text; empty: it points at nothing."""
    seconds: float
    """Wall time."""
    is_cut: bool
    """Whether the longest length allowed was reached before the end."""

    @property
    def mask(self) -> np.ndarray | None:
        """All targets together, boolean (H, W); None without any."""
        return np.logical_or.reduce([target.mask for target in self.targets]) if self.targets else None


class _SavedGroup(Frozen):
    phrase: str
    mask: Rle
    score: float


class _SavedTurn(Frozen):
    question: str
    masks: tuple[Rle, ...]
    answer: str
    groups: tuple[_SavedGroup, ...]
    seconds: float
    is_cut: bool


class _SavedDialogue(Frozen):
    """What `save` writes."""

    format: Literal["miras dialogue 1"] = "miras dialogue 1"
    model: str
    picture: str
    """PNG, base64."""
    turns: tuple[_SavedTurn, ...]


class OpenDialogue:
    """A dialogue in progress. It keeps what the model has worked out, so that a turn costs only what is new."""

    def __init__(self, talker: Talker, picture: Image.Image, *, model: str = "") -> None:
        """`model`: what answers, for saved dialogues."""
        self._talker, self._talk, self._model = talker, Talk(picture), model
        self._referred: tuple[np.ndarray, ...] = ()

    @property
    def picture(self) -> Image.Image:
        """Upright RGB."""
        return self._talk.picture

    @property
    def answers(self) -> list[Answer]:
        """So far, in order."""
        return [_answer(said) for said in self._talk.said]

    @property
    def state(self) -> Talk:
        """What the model has of the dialogue: the turns as it reads them, and what it keeps so as not to read them
        again. For those who bound its memory (`TalkMemory`) or need the answers with their markers."""
        return self._talk

    def ask(self, question: str, *, on_text: Callable[[str], object] | None = None) -> Answer:
        """The answer to the next question.

        Args:
            question: text; markers in it stay ordinary text.
            on_text: is told the text so far whenever it has grown.

        Raises:
            DataError: the question is empty or too long, or the dialogue is; it stays as it was.
        """
        for text in self.stream(question):
            if on_text is not None:
                on_text(text)
        return self.answers[-1]

    def stream(self, question: str) -> Iterator[str]:
        """The text so far whenever it has grown; at the end `answers[-1]` is the answer.

        Leaving off in the middle leaves the dialogue as it was.
        """
        checked = check_question(question)
        steps = self._talker.stream([self._talk], [(checked, self._referred)])
        before = ""
        for (text,) in steps:
            if text != before:
                yield text
            before = text
        self._referred = ()

    def refer(self, turn: int, target: int | None = None) -> OpenDialogue:
        """Lets the next question speak of the masks of an earlier answer; returns this dialogue, to go on with.

        Args:
            turn: counted from 0; -1 is the last one.
            target: which of its targets; None: all.

        Raises:
            DataError: no such turn or target, nothing was marked there, or the network has no memory of masks.
        """
        self.check_memory("refer")
        said, count = self._talk.said, len(self._talk.said)
        if not -count <= turn < count:
            raise DataError(f"refer: turn {turn} of a dialogue of {count} turns; give 0 to {count - 1}.")
        groups = said[turn].response.groups
        if target is not None and not 0 <= target < len(groups):
            raise DataError(f"refer: target {target} of an answer with {len(groups)} targets.")
        chosen = groups if target is None else (groups[target],)
        masks = tuple(group.mask for group in chosen if group.mask.any())
        if not masks:
            raise DataError(f"refer: the answer of turn {turn} marked nothing; refer to another turn.")
        self._referred += masks
        return self

    def check_memory(self, wish: str) -> None:
        """Raises a DataError, beginning with `wish`, where the network has no memory of masks."""
        if not self._talker.responder.builder.has_memory:
            raise DataError(
                f"{wish}: this model was trained with network.mask_memory off; it cannot speak of masks. Ask in words, "
                "or train a network with memory: `make run PRESET=tiny+miras-memory`."
            )

    def point(self, mask: np.ndarray) -> OpenDialogue:
        """Lets the next question speak of a mask of your own, boolean (H, W); returns this dialogue.

        Raises:
            DataError: another size than the picture's, an empty mask, or a network without memory of masks.
        """
        self.check_memory("point")
        size = (self.picture.height, self.picture.width)
        if mask.shape != size or not mask.any():
            raise DataError(f"point: expected a mask of {size} (height, width) with some pixel set, got {mask.shape}.")
        self._referred += (mask.astype(bool),)
        return self

    def correct(self, turn: int, text: str, targets: Sequence[Target]) -> None:
        """Puts an answer right: from the next question on the model takes this for what it said.

        Questions that spoke of a mask which is now another keep speaking of the old one; see `exchange_masks`.

        Args:
            turn: counted from 0.
            text: with a `{target}` slot where it names each of the targets.
            targets: in the order of the text, none of them empty.

        Raises:
            DataError: no such turn; as many slots as targets are needed; a marker stands in text or phrase; a mask is
                empty or of another size than the picture.
        """
        if not 0 <= turn < len(self._talk.said):
            raise DataError(f"correct: turn {turn} of a dialogue of {len(self._talk.said)} turns.")
        pieces, size = text.split(TARGET_SLOT), (self.picture.height, self.picture.width)
        if len(pieces) != len(targets) + 1:
            raise DataError(f"correct: {len(pieces) - 1} slots {TARGET_SLOT} for {len(targets)} targets.")
        if any(marker in words for words in (text, *(target.phrase for target in targets)) for marker in MARKERS):
            raise DataError(f"correct: text and phrases are words only; leave out {', '.join(MARKERS)}.")
        for target in targets:
            if target.mask.shape != size or not target.mask.any():
                raise DataError(f"correct: the mask of {target.phrase!r} is empty, or not of {size} (height, width).")
        named = [f"{OBJ}{target.phrase}{SEG}{piece}" for target, piece in zip(targets, pieces[1:], strict=True)]
        groups = tuple(Group(target.phrase, target.mask.astype(bool), target.score) for target in targets)
        said = list(self._talk.said)
        response = Response(answer="".join([pieces[0], *named]), groups=groups, seconds=said[turn].response.seconds)
        said[turn] = replace(said[turn], response=response)
        self._talk.said = tuple(said)

    def exchange_masks(self, changed: Mapping[str, np.ndarray]) -> None:
        """Lets every question so far speak of other masks.

        Args:
            changed: name of a mask (`mask_name`) -> the boolean (H, W), not empty, that takes its place.
        """
        self._talk.said = tuple(
            replace(said, masks=tuple(changed.get(mask_name(mask), mask) for mask in said.masks))
            for said in self._talk.said
        )

    def undo(self, count: int = 1) -> None:
        """Takes back the last turns, and what the next question was to refer to.

        Raises:
            DataError: there are not as many.
        """
        if not 1 <= count <= len(self._talk.said):
            raise DataError(f"undo: {count} of {len(self._talk.said)} turns.")
        self._talk.undo(count)
        self._referred = ()

    def branch(self) -> OpenDialogue:
        """Another dialogue with the same turns so far; both go on by themselves."""
        other = OpenDialogue(self._talker, self.picture, model=self._model)
        other._talk = self._talk.branch()
        return other

    def save(self, path: str | Path) -> Path:
        """Writes picture, turns and masks as one JSON file; returns its path, which ends in `.miras.json`."""
        into = Path(path)
        if not into.name.endswith(SAVED_SUFFIX):
            into = into.with_name(into.name + SAVED_SUFFIX)
        buffer = io.BytesIO()
        self.picture.save(buffer, format="PNG")
        saved = _SavedDialogue(
            model=self._model,
            picture=base64.b64encode(buffer.getvalue()).decode("ascii"),
            turns=tuple(_saved_turn(said) for said in self._talk.said),
        )
        with finished_file(into) as aside:
            aside.write_text(saved.model_dump_json(), "utf-8")
        return into

    @classmethod
    def load(cls, talker: Talker, path: str | Path, *, model: str = "") -> OpenDialogue:
        """A saved dialogue, to go on with; another model than the one that answered reads its answers as its own.

        Raises:
            DataError: it is no saved dialogue, or damaged.
        """
        try:
            saved = _SavedDialogue.model_validate_json(Path(path).read_bytes())
            content = base64.b64decode(saved.picture, validate=True)
            picture = decode_image(content, where=str(path), max_megapixels=MAX_MEGAPIXELS).convert("RGB")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error}). Name a file that `save` wrote.") from None
        except (ValidationError, ValueError) as error:
            raise DataError(f"{path}: no saved dialogue, or damaged ({str(error).splitlines()[0]}).") from None
        size = (picture.height, picture.width)
        for turn in saved.turns:
            for code in (*turn.masks, *(group.mask for group in turn.groups)):
                check_rle(code, size=size, where=str(path))
        found = cls(talker, picture, model=model)
        found._talk = replace(found._talk, said=tuple(_said(turn) for turn in saved.turns))
        return found


def check_question(question: object, *, most: int = MAX_QUESTION_CHARACTERS) -> str:
    """The question without outer blanks.

    Args:
        question: as it was given.
        most: characters that it may have.

    Raises:
        DataError: no text, empty, or too long.
    """
    if not isinstance(question, str):
        raise DataError(f"question: expected text, found {type(question).__name__}.")
    text = " ".join(question.split())
    if not text:
        raise DataError("question: empty. Ask something about the picture.")
    if len(text) > most:
        raise DataError(f"question: {len(text):,} characters; at most {most:,} are taken.")
    return text


def ask_many(
    talker: Talker, pictures: Sequence[Image.Image], questions: Sequence[Sequence[str]], *, batch_size: int
) -> list[list[Answer]]:
    """The answers to a dialogue about each picture, several dialogues at a time; equal to asking one by one."""
    found: list[list[Answer]] = []
    for start in range(0, len(pictures), batch_size):
        asked = [list(map(check_question, texts)) for texts in questions[start : start + batch_size]]
        talks = [Talk(picture) for picture in pictures[start : start + batch_size]]
        for turn in range(max(map(len, asked), default=0)):
            due = [(talk, texts[turn]) for talk, texts in zip(talks, asked, strict=True) if turn < len(texts)]
            talker.answer([talk for talk, _ in due], [(text, ()) for _, text in due])
        found += [[_answer(said) for said in talk.said] for talk in talks]
    return found


def _answer(said: Said) -> Answer:
    response = said.response
    return Answer(
        question=said.question,
        text=plain_text(response.answer),
        targets=tuple(Target(group.phrase, group.mask, group.score) for group in response.groups),
        seconds=response.seconds,
        is_cut=response.is_cut,
    )


def _saved_turn(said: Said) -> _SavedTurn:
    response = said.response
    return _SavedTurn(
        question=said.question,
        masks=tuple(map(encode, said.masks)),
        answer=response.answer,
        groups=tuple(
            _SavedGroup(phrase=group.phrase, mask=encode(group.mask), score=group.score) for group in response.groups
        ),
        seconds=response.seconds,
        is_cut=response.is_cut,
    )


def _said(turn: _SavedTurn) -> Said:
    groups = tuple(Group(group.phrase, decode(group.mask), group.score) for group in turn.groups)
    response = Response(answer=turn.answer, groups=groups, seconds=turn.seconds, is_cut=turn.is_cut)
    return Said(turn.question, tuple(map(decode, turn.masks)), response)
