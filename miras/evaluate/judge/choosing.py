"""A seeded, fixed choice of dialogues, spread over the pictures, in memory that does not grow with the benchmark."""

from __future__ import annotations

import bisect
import hashlib
import heapq
from typing import NamedTuple


class Choice(NamedTuple):
    """A dialogue's place in the seeded order, and which it is."""

    place: str
    dialogue_id: str
    image_id: str


class Chooser:
    """Keeps at most `limit` dialogues: one of every picture before a second of any, in seeded order.

    The choice depends on the ids and the seed alone, not on the order in which dialogues are added, and stays the same
    when turns of a dialogue are added one by one. At most `limit` squared dialogues are held.
    """

    def __init__(self, *, limit: int, seed: int) -> None:
        self._limit = limit
        self._seed = seed
        self._of_picture: dict[str, list[Choice]] = {}
        self._lasts: list[tuple[int, str, str]] = []  # heap: pictures, the one with the latest first dialogue on top

    def add(self, dialogue_id: str, *, image_id: str) -> None:
        """Considers a dialogue; a second time it changes nothing."""
        place = hashlib.sha256(f"{self._seed}/judge/{dialogue_id}".encode()).hexdigest()
        choice = Choice(place, dialogue_id, image_id)
        kept = self._of_picture.setdefault(image_id, [])
        at = bisect.bisect_left(kept, choice)
        if at < len(kept) and kept[at] == choice:
            return
        kept.insert(at, choice)
        del kept[self._limit :]
        if at == 0:
            heapq.heappush(self._lasts, (-int(place, 16), place, image_id))
            self._drop_a_picture()

    def chosen(self) -> tuple[Choice, ...]:
        """The choice, in seeded order within each round over the pictures."""
        rounds = [(number, choice) for kept in self._of_picture.values() for number, choice in enumerate(kept)]
        return tuple(choice for _, choice in heapq.nsmallest(self._limit, rounds))

    def _drop_a_picture(self) -> None:
        """With more pictures than places only first dialogues are chosen, and the latest of them is not."""
        while len(self._of_picture) > self._limit:
            _, place, image_id = heapq.heappop(self._lasts)
            kept = self._of_picture.get(image_id)
            if kept and kept[0].place == place:  # else an entry of a dialogue that is no longer its picture's first
                del self._of_picture[image_id]
