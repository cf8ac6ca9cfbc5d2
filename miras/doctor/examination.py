"""What `miras doctor` looks at on this machine and in this workspace: each look gives findings, each with a remedy.

Looks, never changes: nothing is downloaded, compiled or written. Reads weight files whole where a hash is recorded for
them (some 10 s for 7B). torch and the other heavy packages are imported when their turn comes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from miras.config import Section, parse_sections, read_yaml
from miras.doctor.findings import Finding, counted
from miras.doctor.weights import weights
from miras.errors import MirasError
from miras.launch import slurm_cluster
from miras.launch.profiles import Launch, open_place, read_launch
from miras.launch.slurm import SlurmLaunch
from miras.machine import free_bytes, memory_bytes
from miras.model.config import BackbonesConfig
from miras.paths import Paths
from miras.torchvision_compat import check_versions

MIN_PYTHON = (3, 11)  # pyproject.toml: requires-python
PACKAGES = ("torch", "torchvision", "transformers", "peft", "accelerate", "segment-anything", "deepspeed")
INSTALL = "`make install` installs the versions of constraints.txt."
GIB = 2**30
DEEPSPEED_PROBE = (
    "import json, deepspeed; from deepspeed.git_version_info import installed_ops; "
    "print(json.dumps([deepspeed.__version__, sum(installed_ops.values())]))"
)
TIMEOUT_S = 60.0  # sinfo and dvc can hang on a dead server or file system

# Assumed, for a first warning; `miras plan` computes what a preset needs.
LOW_DISK_GIB = {"mini": 5, "public": 60}  # 7B, ViT-H and ConvNeXt-L weights take 18, features and checkpoints the rest
LOW_RAM_GIB = {"mini": 4, "public": 32}  # a 7B checkpoint passes through memory once
FULL_DISK_GIB = 1


@dataclass(frozen=True)
class Gpu:
    """A CUDA device."""

    name: str
    total_gib: float
    free_gib: float
    capability: tuple[int, int]
    """bfloat16 is native from 8.0."""


def examine(*, params: Path, launch: str | None, constraints: Path) -> list[Finding]:
    """Every finding about Python, packages, devices, disk, memory, weights and tools, in this order.

    Args:
        params: parameter file; names the folders and the weights.
        launch: name or path of a launch profile; None: what MIRAS_LAUNCH says, else `local`.
        constraints: pinned versions, `name==version` per line.
    """
    findings = [python(sys.version_info[:3]), *packages(constraints), torchvision(), *devices(), *training(launch)]
    sections: dict[str, type[Section]] = {"paths": Paths, "backbones": BackbonesConfig}
    try:
        values = read_yaml(params)
        config = parse_sections({k: values[k] for k in sections if k in values}, sections, source=str(params))
    except MirasError as error:
        findings.append(Finding("params", "error", str(error), "Correct the file, or name another by --params."))
    else:
        folder, kind = Path(config["paths"].backbones), "public" if config["backbones"].public else "mini"
        findings += [*disk(folder.parent, low_gib=LOW_DISK_GIB[kind]), memory(low_gib=LOW_RAM_GIB[kind])]
        findings += weights(folder, config["backbones"])
    return [*findings, *tools()]


def python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    found, wanted = (".".join(str(part) for part in numbers) for numbers in (version, MIN_PYTHON))
    if version >= MIN_PYTHON:
        return Finding("python", "ok", f"{found} at {sys.executable}")
    return Finding("python", "error", f"{found}; {wanted} or newer is needed", f"`make install PYTHON=python{wanted}`")


def packages(constraints: Path) -> list[Finding]:
    """Whether the packages that decide results are here, in the pinned versions."""
    try:
        pinned = read_pins(constraints.read_text("utf-8"))
    except OSError:
        remedy = "Run from the folder that holds it, or name it by --constraints."
        return [Finding("versions", "warning", f"{constraints}: no such file; versions are not compared", remedy)]
    return [package(name, installed=installed_version(name), pinned=pinned.get(name)) for name in PACKAGES]


def read_pins(text: str) -> dict[str, str]:
    """Name (lower case, with hyphens) -> version, of lines `name==version`."""
    pairs = re.findall(r"^([\w.-]+)==([^\s;]+)", text, flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def installed_version(name: str) -> str | None:
    """A package's version, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package(name: str, *, installed: str | None, pinned: str | None) -> Finding:
    """Whether a package is installed in its pinned version; the build (`+cpu`) may differ."""
    if installed is None:
        return Finding(name, "error", "not installed", INSTALL)
    if pinned is None:
        return Finding(name, "warning", f"{installed}, not pinned in constraints.txt", "Pin the version that you use.")
    if installed.partition("+")[0] != pinned:
        return Finding(name, "warning", f"{installed}, tested with {pinned}", INSTALL)
    return Finding(name, "ok", installed)


