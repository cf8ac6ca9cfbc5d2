"""The plan of a run: reads params.yaml and a launch profile, adds up what is needed, refuses what cannot fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from miras.config import Section, parse_sections, read_yaml
from miras.errors import ConfigError
from miras.launch.profiles import Launch
from miras.machine import free_bytes
from miras.model.blueprint import Blueprint, PartSize, draw_blueprint, part_sizes
from miras.model.config import BackbonesConfig, FeaturesConfig, NetworkConfig
from miras.paths import Paths
from miras.plan import disk, effort
from miras.plan.device import GB, Device, find_device
from miras.plan.effort import Effort
from miras.plan.memory import FRAGMENTATION, Shapes, TrainingSetup, encoding_memory, shapes_of, training_memory
from miras.sources.config import IngestConfig
from miras.train.config import TrainConfig

SECTIONS: dict[str, type[Section]] = {
    "paths": Paths,
    "ingest": IngestConfig,
    "backbones": BackbonesConfig,
    "features": FeaturesConfig,
    "network": NetworkConfig,
    "stage1": TrainConfig,
    "stage2": TrainConfig,
}
ENCODERS = ("CLIP", "ConvNeXt", "SAM encoder")


@dataclass(frozen=True)
class StagePlan:
    """What one stage needs."""

    name: str
    trainable: dict[str, int]
    """Part -> parameters that it trains; empty for `features`."""
    memory: dict[str, float]
    """Part -> bytes per process."""
    effort: Effort | None
    """None where the number of pictures is not known."""
    hours: float | None
    """None where the device's speed or the number of pictures is not known."""

    @property
    def memory_bytes(self) -> float:
        """Of one process."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class Plan:
    """What a run needs, and what there is."""

    source: str
    """The parameter file."""
    device: Device
    processes: int
    sizes: list[PartSize]
    stages: list[StagePlan]
    pictures: int | None
    encoder_bytes: float
    """More memory per process if training ran the encoders instead of reading stored features."""
    disk: dict[str, int]
    """Part -> bytes that are not on disk yet."""
    free_bytes: int


def plan(params: Path, launch: Launch, *, pictures: int | None = None) -> Plan:
    """What the run that a parameter file and a launch profile describe needs.

    Nothing is downloaded, no weights are made. Memory of parameters and optimiser, features and disk are exact;
    activations and hours are estimates (`miras.plan.memory`, `miras.plan.effort`).

    Args:
        params: a parameter file or preset; its folders are relative to the working directory.
        launch: the launch profile.
        pictures: their number, where the data set is not there yet to be counted.

    Raises:
        ConfigError: the file is wrong, or what it describes fits neither the memory nor the disk; then the message
            names what to change and what memory each change leads to.
    """
    values = read_yaml(params)
    sections = parse_sections({k: v for k, v in values.items() if k in SECTIONS}, SECTIONS, source=str(params))
    blueprint = draw_blueprint(sections["backbones"], sections["network"])
    device, shapes, sizes = find_device(launch), shapes_of(blueprint), part_sizes(blueprint)
    pictures = pictures or disk.count_pictures(sections["paths"], sections["ingest"])
    stages = [
        _features_stage(blueprint, shapes, sections, device=device, launch=launch, pictures=pictures),
        *(
            _training_stage(name, blueprint, shapes, sections, device=device, launch=launch)
            for name in ("stage1", "stage2")
        ),
    ]
    found = Plan(
        source=str(params),
        device=device,
        processes=launch.processes,
        sizes=sizes,
        stages=stages,
        pictures=pictures,
        encoder_bytes=sum(s.total for s in sizes if s.part in ENCODERS) * (2 if device.is_gpu else 4),
        disk=_disk(sections, sizes, stages, shapes, launch=launch, pictures=pictures),
        free_bytes=free_bytes(Path(sections["paths"].features)),
    )
    problems = [*_memory_problems(found, shapes, sections, launch), *_disk_problems(found)]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _features_stage(
    blueprint: Blueprint,
    shapes: Shapes,
    sections: Mapping[str, Any],
    *,
    device: Device,
    launch: Launch,
    pictures: int | None,
) -> StagePlan:
    memory = encoding_memory(
        shapes,
        [size for size in part_sizes(blueprint) if size.part in ENCODERS],
        pictures=sections["features"].batch_size,
        heads=int(blueprint.encoders.sam.blocks[0].attn.num_heads),
        is_gpu=device.is_gpu,
    )
    work = None
    if pictures is not None:
        batches = -(-pictures // sections["features"].batch_size)
        work = Effort(batches, pictures, 0, pictures * effort.encoder_flops(blueprint))
    return StagePlan("features", {}, memory, work, _hours(work, device, launch))


def _training_stage(
    name: str, blueprint: Blueprint, shapes: Shapes, sections: Mapping[str, Any], *, device: Device, launch: Launch
) -> StagePlan:
    config: TrainConfig = sections[name]
    network: NetworkConfig = sections["network"]
    sizes = [size for size in part_sizes(blueprint, frozen=config.frozen) if size.part not in ENCODERS]
    setup = _setup(shapes, network, config, device=device, launch=launch)
    work = effort.training_effort(
        blueprint, shapes, network, config, gradient_checkpointing=launch.gradient_checkpointing
    )
    return StagePlan(
        name,
        {size.part: size.trainable for size in sizes if size.trainable},
        training_memory(shapes, sizes, setup, mines=network.dual_encoder),
        work,
        _hours(work, device, launch),
    )


def _setup(
    shapes: Shapes, network: NetworkConfig, config: TrainConfig, *, device: Device, launch: Launch
) -> TrainingSetup:
    return TrainingSetup(
        is_gpu=device.is_gpu,
        processes=launch.processes,
        zero_stage=launch.zero_stage,
        gradient_checkpointing=launch.gradient_checkpointing,
        micro_batch_size=config.micro_batch_size,
        # A dialogue may have max_tokens; a row that packs several average ones may be longer still.
        row_tokens=max(network.max_tokens, effort.mean_row_tokens(shapes, network, config)),
        row_targets=effort.row_targets(network, config),
        mask_side_px=config.mask_side_px or 4 * shapes.embedding_side,
        is_packed=config.dialogues_per_row > 1,
    )


def _hours(work: Effort | None, device: Device, launch: Launch) -> float | None:
    if work is None or device.flops is None:
        return None
    return work.hours(device.flops * launch.processes)


def _disk(
    sections: Mapping[str, Any],
    sizes: list[PartSize],
    stages: list[StagePlan],
    shapes: Shapes,
    *,
    launch: Launch,
    pictures: int | None,
) -> dict[str, int]:
    backbones: BackbonesConfig = sections["backbones"]
    paths: Paths = sections["paths"]
    learned = sum(size.trainable for size in sizes)
    expected = {"features": disk.feature_bytes(shapes, pictures=pictures or 0)}
    if backbones.public is not None:
        expected["weights to download"] = disk.public_weights(backbones.public, sizes)
    else:
        expected["backbones"] = 4 * sum(size.total for size in sizes)
    for stage in stages[1:]:
        trainable = sum(stage.trainable.values())
        expected[stage.name] = disk.stage_bytes(learned=learned, trainable=trainable)
    places = {"features": paths.features, "backbones": paths.backbones}
    needed = disk.still_needed(expected, places)
    copied = ("features", "backbones")
    needed["DVC's copies"] = sum(needed.get(part, 0) for part in copied) + len(stages[1:]) * learned * 4
    return needed


def _memory_problems(found: Plan, shapes: Shapes, sections: Mapping[str, Any], launch: Launch) -> Iterator[str]:
    for stage in found.stages:
        if stage.memory_bytes <= found.device.memory_bytes:
            continue
        largest = sorted(stage.memory.items(), key=lambda item: -item[1])[:4]
        changes = (
            _features_changes(stage, found, sections)
            if stage.name == "features"
            else _training_changes(stage, found, shapes, sections, launch)
        )
        yield (
            f"{found.source}: {stage.name}: needs {stage.memory_bytes / GB:.1f} GB of memory per process, but "
            f"{found.device.name} gives {found.device.memory_bytes / GB:.1f} GB to each of {found.processes}. "
            f"Most of it: {', '.join(f'{part} {size / GB:.1f}' for part, size in largest)}.\n"
            f"  Change (with the memory it leads to): {'; '.join(changes)}."
        )


def _features_changes(stage: StagePlan, found: Plan, sections: Mapping[str, Any]) -> list[str]:
    constant = ("encoder weights", "CUDA context", "process")
    fixed = (1 + FRAGMENTATION) * sum(stage.memory.get(part, 0) for part in constant)
    per_picture = (stage.memory_bytes - fixed) / sections["features"].batch_size
    fits = int((found.device.memory_bytes - fixed) / per_picture)
    if fits >= 1:
        return [f"features.batch_size: {fits} -> {(fixed + fits * per_picture) / GB:.1f} GB"]
    return [f"a smaller SAM or a device with {(fixed + per_picture) / GB:.0f} GB"]


def _training_changes(
    stage: StagePlan, found: Plan, shapes: Shapes, sections: Mapping[str, Any], launch: Launch
) -> list[str]:
    """Settings that would make a stage fit, each alone, else all together."""
    config: TrainConfig = sections[stage.name]
    network: NetworkConfig = sections["network"]
    setup = _setup(shapes, network, config, device=found.device, launch=launch)
    sizes = [
        replace(size, trainable=stage.trainable.get(size.part, 0)) for size in found.sizes if size.part not in ENCODERS
    ]

    def needs(**changes: Any) -> float:
        return sum(training_memory(shapes, sizes, replace(setup, **changes), mines=network.dual_encoder).values())

    def fits(**changes: Any) -> bool:
        return needs(**changes) <= found.device.memory_bytes

    smaller = (size for size in range(config.micro_batch_size - 1, 0, -1) if config.micro_batch_size % size == 0)
    batch = next((size for size in smaller if fits(micro_batch_size=size)), None)
    options: list[tuple[str, dict[str, Any]]] = [
        ("gradient_checkpointing: true (launch profile)", {"gradient_checkpointing": True}),
        *((f"zero_stage: {zero} (launch profile)", {"zero_stage": zero}) for zero in (2, 3) if setup.processes > 1),
        *([(f"{stage.name}.micro_batch_size: {batch}", {"micro_batch_size": batch})] if batch else []),
    ]
    fitting = [f"{name} -> {needs(**changes) / GB:.1f} GB" for name, changes in options if fits(**changes)]
    if fitting:
        return fitting
    everything: dict[str, Any] = {"gradient_checkpointing": True, "micro_batch_size": 1}
    if setup.processes > 1:
        everything["zero_stage"] = 3
    together = " with ".join(f"{name}: {value}" for name, value in everything.items())
    least = needs(**everything)
    if least <= found.device.memory_bytes:
        return [f"{together} -> {least / GB:.1f} GB"]
    hints = [f"even {together} needs {least / GB:.1f} GB: take a larger device, more processes with zero_stage 3"]
    if network.language_training == "full":
        hints.append("network.language_training: lora")
    return [*hints, "a smaller model in backbones, fewer network.max_tokens or dialogues_per_row"]


def _disk_problems(found: Plan) -> Iterator[str]:
    needed = sum(found.disk.values())
    if needed <= found.free_bytes:
        return
    largest = sorted(found.disk.items(), key=lambda item: -item[1])[:3]
    yield (
        f"{found.source}: needs {needed / GB:.1f} GB more on disk, but {found.free_bytes / GB:.1f} GB are free. "
        f"Most of it: {', '.join(f'{part} {size / GB:.1f}' for part, size in largest)}.\n"
        "  Free space, put `paths` on a larger disk, lower ingest.max_pictures or the grid of the second encoder, or "
        "let DVC link instead of copy (`dvc config cache.type hardlink,symlink`)."
    )
