"""What the mini encoders learn from: labels for every pixel, and objects that are named or picked out of them.

Letters: B pictures, s side of the grid of points, K classes of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from miras.model.memory import frame_box, region_crop

PICKED = 2  # every second picture also shows one object picked out: by a point, by a box, cut out


@dataclass(frozen=True)
class DenseBatch:
    """Pictures with a class per pixel in each of several label maps."""

    pictures: list[Image.Image]
    """Square, all of one size."""
    maps: dict[str, np.ndarray]
    """Map name -> int [B, H, W], 0 = none of the classes."""
    instance: np.ndarray
    """int [B, H, W], 0 = background, else a number per object."""


@dataclass(frozen=True)
class DenseSource:
    """Batches without end, and the number of classes of each map, background included."""

    batch: Callable[[int], DenseBatch]
    """The batch of a step, always the same one."""
    num_classes: Mapping[str, int]


@dataclass(frozen=True)
class PickedOut:
    """An object of each of n pictures."""

    picture: Tensor
    """int [n], index of its picture in the batch."""
    cut_outs: list[Image.Image]
    """The object alone, on black."""
    labels: Mapping[str, Tensor]
    """Map name -> int [n], its most common class there, 0 = none."""
    points: Tensor
    """float [n, 2], (x, y) of one of its pixels, in pixels of SAM's input."""
    boxes: Tensor
    """float [n, 4], (x0, y0, x1, y1), likewise."""
    masks: Tensor
    """float [n, s, s]."""


def named_masks(
    batch: DenseBatch, classes: Mapping[str, int], *, side: int, dice: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Something to segment in each picture: all points that agree with one of them in some label maps.

    Returns:
        float [B, sum K], 1 for the classes in those maps, and float [B, side, side], 1 where all of them hold.
    """
    starts = dict(zip(classes, np.cumsum([0, *classes.values()])[:-1], strict=True))
    grids = {name: sample_at(batch.maps[name], side) for name in classes}
    first = next(iter(classes))
    names = torch.zeros(len(batch.pictures), sum(classes.values()))
    masks = torch.zeros(len(batch.pictures), side, side)
    for picture in range(len(batch.pictures)):
        present = np.unique(grids[first][picture])
        present = present[present > 0]
        if not len(present):
            continue  # nothing is labelled here: an empty name, an empty mask
        places = np.argwhere(grids[first][picture] == dice.choice(present))
        y, x = places[dice.integers(len(places))]
        shown = [name for name in classes if grids[name][picture, y, x] > 0]
        chosen = [name for name in shown if dice.random() < 0.5] or [shown[dice.integers(len(shown))]]
        agree = np.ones((side, side), bool)
        for name in chosen:
            label = grids[name][picture, y, x]
            names[picture, starts[name] + label] = 1
            agree &= grids[name][picture] == label
        masks[picture] = torch.from_numpy(agree)
    return names, masks


def picked_out(batch: DenseBatch, *, side: int, frame_px: int, dice: np.random.Generator) -> PickedOut:
    """An object in every PICKED-th picture that shows one: by a point in it, by its box, and cut out.

    Args:
        batch: the pictures.
        side: of the masks.
        frame_px: side of SAM's input, whose pixels points and boxes are in.
        dice: chooses.
    """
    scale = frame_px / batch.instance.shape[-1]
    pictures, cut_outs, points, boxes, masks = [], [], [], [], []
    labels: dict[str, list[int]] = {name: [] for name in batch.maps}
    for picture in range(0, len(batch.pictures), PICKED):
        present = np.unique(batch.instance[picture])
        present = present[present > 0]
        if not len(present):
            continue
        here = batch.instance[picture] == dice.choice(present)
        y, x = np.argwhere(here)[dice.integers(int(here.sum()))]
        pictures.append(picture)
        cut_outs.append(region_crop(batch.pictures[picture], here))
        points.append(((float(x) + 0.5) * scale, (float(y) + 0.5) * scale))
        boxes.append(frame_box(here, frame_px))
        masks.append(sample_at(here[None].astype(np.float32), side)[0])
        for name, classes in batch.maps.items():
            counts = np.bincount(classes[picture][here])
            counts[0] = 0
            labels[name].append(int(counts.argmax()))
    return PickedOut(
        picture=torch.tensor(pictures, dtype=torch.long),
        cut_outs=cut_outs,
        labels={name: torch.tensor(values, dtype=torch.long) for name, values in labels.items()},
        points=torch.tensor(points, dtype=torch.float32).view(-1, 2),
        boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        masks=torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, side, side),
    )


def sample_at(labels: np.ndarray, side: int) -> np.ndarray:
    """Labels [B, H, W] at the middle of each cell of a [side, side] grid."""
    step = labels.shape[-1] / side
    index = ((np.arange(side) + 0.5) * step).astype(int)
    return labels[:, index[:, None], index[None, :]]


def centre_offsets(instance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each pixel to the middle of its object's box, in sides of the frame.

    Args:
        instance: int [B, s, s], 0 = background.

    Returns:
        float32 [B, 2, s, s] (y, x), and bool [B, s, s] where an object is.
    """
    batch, side, _ = instance.shape
    offsets = np.zeros((batch, 2, side, side), np.float32)
    rows, columns = np.mgrid[:side, :side]
    for picture in range(batch):
        for number in np.unique(instance[picture]):
            if number == 0:
                continue
            here = instance[picture] == number
            y, x = np.nonzero(here)
            offsets[picture, 0][here] = ((y.min() + y.max()) / 2 - rows[here]) / side
            offsets[picture, 1][here] = ((x.min() + x.max()) / 2 - columns[here]) / side
    return offsets, instance > 0
