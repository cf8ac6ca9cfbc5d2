"""A plan as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miras.plan.device import GB
from miras.plan.planning import Plan, StagePlan


def render(plan: Plan) -> str:
    """The plan as tables: parameters, memory, work, disk. Estimates are marked with ~."""
    return "\n".join([*_parameters(plan), "", *_memory(plan), "", *_work(plan), "", *_disk(plan)])


def _parameters(plan: Plan) -> Iterator[str]:
    training = [stage for stage in plan.stages if stage.trainable]
    rows = [
        [size.part, _count(size.total), *(_count(stage.trainable.get(size.part, 0)) for stage in training)]
        for size in plan.sizes
    ]
    total = [_count(sum(size.total for size in plan.sizes))]
    total += [_count(sum(stage.trainable.values())) for stage in training]
    yield f"{plan.source} on {plan.processes} x {plan.device.name} ({plan.device.memory_bytes / GB:.1f} GB each)"
    yield ""
    yield from _table(
        ["parameters", "all", *(f"{stage.name} trains" for stage in training)], [*rows, ["total", *total]]
    )


def _memory(plan: Plan) -> Iterator[str]:
    parts = list(dict.fromkeys(part for stage in plan.stages for part in stage.memory))
    rows = [[part, *(_gb(stage.memory.get(part, 0)) for stage in plan.stages)] for part in parts]
    rows = [row for row in rows if any(row[1:])]
    total = ["total", *(_gb(stage.memory_bytes) for stage in plan.stages)]
    yield from _table(["memory per process, ~GB", *(stage.name for stage in plan.stages)], [*rows, total])
    yield f"(with encoders in memory in place of stored features: {plan.encoder_bytes / GB:.2f} GB, and activations)"


def _work(plan: Plan) -> Iterator[str]:
    rows = [[stage.name, *_work_cells(stage)] for stage in plan.stages]
    yield from _table(["work", "steps", "samples", "~tokens per row", "~PFLOP", "~hours"], rows)
    yield f"(speed of a process: {plan.device.speed_from})"


def _work_cells(stage: StagePlan) -> list[str]:
    if stage.effort is None:
        return ["unknown"] * 5
    hours = "unknown" if stage.hours is None else f"{stage.hours:,.2f}"
    tokens = str(stage.effort.row_tokens) if stage.effort.row_tokens else ""
    return [f"{stage.effort.steps:,}", f"{stage.effort.samples:,}", tokens, f"{stage.effort.flops / 1e15:,.1f}", hours]


def _disk(plan: Plan) -> Iterator[str]:
    pictures = "an unknown number of" if plan.pictures is None else f"{plan.pictures:,}"
    rows = [[part, f"{size / GB:.2f}"] for part, size in plan.disk.items() if size]
    total = ["total", f"{sum(plan.disk.values()) / GB:.2f}"]
    yield from _table(
        [f"disk, GB more ({pictures} pictures)", ""], [*rows, total, ["free", f"{plan.free_bytes / GB:.2f}"]]
    )
    if plan.pictures is None:
        yield "(features are not counted: the pictures are not here yet; give their number)"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for number, row in enumerate([header, *rows]):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:,.2f} M" if parameters else ""


def _gb(size: float) -> str:
    return f"{size / GB:.2f}" if size else ""
