"""Requests of OpenAI's chat completions: what is taken, and what is refused rather than overlooked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from miras.dialogue.records import Frozen, Rle
from miras.errors import DataError
from miras.model.decoding import MAX_NEW_TOKENS
from miras.open_dialogue import check_question
from miras.serve.config import ServeConfig
from miras.serve.dialogues import Asked, PastTurn, Question, Target
from miras.serve.pictures import SentPicture, bytes_of, decoded
from miras.serve.refusals import RefusedError

# Wishes about sampling and bookkeeping: the answer is always the likeliest one, so they change nothing.
WITHOUT_EFFECT = {
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
}

Body = TypeVar("Body", bound=BaseModel)


class _TextPart(Frozen):
    type: Literal["text"]
    text: str


class _Address(Frozen):
    url: str
    detail: str | None = None


class _PicturePart(Frozen):
    type: Literal["image_url"]
    image_url: _Address


class _MaskPart(Frozen):
    type: Literal["mask"]
    mask: Rle


_Part = Annotated[_TextPart | _PicturePart | _MaskPart, Field(discriminator="type")]


def _as_parts(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


_Parts = Annotated[tuple[_Part, ...], BeforeValidator(_as_parts)]


class _UserMessage(Frozen):
    role: Literal["user"]
    content: _Parts
    name: str | None = None
    refers_to: tuple[int, ...] = ()


class _Marks(BaseModel):
    """As the server sent it; what else it said of the answer is not needed again."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    targets: tuple[Target, ...]


class _AssistantMessage(BaseModel):
    """Clients give back many empty fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["assistant"]
    content: Annotated[tuple[_TextPart, ...], BeforeValidator(_as_parts)]
    miras: _Marks | None = None


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    include_usage: bool = False


class ChatRequest(BaseModel):
    """Body of `POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str
    messages: tuple[Annotated[_UserMessage | _AssistantMessage, Field(discriminator="role")], ...] = Field(min_length=1)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    n: Literal[1] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


def read_body(kind: type[Body], content: bytes) -> Body:
    """A request's JSON.

    Raises:
        RefusedError: not JSON, or not of this form; the first fault is named.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = (
            f"{where}: {first['msg']}." if where else f"The request is no JSON of the expected form: {first['msg']}."
        )
        raise RefusedError("invalid_request", message, where=where) from None


def read_chat(content: bytes) -> ChatRequest:
    """A chat request whose every wish can be met.

    Raises:
        RefusedError: it is not of the expected form, or asks for what this model does not do.
    """
    chat = read_body(ChatRequest, content)
    wishes = [name for name, value in (chat.model_extra or {}).items() if value is not None]
    for name in wishes:
        if name not in WITHOUT_EFFECT:
            raise RefusedError("invalid_request", f"{name[:60]}: this server has no such setting.", where=name[:60])
    for name in ("max_tokens", "max_completion_tokens"):
        limit = getattr(chat, name)
        if limit is not None and limit < MAX_NEW_TOKENS:
            message = f"{name}: answers have up to {MAX_NEW_TOKENS} tokens and are not cut shorter. Leave it out."
            raise RefusedError("invalid_request", message, where=name)
    return chat


def asked_by(chat: ChatRequest, config: ServeConfig) -> Asked:
    """The dialogue of a chat request, its picture decoded.

    Raises:
        RefusedError: no alternating dialogue about one picture, or something in it cannot be taken.
    """
    messages = chat.messages
    for number, message in enumerate(messages):
        expected = ("user", "assistant")[number % 2]
        if message.role != expected:
            text = (
                f"messages.{number}: found role {message.role}, expected {expected}; questions and answers alternate."
            )
            raise RefusedError("invalid_request", text, where="messages")
    if len(messages) % 2 == 0:
        raise RefusedError(
            "invalid_request", "messages: the last one must be a question (role user).", where="messages"
        )
    check_turns(len(messages) // 2 + 1, config)
    questions = [
        _question(message, number, config)
        for number, message in enumerate(messages)
        if isinstance(message, _UserMessage)
    ]
    answers = [message for message in messages if isinstance(message, _AssistantMessage)]
    past = tuple(
        PastTurn(question, _answer(answer, 2 * number + 1, config), answer.miras.targets if answer.miras else None)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=False))
    )
    picture = _picture(messages, config)
    return Asked(picture.pixels, picture.name, past, questions[-1])


def check_turns(count: int, config: ServeConfig) -> None:
    """Raises RefusedError where a dialogue has too many questions."""
    if count > config.max_turns:
        message = f"The dialogue has {count} questions; at most {config.max_turns} are taken. Begin a new one."
        raise RefusedError("too_large", message, where="messages")


def check_text(text: str, config: ServeConfig, *, where: str) -> str:
    """A question without outer blanks; raises RefusedError where it is empty or too long."""
    most = config.max_question_characters
    if len(text) > most:
        raise RefusedError("too_large", f"{where}: {len(text):,} characters; at most {most:,} are taken.", where=where)
    try:
        return check_question(text)
    except DataError as error:
        raise RefusedError("cannot_be_taken", f"{where}: {error}", where=where) from None


def _question(message: _UserMessage, number: int, config: ServeConfig) -> Question:
    texts = [part.text for part in message.content if isinstance(part, _TextPart)]
    masks = tuple(part.mask for part in message.content if isinstance(part, _MaskPart))
    return Question(check_text("\n".join(texts), config, where=f"messages.{number}.content"), message.refers_to, masks)


def _answer(message: _AssistantMessage, number: int, config: ServeConfig) -> str:
    text, most = "".join(part.text for part in message.content), config.max_question_characters
    if len(text) > most:
        message_text = f"messages.{number}.content: {len(text):,} characters; at most {most:,} are taken."
        raise RefusedError("too_large", message_text, where="messages")
    return text


def _picture(messages: Sequence[_UserMessage | _AssistantMessage], config: ServeConfig) -> SentPicture:
    """The one picture of a dialogue; it may be sent again with later questions."""
    found: dict[bytes, str] = {}
    for number, message in enumerate(messages):
        for part in message.content:
            if isinstance(part, _PicturePart):
                where = f"messages.{number}.image_url"
                if not found and number:
                    raise RefusedError("invalid_request", f"{where}: the picture belongs to the first question.")
                found.setdefault(bytes_of(part.image_url.url, where=where), where)
    if len(found) != 1:
        text = f"messages: found {len(found)} different pictures, expected one, as an image_url of the first question."
        raise RefusedError("invalid_request", text, where="messages")
    ((content, where),) = found.items()
    return decoded(content, where=where, max_megapixels=config.max_megapixels)


def json_bytes(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
