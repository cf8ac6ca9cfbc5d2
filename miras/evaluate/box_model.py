"""Models behind a server that point with boxes: `BoxModel` answers as a trained network does (PRIST paper, C.3).

Any OpenAI-compatible server that takes pictures. The model writes `<box>(x1,y1),(x2,y2)</box>` behind what it means;
each box becomes a filled rectangle. The forms of Qwen-VL (`<ref>`, `<|box_start|>`) and InternVL (`<box>[[...]]</box>`)
are read, too. Every call goes through `miras.llm`: cached, within the budget, made again when that can help.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

from miras.config import Section
from miras.dialogue.rendering import OBJ, SEG, plain_text
from miras.errors import DataError
from miras.llm.config import ModelConfig
from miras.llm.records import Answered, EarlierTurn, Outcome, PlainText, Prompt
from miras.model.records import Group, Request, Response

if TYPE_CHECKING:  # it brings the client of the service along
    from miras.llm.asking import LanguageModel

FrameName = Literal["0-1", "0-100", "0-1000", "pixel", "qwen-vl", "internvl"]
# Length of the picture's sides in the frame; None: its own in pixels. Qwen-VL, Qwen2-VL and InternVL were trained on
# 0 to 1000 (their model cards).
SIDES: dict[FrameName, float | None] = {
    "0-1": 1,
    "0-100": 100,
    "0-1000": 1000,
    "pixel": None,
    "qwen-vl": 1000,
    "internvl": 1000,
}
Reading = Literal["boxes", "none stated", "unreadable", "no box", "failed"]
"""What an answer held: boxes; words that nothing was found; what looks like a box and is none; no box at all; or no
answer came."""

_TASK = """You talk with a person about a picture. Answer each question in one or two plain sentences.
Whenever a question asks you to find, segment, mark or point out something, name it in your answer and write its place
directly behind the name, as <box>(x1,y1),(x2,y2)</box>: (x1,y1) is the upper left and (x2,y2) the lower right corner of
the tightest box around it. {frame} Write one box for each thing that is meant. Where the thing asked for
is not in the picture, answer: no detected. Write no box in answers to other questions."""
_TASK_WITHOUT_PICTURE = "You talk with a person. Answer each question in one or two plain sentences."
NO_ANSWER = "(no answer)"  # what the model is told it said before, where it said nothing: servers refuse empty messages

_REF = r"(?:(?:<ref>|<\|object_ref_start\|>)(?P<phrase>[^<>]*)(?:</ref>|<\|object_ref_end\|>)\s*)?"
_BOX = re.compile(
    _REF + r"(?:<box>|<\|box_start\|>)(?P<inside>[^<>]*)(?:</box>|<\|box_end\|>|(?=<box>|<\|box_start\|>)|\Z)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-−]?(?:\d+(?:\.\d*)?|\.\d+)")
_BETWEEN_NUMBERS = re.compile(r"[\s,;:()\[\]%]*")
_BARE_BOX = re.compile(r"\(\s*[\d.]+\s*,\s*[\d.]+\s*\)\s*,?\s*\(\s*[\d.]+\s*,\s*[\d.]+\s*\)")
_LEFT_OVER = re.compile(r"</?(?:ref|box)>|<\|(?:object_ref|box)_(?:start|end)\|>", re.IGNORECASE)
_NOTHING = re.compile(
    r"\b(?:no|not|nothing|none)\b(?:\W+\w+){0,4}?\W+(?:detected|found|visible|present|seen|there)\b"
    r"|\b(?:no|not|nothing|none)\W+(?:in|on)\W+the\W+(?:picture|image|photo)\b",
    re.IGNORECASE,
)


class BoxModelConfig(Section):
    """A model behind a server as a model to evaluate."""

    model: ModelConfig
    """Which; `schema_support` is not looked at: its answers are plain text."""
    frame: FrameName
    """What its coordinates mean: shares of the picture's sides, pixels, or a family's own."""


class PictureFile(Protocol):
    """A stored picture, such as `miras.model.responder.StoredPicture`."""

    @property
    def path(self) -> Path:
        """PNG, JPEG, WebP or GIF."""

    @property
    def height(self) -> int:
        """Pixels."""

    @property
    def width(self) -> int:
        """Pixels."""


class Box(NamedTuple):
    """Corners in the model's frame, as written: they may be swapped, or lie outside."""

    x1: float
    y1: float
    x2: float
    y2: float


class NamedBox(NamedTuple):
    """A box, and what the answer calls what is in it; empty where only the sentence says."""

    phrase: str
    box: Box


@dataclass(frozen=True)
class BoxAnswer:
    """What was read out of an answer."""

    answer: str
    """The words; a phrase that the model marked as `[OBJ]phrase[SEG]`."""
    boxes: tuple[NamedBox, ...]
    reading: Reading


