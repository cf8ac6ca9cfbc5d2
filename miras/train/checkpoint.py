"""Checkpoints of a training run: one file, the same for plain torch, DDP and DeepSpeed's ZeRO-2 and ZeRO-3.

`checkpoint.safetensors` holds for every trainable parameter, by name and whole, its float32 value and Adam's two
moments; its header the optimiser steps done, Adam's own step counts, the configuration and a checksum. Nothing in it
depends on the number of processes or on how they share the optimiser, so every launch profile goes on from any
other's checkpoint. `checkpoint_before.safetensors` is the one before it.

The step is all there is to know of the sampler and of randomness: which rows a step trains on follows from the seed
and the step (miras.train.mixture), and torch is seeded from both before every step (miras.train.loop).
"""

from __future__ import annotations

import json
import logging
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from miras.errors import DataError
from miras.files import disk_errors
from miras.model.weight_files import check_weights

FILE = "checkpoint.safetensors"
PREVIOUS = "checkpoint_before.safetensors"
log = logging.getLogger(__name__)
MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = ("value", *MOMENTS)
_CHUNK_BYTES = 2**24


class Checkpoint:
    """The last checkpoint of a run, and the one before it for the case that the last is damaged."""

    def __init__(self, work: Path, accelerator: Accelerator, *, configuration: Mapping[str, Any]) -> None:
        """`configuration`: sections that decide the result; a checkpoint of others is refused."""
        self.path = work / FILE
        self.previous = work / PREVIOUS
        self.accelerator = accelerator
        self.configuration: dict[str, Any] = json.loads(json.dumps(configuration))

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, *, step: int) -> None:
        """Writes the state after `step` optimiser steps; called by every process.

        Raises:
            DiskFullError: the last checkpoint is kept.
        """
        parameters, state = self._parameters(model), self._state(model, optimiser)
        tensors = (state.read(parameter, kind) for parameter in parameters.values() for kind in KINDS)
        if self.accelerator.is_main_process:
            shapes = {f"{kind}.{name}": shape(value) for name, value in parameters.items() for kind in KINDS}
            counts = {name: state.count(value) for name, value in parameters.items()}
            metadata = {"step": step, "counts": counts, "configuration": self.configuration}
            aside = self.path.with_name(f".{FILE}.partial")
            with disk_errors(self.path):
                try:
                    write_tensors(aside, shapes, tensors, metadata)
                    if self.path.exists():
                        os.replace(self.path, self.previous)
                    os.replace(aside, self.path)
                finally:
                    aside.unlink(missing_ok=True)
        else:
            for _ in tensors:  # reading is collective under DeepSpeed
                pass
        self.accelerator.wait_for_everyone()

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Restores the last state, if there is one; returns the optimiser steps done. Called by every process.

        A damaged checkpoint is named in the log, and the one before it is taken.

        Raises:
            DataError: what is there is damaged, or of another configuration.
        """
        found = self._last_whole()
        if found is None:
            return 0
        path, metadata = found
        self._check_configuration(path, metadata)
        parameters, state = self._parameters(model), self._state(model, optimiser)
        with safe_open(path, framework="pt") as stored:
            check_weights(
                {key: torch.Size(stored.get_slice(key).get_shape()) for key in stored.keys()},  # noqa: SIM118
                {f"{kind}.{name}": shape(value) for name, value in parameters.items() for kind in KINDS},
                path=path,
            )
            with torch.no_grad():
                state.prepare(max(metadata["counts"].values()))
                for name, parameter in parameters.items():
                    whole = {kind: stored.get_tensor(f"{kind}.{name}") for kind in KINDS}
                    state.write(parameter, whole, count=metadata["counts"][name])
                state.finish()
        return int(metadata["step"])

    def _parameters(self, model: Any) -> dict[str, nn.Parameter]:
        # DDP and DeepSpeed keep the network as `module`; Accelerate's unwrap_model would import DeepSpeed to find out.
        return dict(getattr(model, "module", model).trainable())

    def _state(self, model: Any, optimiser: torch.optim.Optimizer) -> _State:
        if self.accelerator.distributed_type != DistributedType.DEEPSPEED:
            return _WholeState(optimiser)
        stage = model.zero_optimization_stage()
        return _Zero3State(model.optimizer) if stage == 3 else _Zero2State(model.optimizer)

    def _last_whole(self) -> tuple[Path, dict[str, Any]] | None:
        """The last checkpoint that can be read, with its metadata; None: there was none yet."""
        damaged = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                metadata = read_metadata(path)
            except (SafetensorError, KeyError, ValueError, TypeError) as error:
                damaged.append(f"{path}: damaged ({error}).")
                continue
            if damaged:
                log.warning("%s Going on from the checkpoint before it, step %d.", damaged[0], metadata["step"])
            return path, metadata
        if damaged:
            names = " and ".join(path.name for path in (self.path, self.previous) if path.exists())
            raise DataError(f"{' '.join(damaged)} Delete {names} to start this stage anew.")
        return None

    def _check_configuration(self, path: Path, metadata: Mapping[str, Any]) -> None:
        stored, own = flattened(metadata["configuration"]), flattened(self.configuration)
        differences = [
            f"{key} is {own.get(key, 'unknown')}, there {stored.get(key, 'unknown')}"
            for key in sorted(stored.keys() | own.keys())
            if stored.get(key) != own.get(key)
        ]
        if differences:
            raise DataError(
                f"{path}: a checkpoint of another configuration: {'; '.join(differences)}. "
                "Set these back to go on from it, or delete it to start this stage anew."
            )


class _State(Protocol):
    """Values of the trainable parameters and Adam's state, however the processes share them.

    `read`, `prepare`, `write` and `finish` are called by every process, in the same order.
    """

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        """The whole float32 tensor of one of `KINDS`."""

    def count(self, parameter: nn.Parameter) -> int:
        """Steps that Adam has done on this parameter."""

    def prepare(self, count: int) -> None:
        """Before the first `write`; `count`: the most steps Adam has done on a parameter."""

    def write(self, parameter: nn.Parameter, whole: Mapping[str, Tensor], *, count: int) -> None:
        """Takes over the whole tensors of all `KINDS`."""

    def finish(self) -> None:
        """After the last `write`."""


class _WholeState:
    """Plain torch and DDP: every process holds everything."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.adam = optimiser.state

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        if kind == "value":
            return parameter.detach()
        found = self.adam.get(parameter, {})
        return found[kind] if kind in found else torch.zeros_like(parameter)

    def count(self, parameter: nn.Parameter) -> int:
        return int(self.adam.get(parameter, {}).get("step", 0))

    def prepare(self, count: int) -> None:
        """Nothing to do."""

    def write(self, parameter: nn.Parameter, whole: Mapping[str, Tensor], *, count: int) -> None:
        parameter.copy_(whole["value"])
        if count:
            step = torch.tensor(float(count), device=parameter.device)  # beside the parameter, as fused Adam wants it
            self.adam[parameter] = {"step": step}
            self.adam[parameter] |= {kind: torch.zeros_like(parameter).copy_(whole[kind]) for kind in MOMENTS}

    def finish(self) -> None:
        """Nothing to do."""


