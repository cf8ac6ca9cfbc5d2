"""Rows of dialogues into tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region
from miras.dialogue.rendering import target_names
from miras.errors import DataError
from miras.model import losses
from miras.model.batch import Batch, Counts, MemoryTokens
from miras.model.features import FeatureStore
from miras.model.memory import frame_box
from miras.model.tokens import IGNORED, RowBuilder, TokenRow, TurnText
from miras.model.vision import mask_to_frame
from miras.train.mixture import Row


class Collator:
    """Makes `Batch`es: tokens, stored features of the distinct pictures, target masks in the decoder's frame."""

    def __init__(
        self,
        builder: RowBuilder,
        store: FeatureStore,
        regions: Mapping[str, Region],
        *,
        mask_side: int,
        frame_px: int,
    ) -> None:
        """`mask_side`: of target masks; `frame_px`: side of SAM's input."""
        self.builder, self.store, self.regions = builder, store, regions
        self._mask = lru_cache(maxsize=20_000)(lambda region_id: mask_to_frame(self._pixels(region_id), mask_side))
        self._box = lru_cache(maxsize=200_000)(lambda region_id: frame_box(self._pixels(region_id), frame_px))

    def token_rows(self, rows: Sequence[Row]) -> list[TokenRow]:
        """The rows as tokens; each row's dialogues are about one picture and do not see each other.

        Raises:
            DataError: a dialogue is longer than `network.max_tokens`, or points at an unknown region.
        """
        return [
            self.builder.training_row(
                [self._turns(dialogue) for dialogue in row.dialogues],
                names=[f"dialogue {dialogue.dialogue_id}" for dialogue in row.dialogues],
                has_picture=bool(row.image_id),
            )
            for row in rows
        ]

    def __call__(
        self,
        rows: Sequence[Row],
        built: Sequence[TokenRow],
        *,
        counts: Counts | None = None,
        text_chunks: int | None = None,
    ) -> Batch:
        """One batch.

        Args:
            rows: at least one.
            built: their `token_rows`.
            counts: what the losses are divided by; None: the batch's own.
            text_chunks: parts of the text loss; None: what the batch needs.
        """
        targets = [
            (row, region_id, dialogue.references(number))
            for row in rows
            for dialogue in row.dialogues
            for number, turn in enumerate(dialogue.turns)
            for region_id in turn.targets
        ]
        reference_at = [at for row in built for at in row.references]
        shown = {row.image_id for row, *_ in targets}
        image_ids = sorted(shown) + sorted({row.image_id for row in rows if row.image_id} - shown)
        return Batch(
            ids=_padded([row.ids for row in built], self.builder.end_id),
            labels=_padded([row.labels for row in built], IGNORED),
            parts=_padded([row.parts for row in built], -1),
            positions=_padded([row.positions for row in built], 0),
            image_start=torch.tensor([row.image_start for row in built]),
            features=self.store.read(image_ids, num_sam=len(shown)),  # SAM looks only where there are targets
            picture_index=torch.tensor([image_ids.index(row.image_id) if row.image_id else 0 for row in rows]),
            target_row=_owners([len(row.spans) for row in built]),
            target_span=torch.tensor([span for row in built for span in row.spans], dtype=torch.long).view(-1, 2),
            target_aligned=torch.tensor([row.is_aligned for row, *_ in targets], dtype=torch.bool),
            target_masks=self._masks([(region_id,) for _, region_id, _ in targets]),
            reference_at=torch.tensor(reference_at, dtype=torch.long),
            reference_masks=self._masks(
                [spoken_of for (*_, spoken_of), at in zip(targets, reference_at, strict=True) if at >= 0]
            ),
            memory=self._memory(rows, built),
            counts=counts or count(built),
            text_chunks=text_chunks or chunks(built),
        )

    def _turns(self, dialogue: Dialogue) -> list[TurnText]:
        return [
            TurnText(
                turn.question,
                turn.answer,
                target_names(turn, {region_id: self._region(region_id).phrase for region_id in turn.targets}),
                references=len(dialogue.references(number)),
            )
            for number, turn in enumerate(dialogue.turns)
        ]

    def _memory(self, rows: Sequence[Row], built: Sequence[TokenRow]) -> MemoryTokens:
        places = torch.tensor([place for row in built for place in row.memory], dtype=torch.long).view(-1, 2)
        region_ids = [
            region_id
            for row in rows
            for dialogue in row.dialogues
            for number in range(len(dialogue.turns) if self.builder.has_memory else 0)
            for region_id in dialogue.references(number)
        ]
        return MemoryTokens(
            row=_owners([len(row.memory) for row in built]),
            mask_at=places[:, 0],
            box_at=places[:, 1],
            vectors=self.store.read_regions(region_ids),
            boxes=torch.tensor([self._box(region_id) for region_id in region_ids], dtype=torch.float32).view(-1, 4),
        )

    def _masks(self, groups: Sequence[Sequence[str]]) -> Tensor:
        """float [n, s, s], the union of each group of regions."""
        if not groups:
            return torch.zeros(0, 1, 1)
        united = [np.maximum.reduce([self._mask(region_id) for region_id in group]) for group in groups]
        return torch.from_numpy(np.stack(united))

    def _pixels(self, region_id: str) -> np.ndarray:
        rle = self._region(region_id).mask
        if rle is None:
            raise DataError(f"region {region_id} has no mask; it cannot be trained on.")
        return masks.decode(rle)

    def _region(self, region_id: str) -> Region:
        try:
            return self.regions[region_id]
        except KeyError:
            raise DataError(
                f"a dialogue points at region {region_id}, which is not among the checked regions."
            ) from None


def count(built: Sequence[TokenRow], *, shares: int = 1) -> Counts:
    """What the losses of these rows are divided by, when they are summed over `shares` equal shares and averaged."""
    references = sum(at >= 0 for row in built for at in row.references)
    return Counts(_supervised(built) / shares, sum(len(row.spans) for row in built) / shares, references / shares)


def chunks(built: Sequence[TokenRow]) -> int:
    """In how many parts the text loss of these rows fits in memory."""
    return max(1, math.ceil(_supervised(built) / losses.CHUNK))


def _supervised(built: Sequence[TokenRow]) -> int:
    return sum(label != IGNORED for row in built for label in row.labels)


def _owners(counts: Sequence[int]) -> Tensor:
    """int [sum counts]: 0 as often as counts[0] says, then 1, ..."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """int [B, T]."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
