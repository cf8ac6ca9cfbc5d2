"""Checkpoints of a training run: trainable parameters, optimiser, step; written aside, then moved.

Without DeepSpeed a checkpoint is one file; with it, DeepSpeed's own folder (partitioned optimiser).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from miras.errors import DataError
from miras.files import disk_errors

FILE = "checkpoint.pt"
FOLDER = "checkpoint"
STEP = "step.json"


class Checkpoint:
    """The one checkpoint of a run, replaced each time."""

    def __init__(self, work: Path, accelerator: Accelerator) -> None:
        self.work = work
        self.accelerator = accelerator
        self.is_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED

    def save(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, *, step: int) -> None:
        """Writes the state after `step` optimiser steps; called by every process."""
        with disk_errors(self.work / FILE):
            if self.is_deepspeed:
                self._save_deepspeed(model, step)
            elif self.accelerator.is_main_process:
                unwrapped = self.accelerator.unwrap_model(model)
                aside = self.work / f".{FILE}.partial"
                weights = {name: value.detach() for name, value in unwrapped.trainable()}
                torch.save({"step": step, "weights": weights, "optimiser": optimiser.state_dict()}, aside)
                os.replace(aside, self.work / FILE)
        self.accelerator.wait_for_everyone()

    def load(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Restores the last state, if there is one; returns the optimiser steps done."""
        if self.is_deepspeed:
            return self._load_deepspeed(model)
        path = self.work / FILE
        if not path.exists():
            return 0
        try:
            stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError) as error:
            raise DataError(f"{path}: damaged ({error}). Delete it to start this stage anew.") from error
        with torch.no_grad():
            for name, value in self.accelerator.unwrap_model(model).trainable():
                value.copy_(stored["weights"][name])
        optimiser.load_state_dict(stored["optimiser"])
        return int(stored["step"])

    def _save_deepspeed(self, model: Any, step: int) -> None:
        model.save_checkpoint(
            str(self.work / FOLDER),
            tag=f"step{step}",
            client_state={"step": step},
            save_latest=False,
            exclude_frozen_parameters=True,
        )
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:  # naming the new one and dropping the old come last
            aside = self.work / f".{STEP}.partial"
            aside.write_text(json.dumps({"tag": f"step{step}", "step": step}), "utf-8")
            os.replace(aside, self.work / STEP)
            for old in (self.work / FOLDER).glob("step*"):
                if old.name != f"step{step}":
                    shutil.rmtree(old)

    def _load_deepspeed(self, model: Any) -> int:
        if not (self.work / STEP).exists():
            return 0
        named = json.loads((self.work / STEP).read_text("utf-8"))
        place, _ = model.load_checkpoint(str(self.work / FOLDER), tag=named["tag"], load_module_strict=False)
        if place is None:
            raise DataError(f"{self.work / FOLDER}: checkpoint {named['tag']} is incomplete. Delete it to start anew.")
        return int(named["step"])