def torchvision() -> Finding:
    """Whether torchvision belongs to this torch and can be imported beside it."""
    check = "torchvision beside torch"
    try:
        import torch
        import torchvision as imported

        check_versions(torch.__version__, imported.__version__)
    except (ImportError, OSError, RuntimeError, MirasError) as error:
        return Finding(check, "error", f"{type(error).__name__}: {error}", INSTALL)
    is_compiled = hasattr(torch.ops.torchvision, "roi_align")
    found = "compiled part loads" if is_compiled else "imports; its compiled part is for CUDA and is not needed"
    return Finding(check, "ok", found)


def devices() -> list[Finding]:
    """The CUDA devices with memory and driver, and whether they compute in bfloat16."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Finding("cuda", "error", f"torch cannot be imported: {error}", INSTALL)]
    if not torch.cuda.is_available():
        has_gpu = shutil.which("nvidia-smi") is not None
        return [no_device(cuda=torch.version.cuda, has_gpu=has_gpu), Finding("bf16", "ok", "CPU computes in float32")]
    driver = (_output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) or "unknown").split()[0]
    head = Finding("cuda", "ok", f"CUDA {torch.version.cuda} build, driver {driver}")
    return [head, *(finding for number in range(torch.cuda.device_count()) for finding in device(number, _gpu(number)))]


def no_device(*, cuda: str | None, has_gpu: bool) -> Finding:
    """What it means that torch (built for a `cuda` version, or for CPUs: None) sees no device."""
    if cuda is not None:
        remedy = "Look at `nvidia-smi` and CUDA_VISIBLE_DEVICES; without a GPU this build works, too, on the CPU."
        return Finding("cuda", "warning", f"CUDA {cuda} build, but no device answers", remedy)
    if has_gpu:
        remedy = "`pip install -c constraints.txt --force-reinstall torch` from PyPI, which is the CUDA build."
        return Finding("cuda", "warning", "CPU build of torch on a machine with NVIDIA's driver", remedy)
    return Finding("cuda", "ok", "CPU build, no GPU here")


def device(number: int, gpu: Gpu) -> list[Finding]:
    """A device's memory and its bfloat16."""
    found = f"{gpu.name}, {gpu.total_gib:.0f} GiB, {gpu.free_gib:.0f} GiB free"
    memory_line = Finding(f"cuda:{number}", "ok", found)
    if gpu.free_gib < 0.5 * gpu.total_gib:
        remedy = "Another program holds it: see `nvidia-smi`, or choose devices by CUDA_VISIBLE_DEVICES."
        memory_line = Finding(f"cuda:{number}", "warning", found, remedy)
    capability = ".".join(str(part) for part in gpu.capability)
    if gpu.capability >= (8, 0):
        return [memory_line, Finding(f"cuda:{number} bf16", "ok", f"native (compute capability {capability})")]
    remedy = "Training on GPUs computes in bfloat16: use an Ampere (A100, RTX 30) or newer one."
    return [memory_line, Finding(f"cuda:{number} bf16", "warning", f"emulated, slow (capability {capability})", remedy)]


def _gpu(number: int) -> Gpu:
    from torch import cuda

    free, total = cuda.mem_get_info(number)
    return Gpu(cuda.get_device_name(number), total / GIB, free / GIB, cuda.get_device_capability(number))


def training(launch: str | None) -> list[Finding]:
    """The launch profile, and DeepSpeed: a failing import is an error only where the profile uses it."""
    try:
        profile = read_launch(launch)
    except MirasError as error:
        return [Finding("launch", "error", str(error), "Correct it, or name another by --launch."), deepspeed(True)]
    found = f"{profile.place}, {counted(profile.processes, 'process')}, ZeRO stage {profile.zero_stage}"
    elsewhere = slurm(profile.partition) if isinstance(profile, SlurmLaunch) else []
    if profile.place == "sagemaker":
        elsewhere = aws(profile)
    return [Finding("launch", "ok", found), *elsewhere, deepspeed(profile.zero_stage > 0)]


def aws(profile: Launch) -> list[Finding]:
    """Whether jobs could be submitted as the profile says; AWS itself is not asked."""
    try:
        open_place(profile)
    except MirasError as error:
        return [Finding("aws", "error", str(error), "See infra/aws/README.md.")]
    return [Finding("aws", "ok", "the profile is filled in, and its region is known")]


