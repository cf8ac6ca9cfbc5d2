"""A request as it goes to the server, and the server's reply: OpenAI's chat completions.

A request's key is the hash of all that can change the answer, and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.pictures import PictureFacts, data_url, picture_facts
from miras.llm.records import PlainText, Prompt
from miras.llm.schema import response_format, schema_in_words

FORM = 1  # of the key; another one makes all cached answers unreachable


@dataclass(frozen=True)
class Fault:
    """A former answer and what was wrong with it."""

    answer: str
    message: str


@dataclass(frozen=True)
class Request:
    """One call."""

    prompt: Prompt
    model: ModelConfig
    max_answer_tokens: int
    faults: tuple[Fault, ...]
    """Of this prompt's former answers."""
    picture: PictureFacts | None
    key: str
    """64 hexadecimal digits."""


class _Reported(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Message(_Reported):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Reported):
    message: _Message
    finish_reason: str | None = None


class _Tokens(_Reported):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(_Reported):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Tokens | None = None


@dataclass(frozen=True)
class Reply:
    """What the model said."""

    text: str
    refusal: str
    """Why it declined; empty where it did not."""
    is_cut: bool
    """It was stopped at its longest length."""
    prompt_tokens: int | None
    """As the server counted; None where it did not."""
    answer_tokens: int | None


def make_request(
    prompt: Prompt, model: ModelConfig, *, max_answer_tokens: int, faults: tuple[Fault, ...] = ()
) -> Request:
    """The request with its key.

    Raises:
        DataError: the prompt's picture is missing or unusable.
    """
    picture = None if prompt.picture is None else picture_facts(prompt.picture)
    decisive: dict[str, Any] = {
        "form": FORM,
        "model": model.model,
        "temperature": model.temperature,
        "seed": model.seed,
        "max_answer_tokens": max_answer_tokens,
        "system": _system(prompt, model),
        "text": prompt.text,
        "response_format": response_format(prompt.answer, model),
        "picture": None if picture is None else picture.sha256,
        "faults": [[fault.answer, fault.message] for fault in faults],
    }
    if prompt.history:  # left out where there is none, as the next: keys of answers paid for before stay as they were
        decisive["history"] = [list(turn) for turn in prompt.history]
    if prompt.draw:
        decisive["draw"] = prompt.draw
    written = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(written.encode("ascii")).hexdigest()
    return Request(prompt, model, max_answer_tokens, faults, picture, key)


def body(request: Request, service: ServiceConfig) -> dict[str, Any]:
    """The request as JSON.

    Raises:
        DataError: the picture went away after the key was made.
    """
    model = request.model
    # OpenAI's newer models know only the newer name, many compatible servers only the older one.
    limit = "max_tokens" if service.base_url else "max_completion_tokens"
    made: dict[str, Any] = {"model": model.model, "messages": _messages(request), limit: request.max_answer_tokens}
    if model.temperature is not None:
        made["temperature"] = model.temperature
    if model.seed is not None:
        made["seed"] = model.seed + request.prompt.draw
    form = response_format(request.prompt.answer, model)
    if form is not None:
        made["response_format"] = form
    return made


def texts(request: Request) -> list[str]:
    """All text that the model has to read: messages and schema, without the picture."""
    found = [request.prompt.text, _system(request.prompt, request.model)]
    found += [text for turn in request.prompt.history for text in turn]
    if request.faults:
        found += [request.faults[-1].answer, _ask_again(request.prompt, request.faults[-1])]
    form = response_format(request.prompt.answer, request.model)
    return found if form is None else [*found, json.dumps(form)]


def read_reply(response: Any) -> Reply:
    """The reply in a chat completion.

    Raises:
        ValueError: it is none.
    """
    try:
        completion = _Completion.model_validate(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"not a chat completion: {where}: {first['msg']}") from None
    choice = completion.choices[0]
    refusal = choice.message.refusal or ""
    if choice.finish_reason == "content_filter":
        refusal = refusal or "stopped by the server's content filter"
    return Reply(
        text=(choice.message.content or "").encode("utf-8", "replace").decode("utf-8"),  # lone surrogates
        refusal=refusal.encode("utf-8", "replace").decode("utf-8"),
        is_cut=choice.finish_reason == "length",
        prompt_tokens=None if completion.usage is None else completion.usage.prompt_tokens,
        answer_tokens=None if completion.usage is None else completion.usage.completion_tokens,
    )


def _system(prompt: Prompt, model: ModelConfig) -> str:
    if model.schema_support == "json_schema" or prompt.answer is PlainText:
        return prompt.system
    return f"{prompt.system}\n\n{schema_in_words(prompt.answer)}"


def _messages(request: Request) -> list[dict[str, Any]]:
    prompt = request.prompt
    messages: list[dict[str, Any]] = [{"role": "system", "content": _system(prompt, request.model)}]
    for turn in prompt.history:
        messages.append({"role": "user", "content": turn.question})
        messages.append({"role": "assistant", "content": turn.answer})
    messages.append({"role": "user", "content": prompt.text})
    if prompt.picture is not None:
        assert request.picture is not None
        address = data_url(prompt.picture, request.picture)
        first = messages[1]
        first["content"] = [
            {"type": "text", "text": first["content"]},
            {"type": "image_url", "image_url": {"url": address}},
        ]
    if request.faults:
        last = request.faults[-1]
        messages.append({"role": "assistant", "content": last.answer})
        messages.append({"role": "user", "content": _ask_again(prompt, last)})
    return messages


def _ask_again(prompt: Prompt, fault: Fault) -> str:
    form = "" if prompt.answer is PlainText else " Write one JSON object of the form asked for and nothing else."
    return f"Your answer cannot be used: {fault.message}\nGive the whole answer once more, corrected.{form}"
