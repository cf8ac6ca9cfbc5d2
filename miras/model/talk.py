"""A dialogue that keeps what the model has worked out: image tokens, keys and values, SAM's embedding, looks of masks.

Everything kept can be dropped at any moment and is made again when it is needed, so memory can be bounded
(`TalkMemory`) without anybody noticing but the clock.
Letters: N image tokens, W language width, D g SAM embedding, Cl CLIP channels.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image
from torch import Tensor

from miras.model.decoding import Prefix
from miras.model.records import Response


@dataclass(frozen=True)
class Said:
    """A question with the masks it speaks of, and the answer."""

    question: str
    masks: tuple[np.ndarray, ...]
    """Boolean (h, w) in pixels of the picture, none empty."""
    response: Response


@dataclass
class Kept:
    """What is made once for a picture and shared by all branches of a dialogue about it."""

    image_tokens: Tensor | None = None
    """[1, N, W]."""
    sam: Tensor | None = None
    """[1, D, g, g]; made when the first mask is asked for."""
    looks: dict[str, Tensor] = field(default_factory=dict)
    """Name of a mask -> CLIP's view of it, [Cl]."""

    def drop(self) -> None:
        """Frees everything."""
        self.image_tokens = self.sam = None
        self.looks.clear()

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        parts = [self.image_tokens, self.sam, *self.looks.values()]
        return sum(part.nbytes for part in parts if part is not None)


@dataclass(eq=False)
class Talk:
    """One dialogue about one picture."""

    picture: Image.Image
    """Upright RGB."""
    said: tuple[Said, ...] = ()
    kept: Kept = field(default_factory=Kept)
    prefix: Prefix | None = None

    def undo(self, count: int = 1) -> None:
        """Forgets the last turns; the cache is cut at the next question, where it no longer fits."""
        self.said = self.said[: max(0, len(self.said) - count)]

    def branch(self) -> Talk:
        """Another dialogue that has the same turns so far; nothing is copied."""
        return replace(self)

    def drop(self) -> None:
        """Frees what can be made again; the turns stay."""
        self.kept.drop()
        self.prefix = None

    @property
    def num_bytes(self) -> int:
        """Memory of what can be made again; branches count what they share each."""
        return self.kept.num_bytes + (self.prefix.num_bytes if self.prefix else 0)


class TalkMemory:
    """Bounds the memory of many dialogues: the one that was not used for longest is dropped first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.dropped = 0
        """How often a dialogue was dropped."""
        self._talks: OrderedDict[int, Talk] = OrderedDict()

    def used(self, talks: Sequence[Talk]) -> None:
        """To be told after every answer. The dialogues in use are never dropped, even alone above the bound."""
        for talk in talks:
            self._talks[id(talk)] = talk
            self._talks.move_to_end(id(talk))
        in_use = {id(talk) for talk in talks}
        total = self.num_bytes
        for key in list(self._talks):
            if total <= self.max_bytes or key in in_use:
                break
            talk = self._talks.pop(key)
            total -= talk.num_bytes
            talk.drop()
            self.dropped += 1

    def forget(self, talk: Talk) -> None:
        """A dialogue has ended."""
        self._talks.pop(id(talk), None)

    @property
    def num_bytes(self) -> int:
        """Of all dialogues it knows."""
        return sum(talk.num_bytes for talk in self._talks.values())


def mask_name(mask: np.ndarray) -> str:
    """Hash of a mask: the same mask has the same name."""
    packed = np.packbits(mask)
    return hashlib.blake2b(packed.tobytes() + str(mask.shape).encode(), digest_size=16).hexdigest()
