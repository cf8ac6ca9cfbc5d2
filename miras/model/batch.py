"""What goes into a training step of the network and what comes out: records of tensors.

Letters: B rows, T tokens, n targets, r targets with `[REF]`, m referenced masks, s mask side, Cl CLIP channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from miras.model.vision import PictureFeatures


@dataclass(frozen=True)
class MemoryTokens:
    """The masks that questions of a batch speak of."""

    row: Tensor
    """int [m], the row of each."""
    mask_at: Tensor
    """int [m], position of its mask token, -1 without."""
    box_at: Tensor
    """int [m], position of its box token, -1 without."""
    vectors: Tensor
    """float [m, Cl], CLIP's view of the blacked-out crop."""
    boxes: Tensor
    """float [m, 4], (x0, y0, x1, y1) in pixels of SAM's input frame."""


@dataclass(frozen=True)
class Counts:
    """What sums of losses are divided by: of the batch itself, or of the global batch it is a share of."""

    text: float
    """Supervised tokens."""
    targets: float
    """Target masks."""
    references: float
    """Referenced masks."""


@dataclass(frozen=True)
class Batch:
    """Training rows with their targets."""

    ids: Tensor
    """int [B, T], padded at the end."""
    labels: Tensor
    """int [B, T], -100 where nothing is to be learned."""
    parts: Tensor
    """int [B, T]: 0 in a row's prefix, k in its k-th dialogue, -1 in padding."""
    positions: Tensor
    """int [B, T], place of each token in its dialogue read alone."""
    image_start: Tensor
    """int [B], position of the first image token, -1 without picture."""
    features: PictureFeatures
    """Of the batch's distinct pictures, those with targets first; at least one (of zeros where no row has a picture).
    SAM's embedding is of the pictures with targets alone, at least one."""
    picture_index: Tensor
    """int [B], the picture of each row; any where there is none."""
    target_row: Tensor
    """int [n], the row of each target."""
    target_span: Tensor
    """int [n, 2], first and last position of its states."""
    target_aligned: Tensor
    """bool [n], False where the region alignment is passed by."""
    target_masks: Tensor
    """float [n, s, s] in [0, 1]."""
    reference_at: Tensor
    """int [n], position of the target's [REF], -1 without."""
    reference_masks: Tensor
    """float [r, s, s] in [0, 1], of the r targets with [REF], in order."""
    memory: MemoryTokens
    counts: Counts
    text_chunks: int
    """In how many parts the text loss is computed: the same on every process, or under ZeRO-3 they would wait for each
    other."""


@dataclass(frozen=True)
class MaskLogits:
    """Decoder outputs; one made-up target where a batch has none."""

    targets: Tensor
    """[n, s, s]."""
    references: Tensor
    """[r, s, s], of the targets with [REF]; empty without mask memory."""


@dataclass(frozen=True)
class Losses:
    """Scalars of one batch; `total` is eq. 8, with the reference term of SegLLM's eq. 1 where there is memory."""

    total: Tensor
    text: Tensor
    bce: Tensor
    dice: Tensor
    reference: Tensor