@dataclass(frozen=True)
class BoxCounts:
    """What the answers held, since the model was opened."""

    answers: Mapping[Reading, int]
    """Adds up to the requests."""
    boxes: int
    beyond_frame: int
    """Boxes with a corner outside the frame; many of them mean that `frame` is wrong."""
    empty: int
    """Boxes that cover no pixel of the picture."""


class BoxModel:
    """A model behind a server that answers requests about stored pictures, with filled boxes for masks."""

    def __init__(self, model: LanguageModel, config: BoxModelConfig, *, pictures: Mapping[str, PictureFile]) -> None:
        """`model` answers for `config.model`; `pictures` is by image id."""
        self._model = model
        self._config = config
        self._pictures = pictures
        self._readings: Counter[Reading] = Counter()
        self._boxes: Counter[str] = Counter()

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """One response per request, in order; a call that failed for good is a response with `error`.

        Raises:
            DataError: a request is about an unknown picture.
            MirasError: the budget is spent or the service is away; what was answered is kept.
        """
        if not requests:
            return []
        begin_s = time.perf_counter()
        outcomes = list(self._model.ask(self._prompts(requests)))
        seconds = (time.perf_counter() - begin_s) / len(requests)
        return [self._response(request, outcome, seconds) for request, outcome in zip(requests, outcomes, strict=True)]

    def counts(self) -> BoxCounts:
        """What the answers held so far."""
        return BoxCounts(
            answers=dict(sorted(self._readings.items())),
            boxes=self._boxes["all"],
            beyond_frame=self._boxes["beyond frame"],
            empty=self._boxes["empty"],
        )

    def _prompts(self, requests: Sequence[Request]) -> Iterator[Prompt]:
        for request in requests:
            yield box_prompt(request, self._picture(request), frame=self._config.frame)

    def _picture(self, request: Request) -> PictureFile | None:
        """None: the dialogue has no picture."""
        if not request.image_id:
            return None
        if request.image_id not in self._pictures:
            raise DataError(f"{request.image_id}: a question is about this picture, which the benchmark does not list.")
        return self._pictures[request.image_id]

    def _response(self, request: Request, outcome: Outcome, seconds: float) -> Response:
        if not isinstance(outcome, Answered):
            self._readings["failed"] += 1
            return Response(
                answer="",
                groups=(),
                seconds=seconds,
                is_cut=outcome.reason == "truncated",
                raw=outcome.raw[-1] if outcome.raw else "",
                error=f"{outcome.reason}: {outcome.detail}",
            )
        assert isinstance(outcome.value, PlainText)
        found = read_box_answer(outcome.value.text)
        self._readings[found.reading] += 1
        picture = self._picture(request)
        groups = () if picture is None else tuple(self._group(named, picture) for named in found.boxes)
        return Response(answer=found.answer, groups=groups, seconds=seconds, raw=outcome.raw)

    def _group(self, named: NamedBox, picture: PictureFile) -> Group:
        frame = self._config.frame
        mask = box_mask(named.box, frame=frame, height=picture.height, width=picture.width)
        self._boxes["all"] += 1
        self._boxes["beyond frame"] += _is_beyond(named.box, frame=frame, height=picture.height, width=picture.width)
        self._boxes["empty"] += not mask.any()
        return Group(phrase=named.phrase, mask=mask)


def fingerprint(config: BoxModelConfig) -> str:
    """Hash of all that decides an answer besides question and picture: model, frame, wording."""
    settings = config.model_dump(mode="json", exclude={"model": {"provider", "recorded"}})
    decisive = [settings, _TASK, _TASK_WITHOUT_PICTURE, NO_ANSWER]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def box_prompt(request: Request, picture: PictureFile | None, *, frame: FrameName) -> Prompt:
    """A request as chat turns; a mask that a question speaks of is described by its box.

    Args:
        request: with rendered answers in its history.
        picture: that it is about.
        frame: of all coordinates.
    """
    questions = [question for question, _ in request.history] + [request.question]
    references = request.references or ((),) * len(questions)
    asked = [
        plain_text(question) + _pointing(masks, frame=frame)
        for question, masks in zip(questions, references, strict=True)
    ]
    answers = [plain_text(answer) or NO_ANSWER for _, answer in request.history]
    return Prompt(
        name="evaluate/box",
        key=f"{request.image_id}: {request.question}",
        system=_TASK_WITHOUT_PICTURE if picture is None else _TASK.format(frame=_frame_in_words(frame, picture)),
        text=asked[-1],
        answer=PlainText,
        picture=None if picture is None else picture.path,
        history=tuple(map(EarlierTurn, asked, answers)),
    )


