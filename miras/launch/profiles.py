"""Launch profiles: `infra/launch/NAME.yaml` says where the heavy stages run and on how much; never what they make.

`MIRAS_LAUNCH` chooses one by name; without it the stages run on this machine. No stage depends on a profile.
"""

from __future__ import annotations

import difflib
import importlib
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from miras.config import Section, parse_sections, read_yaml
from miras.errors import ConfigError
from miras.launch.job import Place

MAX_SHARES = 8  # without a GPU, unless the profile says otherwise: each holds a model
FOLDER = Path("infra") / "launch"
VARIABLE = "MIRAS_LAUNCH"
DEFAULT = "local"

PLACES: dict[str, tuple[str, str]] = {
    "dask": ("miras.launch.dask:DaskLaunch", "miras.launch.dask:DaskPlace"),
    "local": ("miras.launch.local:LocalLaunch", "miras.launch.local:LocalPlace"),
    "prefect-dask": ("miras.launch.dask:DaskLaunch", "tasks.orchestration.dask_place:PrefectDaskPlace"),
    "sagemaker": ("miras.launch.sagemaker:SageMakerLaunch", "miras.launch.sagemaker:SageMakerPlace"),
    "slurm": ("miras.launch.slurm:SlurmLaunch", "miras.launch.slurm:SlurmPlace"),
}
"""The value of `place` in a profile -> the class of such profiles, and the class of the place."""


class Launch(Section):
    """What every profile says, and all that a process of a job needs to know of it."""

    place: str
    """Where jobs run, one of `PLACES`."""
    processes: int = Field(ge=1)
    """Training processes, over all nodes."""
    zero_stage: Literal[0, 2, 3]
    """What the processes share by DeepSpeed: nothing (0: plain Accelerate), optimiser and gradients (2), weights too
    (3)."""
    gradient_checkpointing: bool
    """Computes the language model's activations again in the backward pass: less memory, more time, same results."""
    threads: int = Field(ge=0)
    """CPU threads per process; 0 leaves it to torch (for shares of a sharded stage: one)."""
    shares: int = Field(ge=0)
    """Processes that share the pictures to encode and the test questions; 0: one per GPU, without GPU one per core, at
    most 8."""
    gpu_memory_gb: float | None = Field(gt=0, strict=False)
    """Memory of one GPU in 1e9 bytes, for `miras plan`; null: asked from CUDA, without CUDA the machine's RAM."""
    tflops: float | None = Field(gt=0, strict=False)
    """Sustained 1e12 operations a second per process, for `miras plan`; null: from a table, on a CPU measured."""

    def number_of_shares(self) -> int:
        """As the profile says; else one per GPU of this machine, without GPU one per core, a few at most."""
        import torch  # a second, and few callers

        return self.shares or torch.cuda.device_count() or min(len(os.sched_getaffinity(0)), MAX_SHARES)

    @property
    def is_here(self) -> bool:
        """Whether jobs run on this machine, whose devices can be asked."""
        return self.place == "local"

    @property
    def process_memory_gb(self) -> float | None:
        """Memory of one training process elsewhere, without GPU, in 2**30 bytes; None: not known."""
        return None

    def for_process(self) -> Launch:
        """What every profile says, without what only the place has to know."""
        return Launch.model_validate({name: getattr(self, name) for name in Launch.model_fields})


def profile_path(name: str | None = None) -> Path:
    """The file of a profile: `name`, else what MIRAS_LAUNCH says, else `local`.

    Args:
        name: of a file of infra/launch without its ending, or the path of a YAML file.

    Raises:
        ConfigError: there is no such profile; the message names those that are there.
    """
    chosen = name or os.environ.get(VARIABLE) or DEFAULT
    path = Path(chosen) if chosen.endswith((".yaml", ".yml")) else FOLDER / f"{chosen}.yaml"
    if path.exists():
        return path
    known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    nearest = difflib.get_close_matches(chosen, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known) or 'none here'}."
    raise ConfigError(
        f"launch profile {chosen!r}: {path} is not there; {hint} Give the name of a file of {FOLDER} (the option or "
        f"parameter `launch`, or {VARIABLE}), from the folder that holds it."
    )


def read_launch(name: str | None = None) -> Launch:
    """A launch profile (see `profile_path`).

    Raises:
        ConfigError: there is no such profile, or something in it is wrong; names every mistake.
    """
    path = profile_path(name)
    values = read_yaml(path)
    place = values.get("place")
    if not isinstance(place, str) or place not in PLACES:
        raise ConfigError(f"{path}: place: found {place!r}, expected one of {', '.join(PLACES)}.")
    launch: Launch = parse_sections({"launch": values}, {"launch": _load(PLACES[place][0])}, source=str(path))["launch"]
    nodes = getattr(launch, "nodes", 1)  # a place of several machines has this key
    if launch.processes % nodes:
        raise ConfigError(
            f"{path}: processes {launch.processes} do not spread evenly over {nodes} nodes. Change one of them."
        )
    return launch


def open_place(launch: Launch) -> Place:
    """The place that a profile names."""
    place: Place = _load(PLACES[launch.place][1])(launch)
    return place


def _load(where: str) -> Any:
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)
