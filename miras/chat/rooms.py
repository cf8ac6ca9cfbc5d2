"""Who talks with whom: the dialogues of each browser, bounded in number and memory, never another's."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from miras.chat.config import ChatLimits
from miras.errors import DataError
from miras.model.records import Response
from miras.model.talk import mask_name
from miras.open_dialogue import OpenDialogue, Target

MAX_TITLE_CHARACTERS = 80
_BYTES_PER_PIXEL = 3


class NotFoundError(DataError):
    """There is no such dialogue, turn or target in this browser's session."""


class BusyError(DataError):
    """The dialogue is being answered."""


@dataclass(frozen=True)
class Corrected:
    """An answer as a person put it right."""

    text: str
    """With a `{target}` slot for each of its targets."""
    phrases: tuple[str, ...]
    masks: tuple[np.ndarray, ...]
    """Boolean (H, W), none empty."""
    sources: tuple[int | None, ...]
    """Which of the targets before each was made of; None: of none."""


@dataclass
class Room:
    """One dialogue on the page: the same picture and questions for one model, or for two side by side."""

    title: str
    """Name of the picture's file, as text to show."""
    talks: dict[int, OpenDialogue]
    """Number of the model -> its dialogue."""
    room_id: str = field(default_factory=lambda: secrets.token_hex(8))
    corrected: dict[tuple[int, int], Response] = field(default_factory=dict)
    """(model, turn) of every answer that a person put right -> what the model had said."""
    is_busy: bool = False
    """Whether a question is being answered."""

    @property
    def first(self) -> OpenDialogue:
        """Any of its dialogues."""
        return next(iter(self.talks.values()))

    @property
    def num_turns(self) -> int:
        """Questions so far."""
        return len(self.first.state.said)

    @property
    def num_bytes(self) -> int:
        """Memory of its picture, of which each model has its own."""
        return len(self.talks) * self.first.picture.width * self.first.picture.height * _BYTES_PER_PIXEL

    def check_free(self) -> None:
        """Raises a BusyError while a question is being answered."""
        if self.is_busy:
            raise BusyError("This dialogue is being answered. Wait for the end, or stop the answer first.")

    def undo(self) -> None:
        """Takes back the last turn.

        Raises:
            DataError: there is none, or one is being answered.
        """
        self.check_free()
        last = self.num_turns - 1
        for talk in self.talks.values():
            talk.undo()
        self.corrected = {place: value for place, value in self.corrected.items() if place[1] < last}

    def branch(self) -> Room:
        """Another dialogue with the same turns."""
        self.check_free()
        talks = {number: talk.branch() for number, talk in self.talks.items()}
        return Room(self.title, talks, corrected=dict(self.corrected))

    def mask(self, model: int, turn: int, target: int) -> np.ndarray:
        """What a target of an answer covers, as corrected where it was.

        Raises:
            NotFoundError: there is no such target.
        """
        phrases_and_masks = self.targets(model, turn)
        if not 0 <= target < len(phrases_and_masks):
            raise NotFoundError(f"Answer {turn + 1} has no mask {target + 1}.")
        return phrases_and_masks[target][1]

    def own_targets(self, model: int, turn: int) -> dict[str, int]:
        """Names of the masks of an answer -> which target each is."""
        return {mask_name(mask): number for number, (_, mask) in enumerate(self.targets(model, turn)) if mask.any()}

    def targets(self, model: int, turn: int) -> list[tuple[str, np.ndarray]]:
        """Phrase and mask of each target of an answer, as corrected where it was.

        Raises:
            NotFoundError: there is no such answer.
        """
        if model not in self.talks or not 0 <= turn < self.num_turns:
            raise NotFoundError(f"There is no answer {turn + 1} of model {model + 1} in this dialogue.")
        return [(group.phrase, group.mask) for group in self.talks[model].state.said[turn].response.groups]

    @contextmanager
    def put_right(self, model: int, turn: int, better: Corrected) -> Iterator[None]:
        """Puts an answer right in what the model remembers; questions about its masks follow.

        To be held while the correction is saved: where that fails, the dialogue is as before.
        """
        before, corrected = {number: talk.state.said for number, talk in self.talks.items()}, dict(self.corrected)
        response = before[model][turn].response
        sources = zip(better.sources, better.masks, strict=True)
        changed = {mask_name(response.groups[at].mask): mask for at, mask in sources if at is not None}
        try:
            targets = [Target(*named, 1.0) for named in zip(better.phrases, better.masks, strict=True)]
            self.talks[model].correct(turn, better.text, targets)
            for talk in self.talks.values():
                talk.exchange_masks(changed)
            self.corrected.setdefault((model, turn), response)
            yield
        except BaseException:
            for number, talk in self.talks.items():
                talk.state.said = before[number]
            self.corrected = corrected
            raise