def read_box_answer(text: str) -> BoxAnswer:
    """Words and boxes of an answer as the model wrote it.

    Boxes win over words that nothing was found. Of an answer with boxes that cannot be read the others count; one that
    has no readable box points at nothing.
    """
    boxes: list[NamedBox] = []
    unreadable = 0

    def take(match: re.Match[str]) -> str:
        nonlocal unreadable
        found = _boxes_inside(match["inside"])
        phrase = plain_text(match["phrase"] or "")
        unreadable += not found
        boxes.extend(NamedBox(phrase, box) for box in found)
        marked = f"{OBJ}{phrase}{SEG}" if found else phrase
        return marked if phrase else " "

    words, num_left_over = _LEFT_OVER.subn(" ", _BOX.sub(take, text))
    unreadable += num_left_over
    answer = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(words.split()))
    return BoxAnswer(answer, tuple(boxes), _reading_of(words, has_boxes=bool(boxes), has_unreadable=unreadable > 0))


def box_mask(box: Box, *, frame: FrameName, height: int, width: int) -> np.ndarray:
    """Boolean (height, width): the pixels whose centres lie in the box.

    Swapped corners are put right, and what lies outside the picture is cut off; nothing may be left.
    """
    left, right = (_edge_px(x, frame=frame, side_px=width) for x in sorted((box.x1, box.x2)))
    top, bottom = (_edge_px(y, frame=frame, side_px=height) for y in sorted((box.y1, box.y2)))
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def mask_box(mask: np.ndarray, *, frame: FrameName) -> Box:
    """The tight box of a mask (height, width) with at least one pixel; the inverse of `box_mask` for rectangles."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x_scale, y_scale = _scale(frame, side_px=width), _scale(frame, side_px=height)
    return Box(
        float(columns[0]) / x_scale,
        float(rows[0]) / y_scale,
        float(columns[-1] + 1) / x_scale,
        float(rows[-1] + 1) / y_scale,
    )


def _scale(frame: FrameName, *, side_px: int) -> float:
    """Pixels per unit of the frame."""
    units = SIDES[frame]
    return 1.0 if units is None else side_px / units


def _edge_px(value: float, *, frame: FrameName, side_px: int) -> int:
    """The first pixel whose centre lies at or behind an edge of a box, 0 to side_px."""
    edge = min(max(value * _scale(frame, side_px=side_px), 0.0), float(side_px))
    return int(np.ceil(edge - 0.5))


def _is_beyond(box: Box, *, frame: FrameName, height: int, width: int) -> bool:
    x_most, y_most = SIDES[frame] or width, SIDES[frame] or height
    return not (0 <= min(box.x1, box.x2) <= max(box.x1, box.x2) <= x_most) or not (
        0 <= min(box.y1, box.y2) <= max(box.y1, box.y2) <= y_most
    )


def _frame_in_words(frame: FrameName, picture: PictureFile) -> str:
    x_most, y_most = SIDES[frame] or picture.width, SIDES[frame] or picture.height
    unit = "in pixels, " if SIDES[frame] is None else ""
    decimals = ", with three decimals" if SIDES[frame] == 1 else ", as whole numbers"
    return (
        f"Coordinates are {unit}x from 0 at the left edge of the picture to {x_most:g} at its right edge, y from 0 at "
        f"its upper edge to {y_most:g} at its lower edge{decimals}."
    )


def _pointing(masks: Sequence[np.ndarray], *, frame: FrameName) -> str:
    """What a question is followed by that speaks of masks."""
    if not masks:
        return ""
    digits = 3 if SIDES[frame] == 1 else 0
    boxes = []
    for mask in masks:
        x1, y1, x2, y2 = (f"{value:.{digits}f}" for value in mask_box(mask, frame=frame))
        boxes.append(f"<box>({x1},{y1}),({x2},{y2})</box>")
    return f" (The question speaks of what is in {' and '.join(boxes)}.)"


def _boxes_inside(text: str) -> list[Box]:
    """The boxes between a pair of tags: four numbers each, with any brackets; none where anything else is there."""
    if _BETWEEN_NUMBERS.fullmatch(_NUMBER.sub("", text)) is None:
        return []
    numbers = [float(number.replace("−", "-")) for number in _NUMBER.findall(text)]
    if len(numbers) % 4:
        return []
    return [Box(*numbers[start : start + 4]) for start in range(0, len(numbers), 4)]


def _reading_of(words: str, *, has_boxes: bool, has_unreadable: bool) -> Reading:
    if has_boxes:
        return "boxes"
    if _NOTHING.search(words):
        return "none stated"
    return "unreadable" if has_unreadable or _BARE_BOX.search(words) else "no box"