class _ZeroState:
    """What ZeRO-2 and ZeRO-3 share: Adam sees one flat tensor per group of parameters, the share of this process.

    Adam makes its state at the first step (DeepSpeed 0.19.8 does no step of its own while it starts); here it is made
    when it is first needed, as Adam would make it. Adam's count is one per flat tensor, and all are equal.
    """

    def __init__(self, zero: Any, groups: list[list[nn.Parameter]], flats: list[Tensor]) -> None:
        self.zero, self.groups, self.flats = zero, groups, flats
        self.adam: Any = zero.optimizer.state
        for flat in flats:
            if not self.adam[flat]:
                moments = {kind: torch.zeros_like(flat) for kind in MOMENTS}
                self.adam[flat] = {"step": torch.zeros((), device=flat.device), **moments}

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if kind == "value":
            return safe_get_full_fp32_param(parameter)
        return safe_get_full_optimizer_state(parameter, kind)

    def count(self, parameter: nn.Parameter) -> int:
        return max(int(self.adam[flat]["step"]) for flat in self.flats)

    def prepare(self, count: int) -> None:
        for flat in self.flats:
            self.adam[flat]["step"].fill_(count)


class _Zero2State(_ZeroState):
    """ZeRO-2: whole weights in the network's precision on every process, float32 values and moments shared."""

    def __init__(self, zero: Any) -> None:
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        super().__init__(zero, zero.bit16_groups, zero.single_partition_of_fp32_groups)
        for group, flat in zip(self.groups, self.flats, strict=True):
            lazy_init_hp_params_optimizer_state(group, flat, self.adam)  # what it does itself after the first step

    def write(self, parameter: nn.Parameter, whole: Mapping[str, Tensor], *, count: int) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        parameter.data.copy_(whole["value"])  # the next call sets the float32 values alone
        safe_set_full_fp32_param(parameter, whole["value"])
        for kind in MOMENTS:
            safe_set_full_optimizer_state(parameter, whole[kind], kind)

    def finish(self) -> None:
        """Nothing to do."""