class Rooms:
    """All dialogues of all browsers."""

    def __init__(self, limits: ChatLimits, *, forget: Callable[[Room], object]) -> None:
        """`forget`: is told of every dialogue that is given up."""
        self._limits, self._forget = limits, forget
        self._sessions: OrderedDict[str, OrderedDict[str, Room]] = OrderedDict()
        self._lock = threading.RLock()  # requests run in several threads

    def open_session(self, wanted: str | None) -> str:
        """The session of this name if there is one, else a new name that cannot be guessed."""
        with self._lock:
            if wanted is not None and wanted in self._sessions:
                self._sessions.move_to_end(wanted)
                return wanted
            return self._new_session()

    def _new_session(self) -> str:
        name = secrets.token_urlsafe(32)
        self._sessions[name] = OrderedDict()
        others = sorted((key for key in self._sessions if key != name), key=lambda key: bool(self._sessions[key]))
        for key in others[: max(0, len(self._sessions) - self._limits.max_sessions)]:  # those without dialogues first
            for room in self._sessions.pop(key).values():
                self._forget(room)
        return name

    def of(self, session: str) -> list[Room]:
        """The dialogues of a browser, the latest used last."""
        with self._lock:
            return list(self._sessions.get(session, {}).values())

    def get(self, session: str, room_id: str) -> Room:
        """A dialogue of this browser.

        Raises:
            NotFoundError: it has none of this name.
        """
        with self._lock:
            rooms = self._sessions.get(session, OrderedDict[str, Room]())
            if room_id in rooms:
                rooms.move_to_end(room_id)
                return rooms[room_id]
        raise NotFoundError(
            "This dialogue is no longer here: the server was started anew, or it made room for others. "
            "Begin a new one, or load a saved one."
        )

    def add(self, session: str, room: Room) -> Room:
        """Keeps a new dialogue; the ones not used for longest go where there are too many.

        Raises:
            DataError: the memory for pictures is taken by dialogues in use.
        """
        with self._lock:
            rooms = self._sessions.setdefault(session, OrderedDict())
            rooms[room.room_id] = room
            for key in [key for key, other in rooms.items() if other is not room and not other.is_busy]:
                if len(rooms) <= self._limits.max_dialogues:
                    break
                self._forget(rooms.pop(key))
            self._make_room(session, room)
        return room

    def remove(self, session: str, room: Room) -> None:
        """Ends a dialogue."""
        room.check_free()
        with self._lock:
            self._sessions.get(session, OrderedDict[str, Room]()).pop(room.room_id, None)
        self._forget(room)

    def _make_room(self, session: str, room: Room) -> None:
        """Frees pictures, those of the browser not seen for longest first."""
        most = self._limits.picture_memory_gb * 1e9
        for rooms in list(self._sessions.values()):
            for key in list(rooms):
                if self._num_bytes() <= most:
                    return
                if rooms[key] is not room and not rooms[key].is_busy:
                    self._forget(rooms.pop(key))
        if self._num_bytes() > most:
            self._sessions[session].pop(room.room_id, None)
            raise DataError("The server has no memory left for this picture. Try a smaller one, or try again later.")

    def _num_bytes(self) -> int:
        pictures = {
            id(room.first.picture): room.num_bytes for rooms in self._sessions.values() for room in rooms.values()
        }
        return sum(pictures.values())  # branches share theirs


def title_of(file_name: str) -> str:
    """The name of a file to show: without control characters and not too long."""
    visible = "".join(sign for sign in file_name if unicodedata.category(sign)[0] != "C")
    name = " ".join(visible.replace("\\", "/").rsplit("/", 1)[-1].split())
    return name[:MAX_TITLE_CHARACTERS] or "picture"
