"""The one thread that the models run in. Answers come as events, word by word."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from miras.chat.config import ChatLimits
from miras.chat.rooms import Room
from miras.errors import DataError, MirasError
from miras.model.talk import TalkMemory
from miras.open_dialogue import OpenDialogue

log = logging.getLogger(__name__)

Event = dict[str, Any]
Put = Callable[[Event], None]
OUR_FAULT = "The model failed on this question; the dialogue is as it was before. The server's log says why."


class BusyServerError(DataError):
    """Too many questions wait."""


@dataclass(frozen=True)
class Reference:
    """An earlier mask that a question speaks of."""

    model: int
    turn: int
    target: int
    mask: np.ndarray
    """Boolean (H, W)."""


class Worker:
    """Answers one question at a time, in the order they came."""

    def __init__(self, limits: ChatLimits) -> None:
        self._limits = limits
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._memory = TalkMemory(int(limits.memory_gb * 1e9))
        self._waiting = 0

    def close(self) -> None:
        """Waits for the answer in progress; what waits behind it is given up."""
        self._executor.shutdown(cancel_futures=True)

    def forget(self, room: Room) -> None:
        """Frees what the models keep of a dialogue."""
        talks = [dialogue.state for dialogue in room.talks.values()]

        def drop() -> None:
            for talk in talks:
                self._memory.forget(talk)
                talk.prefix = None  # the rest may be shared with a branch; it goes with the last one that holds it

        self._executor.submit(drop)

    def check_room(self) -> None:
        """Raises a BusyServerError where too many questions wait."""
        if self._waiting > self._limits.max_queue:  # one of them is being answered
            raise BusyServerError(f"{self._waiting - 1} questions wait for the model. Try again in a moment.")

    async def answer(
        self, room: Room, question: str, references: Sequence[Reference], *, names: Mapping[int, str]
    ) -> AsyncIterator[Event]:
        """The answers of all models of a dialogue to a question.

        Events: `waiting` with the number before, `text` with the text so far, then `done` or `error`. Only with `done`
        has the dialogue changed. A reader who goes away stops the answer.

        Args:
            room: free; it is busy until the model has really stopped.
            question: as it was typed.
            references: earlier masks that it speaks of.
            names: of the models, for messages.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        gone = threading.Event()

        def put(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def ended(_: Future[None]) -> None:
            loop.call_soon_threadsafe(release)

        def release() -> None:
            room.is_busy = False
            self._waiting -= 1
            events.put_nowait(None)

        room.is_busy = True
        before, self._waiting = self._waiting, self._waiting + 1
        future = self._executor.submit(self._work, room, question, references, names, put, gone)
        future.add_done_callback(ended)
        try:
            if before:
                yield {"kind": "waiting", "before": before}
            while (event := await events.get()) is not None:
                yield event
        finally:
            gone.set()
            future.cancel()

    def _work(
        self,
        room: Room,
        question: str,
        references: Sequence[Reference],
        names: Mapping[int, str],
        put: Put,
        gone: threading.Event,
    ) -> None:
        answered: dict[int, OpenDialogue] = {}
        for model, dialogue in room.talks.items():
            branch = dialogue.branch()
            try:
                refer(branch, model, references)
                with closing(cast("Generator[str]", branch.stream(question))) as texts:
                    for text in texts:
                        if gone.is_set():
                            return
                        put({"kind": "text", "model": model, "text": text})
            except MirasError as error:
                who = f"{names[model]}: " if len(room.talks) > 1 else ""
                put({"kind": "error", "message": f"{who}{error}"})
                return
            except Exception:  # a fault of ours must not end the thread, nor show a traceback
                log.exception("answer failed model=%s", names[model])
                put({"kind": "error", "message": OUR_FAULT})
                return
            answered[model] = branch
        if gone.is_set():
            return
        for dialogue in room.talks.values():
            self._memory.forget(dialogue.state)
        room.talks = answered
        self._memory.used([dialogue.state for dialogue in answered.values()])
        put({"kind": "done", "turn": room.num_turns - 1})


def refer(dialogue: OpenDialogue, model: int, references: Sequence[Reference]) -> None:
    """Lets the next question speak of masks; another model's is pointed at.

    Raises:
        DataError: the model cannot speak of masks, or a mask is empty.
    """
    for reference in references:
        if reference.model == model:
            dialogue.refer(reference.turn, reference.target)
        else:
            dialogue.point(reference.mask)
