"""Answers in the form of OpenAI's chat completions, whole or as a stream of chunks."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from miras.serve.asking import ClientGoneError, Delta
from miras.serve.engine import Answered, Progress
from miras.serve.messages import json_bytes
from miras.serve.refusals import RefusedError


def completion(answered: Answered, *, model: str) -> dict[str, Any]:
    """The body of a whole answer."""
    message = {"role": "assistant", "content": answered.text, "refusal": None, "miras": marks(answered)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answered)}
    return _head("chat.completion", model) | {"choices": [choice], "usage": _usage(answered)}


def marks(answered: Answered) -> dict[str, Any]:
    """The field `miras`: what the answer points at, and which earlier answers were read without their marks."""
    return {
        "targets": [target.model_dump() for target in answered.targets],
        "turns_without_marks": list(answered.without_marks),
    }


class ChunkStream(Response):
    """Server-sent events: a chunk for what is new in the text, the last one with the marks."""

    media_type = "text/event-stream"

    def __init__(
        self,
        said: AsyncGenerator[Progress | Answered, None],
        first: Progress | Answered,
        *,
        model: str,
        with_usage: bool,
        end: Callable[[int], None],
    ) -> None:
        """`said`: to be read on after `first`, and closed; `end`: is told the status when all is over."""
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._said, self._first, self._with_usage, self._end = said, first, with_usage, end
        self._head, self._delta = _head("chat.completion.chunk", model), Delta()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer as it comes; a client that goes away ends it."""
        status = 499
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send(send, self._chunk({"role": "assistant", "content": ""}))
            status = await self._answer(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (ClientGoneError, OSError):
            status = 499
        finally:
            await self.close()
            self._end(status)

    async def close(self) -> None:
        """Frees the question's place."""
        await self._said.aclose()

    async def _answer(self, send: Send) -> int:
        try:
            await self._event(self._first, send)
            async for event in self._said:
                await self._event(event, send)
        except RefusedError as refusal:
            await self._send(send, refusal.body())
            return refusal.status
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        return 200

    async def _event(self, event: Progress | Answered, send: Send) -> None:
        is_whole = isinstance(event, Answered)
        piece = self._delta.next(event.text, is_whole=is_whole)
        if piece:
            await self._send(send, self._chunk({"content": piece}))
        if isinstance(event, Answered):
            await self._send(send, self._chunk({"miras": marks(event)}, reason=_reason(event)))
            if self._with_usage:
                await self._send(send, self._head | {"choices": [], "usage": _usage(event)})

    def _chunk(self, delta: Mapping[str, Any], *, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": reason}
        return self._head | {"choices": [choice]}

    async def _send(self, send: Send, value: Mapping[str, Any]) -> None:
        await send({"type": "http.response.body", "body": b"data: " + json_bytes(value) + b"\n\n", "more_body": True})


async def first_of(said: AsyncGenerator[Progress | Answered, None]) -> Progress | Answered:
    """The first event; where there is none, `said` is closed and its error raised."""
    try:
        return await anext(said)
    except BaseException:
        with contextlib.suppress(Exception):
            await said.aclose()
        raise


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _reason(answered: Answered) -> str:
    return "length" if answered.is_cut else "stop"


def _usage(answered: Answered) -> dict[str, int]:
    total = answered.prompt_tokens + answered.answer_tokens
    return {
        "prompt_tokens": answered.prompt_tokens,
        "completion_tokens": answered.answer_tokens,
        "total_tokens": total,
    }
