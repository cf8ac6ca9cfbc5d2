"""What a run is to happen on: one GPU per process, or the CPU that all processes share."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch

from miras.errors import ConfigError
from miras.launch.profiles import Launch
from miras.machine import memory_bytes

GB = 1e9

# Dense bf16 peak in TFLOP/s from the makers' data sheets; the first name that the device's name holds.
PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "RTX 6000 Ada": 364,
    "RTX A6000": 155,
    "A40": 150,
    "A10G": 70,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
GPU_UTILISATION = 0.35  # of the peak; assumed: usual for adapters on a 7B model with gradient checkpointing
CPU_UTILISATION = 0.5  # of a large product's speed (measured: 0.49 and 0.54 for the tiny network's steps, one thread)


@dataclass(frozen=True)
class Device:
    """What one training process has."""

    name: str
    is_gpu: bool
    memory_bytes: float
    flops: float | None
    """Sustained FLOP/s of one process; None where it is not known."""
    speed_from: str
    """How `flops` was found, for the reader."""


def find_device(launch: Launch) -> Device:
    """The GPU of the launch profile or of this machine; without one the CPU and its memory, shared by the processes.

    Raises:
        ConfigError: the run happens elsewhere, and the profile does not say on what.
    """
    if not launch.is_here:
        return _device_elsewhere(launch)
    if launch.gpu_memory_gb is None and not torch.cuda.is_available():
        flops, speed_from = cpu_flops(launch)
        memory = memory_bytes()[0] / launch.processes
        return Device(f"CPU, {os.cpu_count()} cores", False, memory, flops / launch.processes, speed_from)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "GPU of the launch profile"
    if launch.gpu_memory_gb is not None:
        memory = launch.gpu_memory_gb * GB
    else:
        memory = float(torch.cuda.get_device_properties(0).total_memory)
    return Device(name, True, memory, *gpu_flops(name, launch))


def _device_elsewhere(launch: Launch) -> Device:
    """What the profile alone says: this machine is not the one that trains."""
    if launch.place.endswith("dask"):
        raise ConfigError(
            f"launch profile: place {launch.place} does not train (it refuses stage1 and stage2). Plan with the one "
            "that will."
        )
    flops = None if launch.tflops is None else launch.tflops * 1e12
    speed_from = "tflops of the launch profile" if flops else "unknown: set tflops in the launch profile"
    if launch.gpu_memory_gb is not None:
        return Device("GPU of the launch profile", True, launch.gpu_memory_gb * GB, flops, speed_from)
    if launch.process_memory_gb is None:
        raise ConfigError(
            "launch profile: gpu_memory_gb is null, and this machine cannot be asked what another one has. Set "
            "gpu_memory_gb (and tflops, for hours); where training runs on CPUs, memory_gb."
        )
    return Device("CPU of the launch profile", False, launch.process_memory_gb * 2**30, flops, speed_from)


def gpu_flops(name: str, launch: Launch) -> tuple[float | None, str]:
    """Sustained FLOP/s of a GPU: the profile's, else the table's peak times `GPU_UTILISATION`, else None."""
    if launch.tflops is not None:
        return launch.tflops * 1e12, "tflops of the launch profile"
    peak = next((value for known, value in PEAK_TFLOPS.items() if known in name), None)
    if peak is None:
        return None, "unknown GPU: set tflops in the launch profile"
    return peak * 1e12 * GPU_UTILISATION, f"assumed: {GPU_UTILISATION:.0%} of {peak} TFLOP/s (data sheet, bf16)"


def cpu_flops(launch: Launch) -> tuple[float, str]:
    """Sustained FLOP/s of all cores: the profile's, else a measured matrix product times `CPU_UTILISATION`.

    Small layers, attention and everything that is no matrix product reach only a part of a large product's speed;
    reading rows, the optimiser and validation come on top. Right within a factor of two at best.
    """
    if launch.tflops is not None:
        return launch.tflops * 1e12, "tflops of the launch profile"
    side, best = 1024, float("inf")
    matrix = torch.rand(side, side)
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    peak = 2 * side**3 / best
    return peak * CPU_UTILISATION, f"{CPU_UTILISATION:.0%} of {peak / 1e9:.0f} GFLOP/s, measured now with a product"
