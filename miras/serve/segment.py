"""`POST /segment`: a picture and questions, as JSON or as a form, to texts and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from miras.dialogue.masks import decode
from miras.serve.config import ServeConfig
from miras.serve.dialogues import Question
from miras.serve.engine import Answered
from miras.serve.messages import check_text, check_turns, read_body
from miras.serve.pictures import SentPicture, bytes_of, decoded
from miras.serve.refusals import RefusedError
from miras.taking import mask_png

MAX_PARTS = 1000  # of a form
MAX_PART_HEAD_BYTES = 8192


@dataclass(frozen=True)
class SegmentRequest:
    """A picture and the questions of one dialogue about it."""

    picture: SentPicture
    questions: tuple[Question, ...]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    picture: str
    question: str | None = None
    questions: tuple[str, ...] | None = Field(default=None, min_length=1)
    refers_to: tuple[tuple[int, ...], ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> _Body:
        if (self.question is None) == (self.questions is None):
            raise ValueError("give either `question` or `questions`")
        if self.refers_to and len(self.refers_to) != len(self.texts):
            raise ValueError("refers_to needs a list for every question, [] for none")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        return self.questions or (self.question or "",)


def read_segment(content: bytes, kind: str, config: ServeConfig) -> SegmentRequest:
    """A request's picture and questions.

    Args:
        content: the body.
        kind: its content type.
        config: limits.

    Raises:
        RefusedError: not of the expected form, or something in it cannot be taken.
    """
    if kind.partition(";")[0].strip().lower() == "multipart/form-data":
        fields = form_fields(content, kind)
        pictures = [value for name, value in fields if name == "picture"]
        if len(pictures) != 1:
            text = f"picture: found {len(pictures)} parts of this name, expected one."
            raise RefusedError("invalid_request", text, where="picture")
        (file,), texts = pictures, _texts(fields)
        places: Sequence[tuple[int, ...]] = ()
    else:
        body = read_body(_Body, content)
        file, texts, places = bytes_of(body.picture, where="picture"), body.texts, body.refers_to
    check_turns(len(texts), config)
    checked = [check_text(text, config, where=f"question {number}") for number, text in enumerate(texts)]
    questions = tuple(
        Question(text, earlier) for text, earlier in zip(checked, places or [()] * len(checked), strict=True)
    )
    return SegmentRequest(decoded(file, where="picture", max_megapixels=config.max_megapixels), questions)


def form_fields(content: bytes, kind: str) -> list[tuple[str, bytes]]:
    """Name and content of every part of a form (RFC 7578); file names are not looked at.

    Raises:
        RefusedError: no form, or cut off.
    """
    head = Message()
    head["content-type"] = kind.encode("ascii", "replace").decode()
    boundary = head.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 70:
        raise RefusedError("invalid_request", "The form's content type names no boundary.")
    mark = b"\r\n--" + boundary.encode("ascii", "replace")
    first, *parts = (b"\r\n" + content).split(mark, MAX_PARTS + 2)
    if first or len(parts) < 2 or len(parts) > MAX_PARTS or not parts[-1].startswith(b"--"):
        raise RefusedError("invalid_request", "The form is damaged, cut off, or has too many parts.")
    return [_part(part) for part in parts[:-1]]


def _part(part: bytes) -> tuple[str, bytes]:
    head, blank, value = part.partition(b"\r\n\r\n")
    if not blank or len(head) > MAX_PART_HEAD_BYTES:
        raise RefusedError("invalid_request", "A part of the form has no head, or one that is too long.")
    fields = BytesHeaderParser().parsebytes(head.lstrip(b" \t\r\n"))
    name = fields.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise RefusedError("invalid_request", "A part of the form has no name.")
    return name, value


def _texts(fields: Sequence[tuple[str, bytes]]) -> tuple[str, ...]:
    known = ("picture", "question")
    unknown = next((name for name, _ in fields if name not in known), None)
    if unknown is not None:
        text = f"{unknown[:60]}: no such field; a form has `picture` once and `question` once or more."
        raise RefusedError("invalid_request", text)
    try:
        texts = tuple(value.decode("utf-8") for name, value in fields if name == "question")
    except UnicodeDecodeError:
        raise RefusedError("invalid_request", "question: no valid UTF-8.", where="question") from None
    if not texts:
        raise RefusedError("invalid_request", "question: no part of this name.", where="question")
    return texts


def found_json(request: SegmentRequest, answers: Sequence[Answered], *, model: str) -> dict[str, Any]:
    """All answers."""
    width, height = request.picture.pixels.size
    return {
        "model": model,
        "picture": {"width": width, "height": height},
        "answers": [
            {
                "question": question.text,
                "text": answered.text,
                "is_cut": answered.is_cut,
                "targets": [target.model_dump() for target in answered.targets],
            }
            for question, answered in zip(request.questions, answers, strict=True)
        ],
    }


def found_png(request: SegmentRequest, answers: Sequence[Answered]) -> bytes:
    """What the last answer marks, all together: 255 there, 0 elsewhere."""
    width, height = request.picture.pixels.size
    marked = np.zeros((height, width), bool)
    for target in answers[-1].targets:
        marked |= decode(target.mask)
    return mask_png(marked)
