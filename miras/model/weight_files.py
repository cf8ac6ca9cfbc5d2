"""Files of weights: read whole or not at all, compared with what is expected, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from miras.errors import DataError

# What transformers and safetensors raise on damaged files, and what torch.load does (IndexError: no pickle at all).
UNREADABLE = (OSError, ValueError, SafetensorError)
_UNLOADABLE = (RuntimeError, EOFError, IndexError, UnpicklingError)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name in a `.safetensors` file, or in one that `torch.save` wrote.

    Raises:
        DataError: no such file, damaged, or something else in it.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected weights. Copy it there or run what makes it again.") from None
    except (*UNREADABLE, *_UNLOADABLE) as error:
        raise unreadable(path, error) from None
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise DataError(f"{path}: expected names with tensors, found something else. Name the right weights.")
    return stored


def unreadable(path: Path, error: Exception) -> DataError:
    """The error to raise for weights that cannot be read."""
    reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return DataError(f"{path}: weights cannot be read: {reason}. Copy or download them again.")


def check_weights(found: dict[str, torch.Size], expected: dict[str, torch.Size], *, path: Path) -> None:
    """Raises a DataError that names missing, unknown and wrong-shaped weights, the first few of each."""
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} {tuple(found[name])}, expected {tuple(expected[name])}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", wrong))
        if names
    ]
    if problems:
        raise DataError(
            f"{path}: weights do not fit the network: {'; '.join(problems)}. "
            "They belong to another configuration; train again or choose the matching file."
        )


def check_report(model: nn.Module, report: Mapping[str, Any], *, path: Path) -> None:
    """Raises a DataError where transformers' loading report says that weights are missing or of another shape."""
    own = {name: value.shape for name, value in model.state_dict().items()}
    misshapen = {name: shape for name, shape, _ in report["mismatched_keys"]}
    absent = set(report["missing_keys"]) - misshapen.keys()
    check_weights({k: misshapen.get(k, shape) for k, shape in own.items() if k not in absent}, own, path=path)


def weights_sha256(place: Path) -> str:
    """Hash over the weight files (and configuration) of a checkpoint, a file or a folder."""
    kinds = ("*.safetensors", "*.json", "*.bin")
    files = [place] if place.is_file() else [file for kind in kinds for file in sorted(place.glob(kind))]
    if not files:
        raise DataError(f"{place}: no weights there; expected a .pth file or a folder with .safetensors files.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
