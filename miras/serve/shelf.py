"""What the server keeps between requests: the model's caches of dialogues, and the marks of answers.

A dialogue is found again by the hash of its picture and turns. What is kept is never trusted: keys and values know
which tokens they belong to, image tokens belong to the picture. So whoever sends the same dialogue gets the same
answer, and nobody gets anything of another one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from miras.model.talk import Kept, Talk, TalkMemory
from miras.serve.dialogues import Target

REMEMBERED_BYTES = 64 * 2**20  # of marks; an answer takes about a kilobyte


@dataclass(frozen=True)
class Found:
    """What is kept of a dialogue, or of its beginning."""

    holder: Talk | None
    """None: nothing."""
    turns: int
    """How many turns from the start are the same."""


class Shelf:
    """Caches of dialogues within a bound; the one that was not used for longest goes first."""

    def __init__(self, max_bytes: int) -> None:
        self.memory = TalkMemory(max_bytes)
        self._at: dict[str, Talk] = {}
        self._keys: dict[Talk, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, keys: Sequence[str]) -> Found:
        """The dialogue that has most turns in common.

        Args:
            keys: of the dialogue after 0, 1, ... turns.
        """
        for turns in range(len(keys) - 1, -1, -1):
            if keys[turns] in self._at:
                return Found(self._at[keys[turns]], turns)
        return Found(None, 0)

    def keep(self, talks: Sequence[tuple[Talk, Sequence[str]]]) -> None:
        """Takes up the caches of dialogues that were just answered, each with its keys; pictures are not kept."""
        holders = []
        for talk, keys in talks:
            self._forget_beginning(keys)
            holder = Talk(Image.new("RGB", (1, 1)), kept=talk.kept, prefix=talk.prefix)
            self._keys[holder] = tuple(keys)
            self._at.update(dict.fromkeys(keys, holder))
            holders.append(holder)
        self.memory.used([holder for holder in holders if holder in self._keys])  # two may be the same dialogue
        for holder in [holder for holder in self._keys if holder.prefix is None]:
            self._remove(holder)

    def clear(self) -> None:
        """Frees everything."""
        for holder in list(self._keys):
            self.memory.forget(holder)
            self._remove(holder)

    def _forget_beginning(self, keys: Sequence[str]) -> None:
        """Of a dialogue that went on, only the longer one is kept."""
        earlier = self._at.get(keys[-2])
        for holder in {self._at.get(keys[-1]), earlier}:
            if holder is not None and self._keys[holder][-1] in keys:
                self.memory.forget(holder)
                self._remove(holder)

    def _remove(self, holder: Talk) -> None:
        for key in self._keys.pop(holder):
            if self._at.get(key) is holder:
                del self._at[key]


class Remembered:
    """Marks of the model's own answers, for clients that do not give them back; within a bound."""

    def __init__(self, max_bytes: int = REMEMBERED_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._found: OrderedDict[str, tuple[Target, ...]] = OrderedDict()

    def get(self, key: str) -> tuple[Target, ...] | None:
        """The targets of an answer; None where it is not known."""
        if key in self._found:
            self._found.move_to_end(key)
        return self._found.get(key)

    def put(self, key: str, targets: tuple[Target, ...]) -> None:
        """To be told of every answer."""
        if key in self._found:
            self._bytes -= _size(self._found.pop(key))
        self._found[key] = targets
        self._bytes += _size(targets)
        while self._bytes > self._max_bytes:
            _, dropped = self._found.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(targets: Sequence[Target]) -> int:
    """Roughly, of memory."""
    return 200 + sum(500 + len(target.phrase) + len(target.mask.counts) for target in targets)


def holding(found: Found, picture: Image.Image) -> Talk:
    """A dialogue about the picture on top of what is kept; without anything, a new one."""
    if found.holder is None:
        return Talk(picture)
    kept: Kept = found.holder.kept
    return Talk(picture, kept=kept, prefix=found.holder.prefix)
