"""One attempt at a call through the official client, and what a failure of it means.

The client's own retries are off: they cap a wait at 8 s, let nobody count them or check the budget between attempts,
and its time-out is for each read, so that a server that drips bytes holds a call for ever.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    OpenAIError,
)

from miras.errors import ConfigError, DataError
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.pace import retry_after_s
from miras.llm.wire import Request, body, read_reply

NOT_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "UnsupportedProtocol",
}  # of httpx: nothing reached a server
PASSING = {408, 409, 429}  # besides all of 500 and above
FILTER_CODES = {"content_filter", "content_policy_violation"}
MAX_TOLD = 300  # characters of a server's words in a message


@dataclass(eq=False)
class Passing(Exception):  # noqa: N818  # not an error for the user: the call is made again
    """The attempt failed in a way that may pass."""

    kind: str
    """Status, or "connection", "timeout", "bad_body"."""
    detail: str
    retry_after_s: float | None = None
    may_be_charged: bool = False
    """The request reached the server, and nobody knows what became of it."""


@dataclass(eq=False)
class Declined(Exception):  # noqa: N818  # becomes an outcome of its prompt
    """The server will not take this request, however often it is made."""

    detail: str
    is_filtered: bool


def open_client(service: ServiceConfig) -> AsyncOpenAI:
    """The official client.

    Raises:
        ConfigError: the variable with the key is not set, or the address is none.
    """
    key = "none"
    if service.api_key_variable:
        key = os.environ.get(service.api_key_variable, "").strip()
        if not key:
            raise ConfigError(
                f"{service.api_key_variable}: this environment variable is not set; it has to hold the key of "
                f"{address(service)}. Set it, or set api_key_variable to the name of the one that does "
                '("" for a server without keys).'
            )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{service.api_key_variable}: the key in it holds signs that no key has. Copy it again.")
    if service.base_url and not service.base_url.startswith(("http://", "https://")):
        raise ConfigError(f"base_url: expected an address with http:// or https://, found {service.base_url!r}.")
    try:
        return AsyncOpenAI(api_key=key, base_url=service.base_url or None, max_retries=0, timeout=service.timeout_s)
    except (OpenAIError, ValueError) as error:
        raise ConfigError(f"base_url: {service.base_url!r} cannot be used: {error}") from None


def address(service: ServiceConfig) -> str:
    """Where calls go, for messages."""
    return service.base_url or os.environ.get("OPENAI_BASE_URL") or "OpenAI"


async def attempt(client: AsyncOpenAI, request: Request, service: ServiceConfig) -> dict[str, Any]:
    """The server's response: a chat completion.

    Raises:
        Passing: it may work another time.
        Declined: this request will never be taken.
        ConfigError: no request will be taken.
    """
    try:
        made = body(request, service)
    except DataError as error:
        raise Declined(str(error), is_filtered=False) from None
    try:
        completions = client.chat.completions  # imported at its first use, which may take longer than a call may
        async with asyncio.timeout(service.timeout_s):
            response = await completions.with_raw_response.create(**made)
            text = response.text
    except TimeoutError:
        raise Passing("timeout", f"no answer within {service.timeout_s:g} s", may_be_charged=True) from None
    except OpenAIError as error:
        raise explain(error, request.model, service, secret=client.api_key) from None
    except UnicodeEncodeError as error:
        raise Declined(f"the prompt is not valid Unicode: {error}", is_filtered=False) from None
    try:
        loaded = json.loads(text)
        read_reply(loaded)
    except (ValueError, RecursionError) as error:
        raise Passing("bad_body", f"the server's response is {str(error)[:MAX_TOLD]}", may_be_charged=True) from None
    assert isinstance(loaded, dict)
    return loaded


def explain(
    error: OpenAIError, model: ModelConfig, service: ServiceConfig, *, secret: str
) -> Passing | Declined | ConfigError:
    """What a failure of the client means."""
    if isinstance(error, APITimeoutError):
        return Passing("timeout", f"no answer within {service.timeout_s:g} s", may_be_charged=_was_sent(error))
    if isinstance(error, APIConnectionError):
        cause = error.__cause__
        said = f"{type(cause).__name__}: {cause}" if cause else str(error)
        return Passing("connection", _told(said, secret), may_be_charged=_was_sent(error))
    if not isinstance(error, APIStatusError):
        return Passing("bad_body", _told(str(error), secret), may_be_charged=True)
    status, said = error.status_code, _told(error.message, secret)
    where = address(service)
    if status == 401:  # its words are left out: servers repeat parts of the key in them
        variable = service.api_key_variable
        cure = f"Set {variable} to a valid one." if variable else "Set api_key_variable to the variable that holds one."
        return ConfigError(f"{where}: the key was not accepted (401). {cure} All answers so far are kept.")
    if status == 403:
        return ConfigError(
            f"{where}: access to {model.model} was denied (403): {said}. Check the rights of the key in "
            f"{service.api_key_variable or 'api_key_variable'}. All answers so far are kept."
        )
    if status == 404:
        return ConfigError(
            f"{where}: not found (404): {said}. Check model ({model.model!r}) and base_url; an address usually ends "
            "in /v1."
        )
    if status == 429 and error.code == "insufficient_quota":
        return ConfigError(f"{where}: the account has no credit left: {said}. All answers so far are kept.")
    if status in PASSING or status >= 500:
        return Passing(str(status), f"{status}: {said}", retry_after_s(error.response.headers))
    return Declined(f"{where} does not take this request ({status}): {said}", error.code in FILTER_CODES)


def _was_sent(error: APIConnectionError) -> bool:
    return type(error.__cause__).__name__ not in NOT_SENT


def _told(words: str, secret: str) -> str:
    shown = " ".join(words.split()).replace(secret, "<key>") if len(secret) > 4 else " ".join(words.split())
    return shown[:MAX_TOLD]
