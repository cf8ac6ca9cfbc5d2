"""What this machine, or the container around us, has left: disk and memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil


def free_bytes(place: Path) -> int:
    """Free bytes where a file or folder is, or will be."""
    folders = (place.absolute(), *place.absolute().parents)
    return shutil.disk_usage(next(folder for folder in folders if folder.is_dir())).free


def memory_bytes() -> tuple[float, float]:
    """Total and available memory: the machine's, or the container's limit where that is less."""
    machine = psutil.virtual_memory()
    return min(machine.total, memory_limit()), min(machine.available, memory_limit())


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """The container's limit in bytes; infinite without one."""
    files = (cgroup / name for name in ("memory.max", "memory/memory.limit_in_bytes"))
    limit = next((file.read_text("utf-8") for file in files if file.is_file()), "max")
    return float(limit.replace("max", "inf"))