class _Zero3State(_ZeroState):
    """ZeRO-3: everything is shared."""

    def __init__(self, zero: Any) -> None:
        super().__init__(zero, zero.fp16_groups, zero.fp32_partitioned_groups_flat)

    def prepare(self, count: int) -> None:
        super().prepare(count)
        self.zero.checkpoint_event_prologue()  # lets go of the small weights that are kept whole between steps

    def write(self, parameter: nn.Parameter, whole: Mapping[str, Tensor], *, count: int) -> None:
        # The setters for whole tensors cut past the end where the number of processes does not divide the size.
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        share: Any = parameter.ds_tensor  # type: ignore[attr-defined]  # DeepSpeed's own
        share.data.copy_(_share(whole["value"], share.numel()))
        safe_set_local_fp32_param(parameter, _share(whole["value"], share.numel()))
        for kind in MOMENTS:
            safe_set_local_optimizer_state(parameter, _share(whole[kind], share.numel()), kind)

    def finish(self) -> None:
        self.zero.checkpoint_event_epilogue()


def _share(whole: Tensor, size: int) -> Tensor:
    """This process's share of a tensor, flat [size]; the last ones are filled up with zeros."""
    start = size * torch.distributed.get_rank()
    found = whole.flatten()[start : start + size]
    return F.pad(found, (0, size - found.numel()))


def shape(parameter: nn.Parameter) -> torch.Size:
    """The parameter's whole shape, also under ZeRO-3, which leaves it empty between uses."""
    found: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return found


def flattened(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in sections.items():
        found |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def write_tensors(
    path: Path, shapes: Mapping[str, torch.Size], tensors: Iterator[Tensor], metadata: Mapping[str, Any]
) -> None:
    """Writes float32 safetensors, one tensor in memory at a time (safetensors' own writer wants all at once).

    Args:
        path: the file.
        shapes: name -> shape, in the order of `tensors`.
        tensors: on any device.
        metadata: JSON values; a checksum of the tensors is added.
    """
    entries: dict[str, Any] = {}
    end = 0
    for name, size in shapes.items():
        start, end = end, end + 4 * math.prod(size)
        entries[name] = {"dtype": "F32", "shape": list(size), "data_offsets": [start, end]}

    def header(checksum: int) -> bytes:
        texts = {key: json.dumps(value) for key, value in metadata.items()} | {"crc32": f"{checksum:08x}"}
        text = json.dumps({"__metadata__": texts, **entries}).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    checksum = 0
    with path.open("wb") as file:
        file.write(header(checksum))
        for tensor in tensors:
            data = tensor.detach().float().contiguous().cpu().numpy().data
            checksum = zlib.crc32(data, checksum)
            file.write(data)
        file.seek(0)
        file.write(header(checksum))
        file.flush()
        os.fsync(file.fileno())


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `write_tensors` was given.

    Raises:
        SafetensorError: the file is cut or not of this form.
        KeyError: it has other metadata.
        ValueError: its content has changed.
    """
    with safe_open(path, framework="pt") as stored:
        texts: dict[str, str] = dict(stored.metadata() or {})
    expected, checksum = texts.pop("crc32"), 0
    with path.open("rb") as file:
        file.seek(struct.unpack("<Q", file.read(8))[0], os.SEEK_CUR)
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    if f"{checksum:08x}" != expected:
        raise ValueError("its checksum is wrong")
    metadata = {key: json.loads(text) for key, text in texts.items()}
    return {key: metadata[key] for key in ("step", "counts", "configuration")}