def slurm(partition: str | None) -> list[Finding]:
    """Whether the cluster of the launch profile answers, and has the partition."""
    check = "slurm cluster"
    return [Finding(check, "error", *fault) for fault in slurm_cluster.faults(partition)] or [
        Finding(check, "ok", "sbatch and squeue answer")
    ]


def deepspeed(is_used: bool) -> Finding:
    """Whether DeepSpeed can be imported; our ZeRO set-up needs none of its compiled operators.

    In a process of its own: the import prints, and can fail for want of a CUDA toolkit.
    """
    finished = _run([sys.executable, "-c", DEEPSPEED_PROBE])
    if finished.returncode == 0:
        version, prebuilt = json.loads(finished.stdout.splitlines()[-1])
        return Finding("deepspeed import", "ok", f"{version}; {prebuilt} operators built, none needed: Adam is torch's")
    reason = (finished.stderr.strip() or "it does not end").splitlines()[-1]
    without = "To train without it: zero_stage 0 in the launch profile."
    remedy = f"{INSTALL} A missing CUDA toolkit: set CUDA_HOME. {without}"
    return Finding("deepspeed import", "error" if is_used else "warning", reason, remedy)


def disk(models: Path, *, low_gib: float) -> list[Finding]:
    """Free space where work, models and DVC's cache lie; below `low_gib` there is a warning."""
    cache = _output([sys.executable, "-m", "dvc", "cache", "dir"])
    places = {"disk work/": Path("work"), f"disk {models}/": models}
    found = [disk_space(name, free_bytes(place) / GIB, low_gib=low_gib) for name, place in places.items()]
    if cache is None:
        remedy = "Run from the workspace (it holds .dvc/); `dvc cache dir` tells what is wrong."
        return [*found, Finding("disk DVC cache", "warning", "DVC does not tell where it is", remedy)]
    return [*found, disk_space("disk DVC cache", free_bytes(Path(cache)) / GIB, low_gib=low_gib, place=cache)]


def disk_space(check: str, free_gib: float, *, low_gib: float, place: str = "") -> Finding:
    """Whether the free space of a place is enough."""
    found = f"{free_gib:.1f} GiB free" + (f" in {place}" if place else "")
    remedy = "Free some space (`dvc gc --all-commits` drops what no commit uses); `miras plan` tells what is needed."
    if free_gib < FULL_DISK_GIB:
        return Finding(check, "error", found, remedy)
    if free_gib < low_gib:
        return Finding(check, "warning", f"{found}, under {low_gib:.0f}", remedy)
    return Finding(check, "ok", found)


def memory(*, low_gib: float) -> Finding:
    """Memory of the machine, or of the container where that is less."""
    total_gib, available_gib = (size / GIB for size in memory_bytes())
    found = f"{total_gib:.0f} GiB, {available_gib:.0f} GiB available"
    if available_gib < low_gib:
        remedy = "Close other programs, or take a smaller preset; `miras plan` tells what this one takes."
        return Finding("memory", "warning", f"{found}, under {low_gib:.0f}", remedy)
    return Finding("memory", "ok", found)


def tools() -> list[Finding]:
    """git, Slurm's commands and bitsandbytes."""
    git, slurm = _output(["git", "--version"]), "no sbatch here: training runs on this machine"
    if shutil.which("sbatch") is not None:
        slurm = _output(["sbatch", "--version"]) or "sbatch is here"
    no_git = Finding("git", "error", "not found", "Install git: DVC and the record of runs need it.")
    findings = [no_git if git is None else Finding("git", "ok", git), Finding("slurm", "ok", slurm)]
    version = installed_version("bitsandbytes")
    return findings if version is None else [*findings, bitsandbytes(version)]


def bitsandbytes(version: str) -> Finding:
    """Whether bitsandbytes, where it is installed, can be imported."""
    if _output([sys.executable, "-c", "import bitsandbytes"]) is not None:
        return Finding("bitsandbytes", "ok", version)
    remedy = "It serves 8- and 4-bit loading only: `pip uninstall bitsandbytes`, or the version for this CUDA."
    return Finding("bitsandbytes", "warning", f"{version} is installed but cannot be imported", remedy)


def _output(command: list[str]) -> str | None:
    """What a command prints, None where it is missing or fails."""
    finished = _run(command)
    return finished.stdout.strip() if finished.returncode == 0 else None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A finished command; one that is missing or hangs has failed."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(command, returncode=1, stdout="", stderr="it does not end")
