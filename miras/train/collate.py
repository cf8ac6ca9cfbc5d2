"""Rows of dialogues into tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region
from miras.errors import DataError
from miras.model.features import FeatureStore
from miras.model.network import Batch
from miras.model.tokens import IGNORED, AnswerText, RowBuilder, TokenRow
from miras.model.vision import mask_to_frame


class Collator:
    """Makes `Batch`es: tokens, stored features of the distinct pictures, target masks in the decoder's frame."""

    def __init__(
        self, builder: RowBuilder, store: FeatureStore, regions: Mapping[str, Region], *, mask_side: int
    ) -> None:
        self.builder, self.store, self.regions = builder, store, regions
        self._mask = lru_cache(maxsize=20_000)(lambda region_id: self._make_mask(region_id, mask_side))

    def __call__(self, rows: Sequence[Sequence[Dialogue]]) -> Batch:
        """One batch; each row's dialogues are about one picture and become successive turns."""
        built = [self._row(dialogues) for dialogues in rows]
        image_ids = sorted({dialogues[0].image_id for dialogues in rows})
        longest = max(len(row.ids) for row in built)
        ids = torch.full((len(rows), longest), self.builder.end_id)
        labels = torch.full((len(rows), longest), IGNORED)
        attention = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, row in enumerate(built):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            labels[number, : len(row.ids)] = torch.tensor(row.labels)
            attention[number, : len(row.ids)] = 1
        targets = [region_id for dialogues in rows for d in dialogues for turn in d.turns for region_id in turn.targets]
        spans = [(number, span) for number, row in enumerate(built) for span in row.spans]
        return Batch(
            ids=ids,
            labels=labels,
            attention=attention,
            image_start=torch.tensor([row.image_start for row in built]),
            features=self.store.read(image_ids),
            picture_index=torch.tensor([image_ids.index(dialogues[0].image_id) for dialogues in rows]),
            target_row=torch.tensor([number for number, _ in spans], dtype=torch.long),
            target_span=torch.tensor([span for _, span in spans], dtype=torch.long).view(-1, 2),
            target_masks=self._masks(targets),
        )

    def _row(self, dialogues: Sequence[Dialogue]) -> TokenRow:
        turns = [
            (turn.question, AnswerText(turn.answer, tuple(self._region(r).phrase for r in turn.targets)))
            for dialogue in dialogues
            for turn in dialogue.turns
        ]
        return self.builder.training_row(turns, where=f"dialogue {dialogues[0].dialogue_id}")

    def _masks(self, region_ids: Sequence[str]) -> Tensor:
        if not region_ids:
            return torch.zeros(0, 1, 1)
        return torch.from_numpy(np.stack([self._mask(region_id) for region_id in region_ids]))

    def _make_mask(self, region_id: str, side: int) -> np.ndarray:
        rle = self._region(region_id).mask
        if rle is None:
            raise DataError(f"region {region_id} has no mask; it cannot be trained on.")
        return mask_to_frame(masks.decode(rle), side)

    def _region(self, region_id: str) -> Region:
        try:
            return self.regions[region_id]
        except KeyError:
            raise DataError(
                f"a dialogue points at region {region_id}, which is not among the checked regions."
            ) from None


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on a device."""
    moved = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, Tensor)}
    features = {name: value.to(device) for name, value in vars(batch.features).items() if value is not None}
    return replace(batch, features=replace(batch.features, **features), **moved)
