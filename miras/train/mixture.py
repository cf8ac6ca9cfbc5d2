"""Which dialogues make which row: a fixed function of (seed, row number), so nothing has to be stored to resume.

Every picture of a kind is visited once before any is visited again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from miras.dialogue.records import Dialogue, DialogueKind
from miras.errors import DataError


@dataclass(frozen=True)
class _Kind:
    """Dialogues of one kind by picture."""

    pictures: list[list[Dialogue]]


class Mixture:
    """Rows of dialogues about one picture each, drawn by the weights of their kinds."""

    def __init__(
        self,
        dialogues: Iterable[Dialogue],
        *,
        weights: Mapping[DialogueKind, float],
        dialogues_per_row: int,
        seed: int,
    ) -> None:
        """Raises DataError when a kind with a weight has no dialogues."""
        by_kind: dict[DialogueKind, dict[str, list[Dialogue]]] = defaultdict(lambda: defaultdict(list))
        for dialogue in dialogues:
            by_kind[dialogue.kind][dialogue.image_id].append(dialogue)
        self.kinds: list[DialogueKind] = [kind for kind, weight in weights.items() if weight > 0]
        missing = [kind for kind in self.kinds if not by_kind[kind]]
        if missing:
            raise DataError(
                f"the mixture wants dialogues of kind {', '.join(missing)}, but there are none to train on. "
                "Set their weight to 0 or generate some (params.yaml: generate)."
            )
        total = sum(weights[kind] for kind in self.kinds)
        self._shares = np.array([weights[kind] / total for kind in self.kinds])
        self._pools = {kind: _Kind(list(by_kind[kind].values())) for kind in self.kinds}
        self._one_turn = {kind: by_kind[kind] for kind in self.kinds if kind != "prist"}
        self._dialogues_per_row = dialogues_per_row
        self._seed = seed

    def row(self, number: int) -> list[Dialogue]:
        """The dialogues of row `number`: one of several turns, or up to `dialogues_per_row` of one turn."""
        dice = np.random.default_rng((self._seed, number))
        kind = self.kinds[int(dice.choice(len(self.kinds), p=self._shares))]
        pool = self._pools[kind].pictures
        visit, place = divmod(number, len(pool))
        order = np.random.default_rng((self._seed, visit, self.kinds.index(kind))).permutation(len(pool))
        here = pool[int(order[place])]
        first = here[int(dice.integers(len(here)))]
        if kind == "prist":
            return [first]
        return [first, *self._others(first, dice)]

    def rows(self, numbers: Sequence[int]) -> list[list[Dialogue]]:
        """Several rows."""
        return [self.row(number) for number in numbers]

    def _others(self, first: Dialogue, dice: np.random.Generator) -> list[Dialogue]:
        """More one-turn dialogues about the same picture, without repeats, kinds drawn by weight."""
        left = {
            kind: [d for d in pictures.get(first.image_id, []) if d is not first]
            for kind, pictures in self._one_turn.items()
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
