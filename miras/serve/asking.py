"""From a web request to the engine and back: events of an answer, a time limit, and clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from starlette.types import Receive

from miras.serve.dialogues import Asked
from miras.serve.engine import Answered, Engine, Event, Job, Progress
from miras.serve.refusals import RefusedError

UNSETTLED_CHARACTERS = 5  # a space, and the longest ending that tokenizers join to the word before: 've


class ClientGoneError(Exception):
    """Nobody is there any more to be answered."""


@dataclass
class Delta:
    """An answer in pieces that are only ever added to.

    What the next tokens may still change is held back: half a character, and a short last word, which may lose the
    space before it ("do", "n't").
    """

    sent: str = field(default="")

    def next(self, text: str, *, is_whole: bool = False) -> str:
        """What to send of the answer so far; empty: nothing yet."""
        sure = text if is_whole else _settled(text)
        if not sure.startswith(self.sent):
            return ""  # a word that was sent is spelled anew; the end settles it
        piece, self.sent = sure[len(self.sent) :], sure
        return piece


def _settled(text: str) -> str:
    whole = text.rstrip("\ufffd")
    space = whole.rfind(" ", max(0, len(whole) - UNSETTLED_CHARACTERS))
    return whole if space < 0 else whole[:space]


async def events(
    engine: Engine, asked: Asked, *, arrived: float, deadline: float, timeout_s: float, receive: Receive
) -> AsyncGenerator[Progress | Answered, None]:
    """What the engine says to a question, the whole answer last. To be closed: that frees its place.

    Args:
        engine: answers.
        asked: dialogue and question.
        arrived: when, by `time.perf_counter`.
        deadline: when it is too late, by the event loop's clock.
        timeout_s: the limit that led to it, for the message.
        receive: of the request, its body read.

    Raises:
        RefusedError: what the engine refuses, or the time is over.
        ClientGoneError: the client closed the connection.
    """
    loop, inbox = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def tell(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: the server is going down
            loop.call_soon_threadsafe(inbox.put_nowait, event)

    job = Job(asked, tell, arrived)
    gone = asyncio.create_task(_until_gone(receive))
    try:
        engine.put(job)
        while True:
            event = await _next(inbox, gone, deadline, timeout_s)
            if isinstance(event, RefusedError):
                raise event
            yield event
            if isinstance(event, Answered):
                return
    finally:
        engine.leave(job)
        gone.cancel()


async def answer(
    engine: Engine, asked: Asked, *, arrived: float, deadline: float, timeout_s: float, receive: Receive
) -> Answered:
    """The whole answer; arguments and errors as of `events`."""
    said = events(engine, asked, arrived=arrived, deadline=deadline, timeout_s=timeout_s, receive=receive)
    async with contextlib.aclosing(said):
        async for event in said:
            if isinstance(event, Answered):
                return event
    raise AssertionError("events end with an answer")


async def _next(inbox: asyncio.Queue[Event], gone: asyncio.Task[None], deadline: float, timeout_s: float) -> Event:
    got = asyncio.create_task(inbox.get())
    try:
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        done, _ = await asyncio.wait({got, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        got.cancel()
    if gone in done:
        raise ClientGoneError
    if got not in done:
        raise RefusedError("timeout", f"No answer within {timeout_s:g} s. Try again later, or ask less at a time.")
    return got.result()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
