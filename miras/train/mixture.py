"""Which dialogues make which row: a fixed function of (seed, row number), so nothing has to be stored to resume.

Every picture of a kind opens a row once before any does again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from miras.dialogue.records import Dialogue, DialogueKind
from miras.errors import DataError

BLOCK = 1024  # rows whose kinds are drawn together


@dataclass(frozen=True)
class Row:
    """A sample: dialogues about one picture (or one without picture)."""

    number: int
    dialogues: tuple[Dialogue, ...]
    is_aligned: bool
    """Whether its targets use the region alignment."""

    @property
    def image_id(self) -> str:
        """Of the picture; empty without."""
        return self.dialogues[0].image_id


class Mixture:
    """Rows of dialogues about one picture each, drawn by the weights of their kinds."""

    def __init__(
        self,
        dialogues: Iterable[Dialogue],
        *,
        weights: Mapping[DialogueKind, float],
        dialogues_per_row: int,
        aligned_share: float,
        seed: int,
    ) -> None:
        """`aligned_share`: of the rows use the region alignment (1 but for the ablation).

        Raises:
            DataError: a kind with a weight has no dialogues.
        """
        by_kind: dict[DialogueKind, dict[str, list[Dialogue]]] = defaultdict(lambda: defaultdict(list))
        for dialogue in dialogues:
            by_kind[dialogue.kind][dialogue.image_id or dialogue.dialogue_id].append(dialogue)
        self.kinds: list[DialogueKind] = [kind for kind, weight in weights.items() if weight > 0]
        missing = [kind for kind in self.kinds if not by_kind[kind]]
        if missing:
            raise DataError(
                f"the mixture wants dialogues of kind {', '.join(missing)}, but there are none to train on. "
                "Set their weight to 0 or generate some (params.yaml: generate)."
            )
        total = sum(weights[kind] for kind in self.kinds)
        self._shares = np.array([weights[kind] / total for kind in self.kinds])
        self._pools = {kind: list(by_kind[kind].values()) for kind in self.kinds}
        self._by_picture = {kind: by_kind[kind] for kind in self.kinds}
        self._dialogues_per_row = dialogues_per_row
        self._aligned_share = aligned_share
        self._seed = seed
        self._rows_before = [np.zeros(len(self.kinds), int)]  # block -> rows of each kind in the blocks before it
        self._kinds_of = lru_cache(maxsize=2)(self._draw_kinds)
        self._order = lru_cache(maxsize=2 * len(self.kinds))(self._draw_order)

    def row(self, number: int) -> Row:
        """Row `number`: up to `dialogues_per_row` different dialogues about one picture."""
        dice = np.random.default_rng((self._seed, number))
        kind, earlier = self._kind(number)
        pool = self._pools[self.kinds[kind]]
        visit, place = divmod(earlier, len(pool))
        here = pool[int(self._order(kind, visit)[place])]
        first = here[int(dice.integers(len(here)))]
        is_aligned = bool(dice.random() < self._aligned_share)
        return Row(number, (first, *self._others(first, dice)), is_aligned)

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Several rows."""
        return [self.row(number) for number in numbers]

    def _kind(self, number: int) -> tuple[int, int]:
        """Index of the row's kind, and how many rows before it are of that kind."""
        block, place = divmod(number, BLOCK)
        while len(self._rows_before) <= block:
            drawn = np.bincount(self._kinds_of(len(self._rows_before) - 1), minlength=len(self.kinds))
            self._rows_before.append(self._rows_before[-1] + drawn)
        kinds = self._kinds_of(block)
        kind = int(kinds[place])
        return kind, int(self._rows_before[block][kind] + (kinds[:place] == kind).sum())

    def _draw_kinds(self, block: int) -> np.ndarray:
        """int [BLOCK], the kinds of the rows of a block."""
        dice = np.random.default_rng((self._seed, 1, block))
        return dice.choice(len(self.kinds), size=BLOCK, p=self._shares)

    def _draw_order(self, kind: int, visit: int) -> np.ndarray:
        """The order in which a kind's pictures are visited for the `visit`-th time."""
        return np.random.default_rng((self._seed, 2, visit, kind)).permutation(len(self._pools[self.kinds[kind]]))

    def _others(self, first: Dialogue, dice: np.random.Generator) -> list[Dialogue]:
        """More dialogues about the same picture, without repeats, kinds drawn by weight."""
        left = {
            kind: [d for d in pictures.get(first.image_id, []) if d is not first]
            for kind, pictures in self._by_picture.items()
        }
        chosen: list[Dialogue] = []
        while len(chosen) < self._dialogues_per_row - 1:
            kinds = [kind for kind, rest in left.items() if rest]
            if not kinds:
                break
            shares = np.array([self._shares[self.kinds.index(kind)] for kind in kinds])
            kind = kinds[int(dice.choice(len(kinds), p=shares / shares.sum()))]
            chosen.append(left[kind].pop(int(dice.integers(len(left[kind])))))
        return chosen
