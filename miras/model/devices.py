"""Where tensors are, and how many CPU threads work on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def to_device(value: T, device: torch.device | str) -> T:
    """A dataclass with every tensor in it on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)  # type: ignore[return-value]  # a Tensor is a T here
    if is_dataclass(value) and not isinstance(value, type):
        moved = {field.name: to_device(getattr(value, field.name), device) for field in fields(value)}
        return replace(value, **moved)
    return value


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Lets torch compute on so many CPU threads; 0 leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
