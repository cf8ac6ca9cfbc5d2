"""Training speed and memory: `python -m benchmarks.train [--quick] [--device cpu|cuda] [--size tiny|7b|rehearsal]`.

All in one run, on the same dialogues about rendered scenes, with random weights; every step learns (forward, backward,
clipping, AdamW). Our step is the product's: stored features, packed rows grouped by length, cross-entropy on
supervised tokens, all masks in one call. It is timed against itself with the encoders in the step, against itself with
one dialogue per row, and against a plain LISA-style step (`benchmarks.plain_lisa`); the text loss also alone, against
logits of all positions. All sides take as many rows through a forward pass, so ours takes more dialogues. Making the
batches from dialogues counts, but for the plain step, which finds its own ready. Sides take turns, values are medians;
processor time beside wall time tells of a busy machine.

Sizes: `tiny` is presets/tiny.yaml; `7b` is presets/paper.yaml (LLaVA-1.5-7B, ViT-H, ConvNeXt-L; needs CUDA, about 60 GB
for both sides) in bfloat16 with LoRA and gradient checkpointing, over several batch sizes; `rehearsal` takes the path
of `7b` with the backbones of `tiny`. Peak memory: parameters, optimiser and what a step adds to them at its highest.
It says nothing about how well the network learns, about data loader workers, or about several processes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_lisa import EncodingStore, PlainBatch, PlainLisa, all_logits_cross_entropy, plain_batch
from benchmarks.report import Cost, compare, device_name, measure, publish
from benchmarks.report import Row as Measure
from benchmarks.train_setup import (
    DIALOGUES_PER_ROW,
    SCALES,
    Data,
    Model,
    Passes,
    Scale,
    Settings,
    make_collator,
    make_data,
    make_model,
    packed_rows,
    read_settings,
    unpacked,
    write_store,
)
from miras.errors import ConfigError
from miras.launch.profiles import read_launch
from miras.model.allocator import keep_freed_memory
from miras.model.blueprint import draw_blueprint
from miras.model.devices import to_device
from miras.model.features import FeatureStore
from miras.model.losses import LossWeights, text_cross_entropy
from miras.plan.device import CPU_UTILISATION, GPU_UTILISATION, find_device
from miras.plan.effort import language_flops
from miras.plan.memory import shapes_of
from miras.train.collate import Collator
from miras.train.collate import count as count_rows
from miras.train.loop import loss_weights
from miras.train.mixture import Row

T = TypeVar("T")
TITLES = {
    "encoders in the step": "features stored, not computed in the step",
    "one dialogue per row": "rows packed and grouped by length, not one dialogue per row as they come",
    "plain": "whole step, not a plain LISA-style one",
}
PUBLISHED_VOCABULARY = 32_000  # of LLaMA; the mini tokenizer has a twentieth of it
LEAST_RATIO = 3.0  # promised, of our step to the plain one
SMALL_GPU_GB = 24
LOSS_ROWS = 8  # whose text loss is measured alone


@dataclass(frozen=True)
class Side:
    """A way to do the same step."""

    run: Callable[[], None]
    model: Model
    padded: list[tuple[int, int]]
    """Per pass its rows and the tokens of each, padding included."""
    has_encoders: bool
    """Whether the frozen encoders are in memory."""

    def held_bytes(self) -> int:
        """What is in memory between steps."""
        return self.model.held_bytes(with_encoders=self.has_encoders)


def make_sides(
    settings: Settings, data: Data, ours: Model, plain: Model, store: FeatureStore, *, count: int, per_pass: int
) -> dict[str, Side]:
    """The four ways to do a step on the dialogues of `count` packed rows, `per_pass` rows at a time."""
    weights, clip_norm = loss_weights(settings.stage2), settings.stage2.clip_norm
    rows = packed_rows(settings, data, count)
    single = unpacked(rows)
    stored = make_collator(settings, data, ours, store)
    encoding = make_collator(settings, data, ours, EncodingStore(ours.encoders, data.pictures, ours.encoder_dtype))
    lisa = PlainLisa(plain.network, plain.encoders)
    batches = [
        plain_batch(
            chosen,
            stored.token_rows(chosen),
            pictures=data.pictures,
            regions=data.regions,
            encoders=plain.encoders,
            dtype=plain.encoder_dtype,
        )
        for chosen in in_parts(single, per_pass)
    ]
    batches = [
        replace(to_device(batch, plain.device), masks=[each.to(plain.device) for each in batch.masks])
        for batch in batches
    ]

    def plain_passes() -> Iterator[Callable[[], Tensor]]:
        for batch in batches:
            yield partial(plain_loss, batch)

    def plain_loss(batch: PlainBatch) -> Tensor:
        with plain.precision():
            return lisa.loss(batch, weights) / len(batches)

    def product(collator: Collator, rows: list[Row], *, is_grouped: bool = True) -> Passes:
        return partial(product_passes, ours, collator, rows, per_pass=per_pass, is_grouped=is_grouped, weights=weights)

    def side(model: Model, passes: Passes, rows: list[Row], *, has_encoders: bool = False) -> Side:
        lengths = sorted(len(row.ids) for row in stored.token_rows(rows))
        if model is ours:
            longest = [max(part) for part in in_parts(lengths, per_pass)]
        else:
            longest = [batch.ids.shape[1] for batch in batches]
        sizes = [len(part) for part in in_parts(rows, per_pass)]
        padded = list(zip(sizes, longest, strict=True))
        return Side(partial(model.step, passes, clip_norm=clip_norm), model, padded, has_encoders)

    return {
        "ours": side(ours, product(stored, rows), rows),
        "encoders in the step": side(ours, product(encoding, rows), rows, has_encoders=True),
        "one dialogue per row": side(ours, product(stored, single, is_grouped=False), single),
        "plain": side(plain, plain_passes, single, has_encoders=True),
    }


def product_passes(
    model: Model, collator: Collator, rows: list[Row], *, per_pass: int, is_grouped: bool, weights: LossWeights
) -> Iterator[Callable[[], Tensor]]:
    """The losses of a step as the training loop takes them (`miras.train.loop`), one pass at a time.

    Args:
        model: the product's.
        collator: of its batches.
        rows: of the step.
        per_pass: rows in a pass.
        is_grouped: rows of like length together; else as they come.
        weights: of the losses.
    """
    built = collator.token_rows(rows)
    order = sorted(range(len(rows)), key=lambda place: len(built[place].ids) if is_grouped else place)
    parts = in_parts(order, per_pass)
    counts = count_rows(built, shares=len(parts))

    def loss(mine: list[int]) -> Tensor:
        batch = collator([rows[place] for place in mine], [built[place] for place in mine], counts=counts)
        with model.precision():
            return model.network(to_device(batch, model.device), weights).total / len(parts)

    for part in parts:
        yield partial(loss, part)


def in_parts(values: list[T], size: int) -> list[list[T]]:
    """The values in lists of `size`, the last one maybe shorter."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def step_measures(sides: Mapping[str, Side], costs: Mapping[str, Cost], *, per_pass: int) -> list[Measure]:
    """Our step beside each of the others."""
    dialogues = num_dialogues(sides)
    batch = f", {dialogues} dialogues in a step, {per_pass} rows in a pass"
    held = {name: side.held_bytes() for name, side in sides.items()}
    speed = {name: dialogues / cost.wall_s for name, cost in costs.items()}
    cpu_ms = {name: 1000 * cost.cpu_s / dialogues for name, cost in costs.items()}
    peak_gb = {name: (held[name] + cost.bytes) / 1e9 for name, cost in costs.items()}
    found = []
    for name, title in TITLES.items():
        found.append(
            compare(
                f"{title}{batch}: speed",
                ours=speed.get("ours"),
                other=speed.get(name),
                unit="dialogues/s",
                more_is_better=True,
            )
        )
        for what, unit, values in (("processor time", "ms/dialogue", cpu_ms), ("peak memory", "GB", peak_gb)):
            found.append(compare(f"{title}{batch}: {what}", ours=values.get("ours"), other=values.get(name), unit=unit))
    return found


def num_dialogues(sides: Mapping[str, Side]) -> int:
    """Of a step, the same on all sides."""
    return sum(rows for rows, _ in sides["plain"].padded)


def loss_measures(
    settings: Settings, data: Data, model: Model, store: FeatureStore, *, count: int, repetitions: int
) -> list[Measure]:
    """The text loss alone, forward and backward: supervised rows against logits of all positions."""
    rows, collator = packed_rows(settings, data, count), make_collator(settings, data, model, store)
    batch = to_device(collator(rows, collator.token_rows(rows)), model.device)
    with torch.no_grad(), model.precision():
        states = model.network.forward_logits(batch)[0]
    heads = {model.network.text_output.weight.shape[0]: model.network.text_output}
    if max(heads) < PUBLISHED_VOCABULARY:
        large = nn.Linear(states.shape[-1], PUBLISHED_VOCABULARY, bias=False, device=model.device)
        heads[PUBLISHED_VOCABULARY] = large
    found = []
    for vocabulary, head in heads.items():

        def learn(loss: Callable[..., Tensor], head: nn.Module = head) -> None:
            leaf = states.detach().requires_grad_()
            with model.precision():
                value = loss(leaf[:, :-1], head, batch.labels[:, 1:])
            value.backward()
            head.zero_grad()

        sides = {
            "gathered": partial(learn, partial(text_cross_entropy, chunks=batch.text_chunks)),
            "all": partial(learn, all_logits_cross_entropy),
        }
        costs = measure(sides, device=model.device, repetitions=repetitions)
        title = f"text loss on supervised tokens, not logits of all, vocabulary {vocabulary}"
        values = {
            "time": ("ms", {name: 1000 * cost.wall_s for name, cost in costs.items()}),
            "processor time": ("ms", {name: 1000 * cost.cpu_s for name, cost in costs.items()}),
            "peak memory": ("MB", {name: cost.bytes / 1e6 for name, cost in costs.items()}),
        }
        for what, (unit, of) in values.items():
            found.append(compare(f"{title}: {what}", ours=of.get("gathered"), other=of.get("all"), unit=unit))
    return found


def best_measure(sides: Mapping[int, Mapping[str, Side]], costs: Mapping[int, Mapping[str, Cost]]) -> Measure:
    """The promise: whole steps, each side with as many rows in a pass as suit it."""
    best = {
        name: max(
            (num_dialogues(sides[rows]) / of[name].wall_s for rows, of in costs.items() if name in of), default=None
        )
        for name in ("ours", "plain")
    }
    return compare(
        f"{TITLES['plain']}, each with its best number of rows in a pass: speed",
        ours=best["ours"],
        other=best["plain"],
        unit="dialogues/s",
        more_is_better=True,
        least_ratio=LEAST_RATIO,
    )


def equal_dialogues_measures(
    sides: Mapping[int, Mapping[str, Side]], costs: Mapping[int, Mapping[str, Cost]]
) -> list[Measure]:
    """Peak memory where passes of all sides hold as many dialogues: ours in fewer, packed rows."""
    found = []
    for rows in sides:
        single = rows * DIALOGUES_PER_ROW
        for name in ("one dialogue per row", "plain"):
            if single in sides:
                gb = [
                    (sides[count][side].held_bytes() + costs[count][side].bytes) / 1e9 if side in costs[count] else None
                    for count, side in ((rows, "ours"), (single, name))
                ]
                title = f"{TITLES[name]}, {single} dialogues in a pass: peak memory"
                found.append(compare(title, ours=gb[0], other=gb[1], unit="GB"))
    return found


def fitting_measure(sides: Mapping[int, Mapping[str, Side]], costs: Mapping[int, Mapping[str, Cost]]) -> Measure:
    """How many rows a pass can have on a small GPU; ours are packed, so that each holds several dialogues."""
    fits = {
        name: max(
            (
                rows
                for rows, of in costs.items()
                if name in of and sides[rows][name].held_bytes() + of[name].bytes <= SMALL_GPU_GB * 1e9
            ),
            default=0,
        )
        for name in ("ours", "plain")
    }
    found = compare(
        f"most rows in a pass within {SMALL_GPU_GB} GB",
        ours=fits["ours"],
        other=fits["plain"],
        unit="rows",
        more_is_better=True,
    )
    return replace(found, target="ours >= 1", met=fits["ours"] >= 1)


def utilisation(
    settings: Settings, sides: Mapping[int, Mapping[str, Side]], costs: Mapping[int, Mapping[str, Cost]]
) -> list[Measure]:
    """Each side's own operations a second, without those that checkpointing repeats, as a share of the device's peak.

    The plain side may use the device better and still be slower: operations that ours saves count as well.
    """
    device = find_device(read_launch())
    if device.flops is None:
        print(f"utilisation is not measured: the peak of {device.name} is not known")
        return []
    peak = device.flops / (GPU_UTILISATION if device.is_gpu else CPU_UTILISATION)
    blueprint = draw_blueprint(settings.backbones, settings.network)
    shapes = shapes_of(blueprint)
    found = []
    for rows, of in costs.items():
        shares: dict[str, float] = {}
        for name in of.keys() & {"ours", "plain"}:
            side = sides[rows][name]
            with FlopCounterMode(display=False) as counter:
                side.run()
            repeated = sum(count * language_flops(blueprint, shapes, tokens=tokens) for count, tokens in side.padded)
            shares[name] = 100 * (counter.get_total_flops() - repeated) / of[name].wall_s / peak
        title = f"utilisation (MFU), {rows} rows in a pass"
        values = {"ours": shares.get("ours"), "other": shares.get("plain")}
        found.append(compare(title, **values, unit="% of peak", more_is_better=True))
    return found


def run(scale: Scale, *, device: torch.device, is_quick: bool) -> list[Measure]:
    """All rows of one size."""
    keep_freed_memory()
    torch.set_flush_denormal(True)
    settings = read_settings(scale)
    steps, repetitions = (scale.quick_steps, 3) if is_quick else (scale.steps, 5)
    data = make_data(settings, pictures=2 * max(count for count, _ in steps), picture_px=scale.picture_px)
    ours, plain = (
        make_model(settings, data.tokenizer, device=device, is_bf16=scale.is_bf16, is_plain=is_plain)
        for is_plain in (False, True)
    )
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder), ours, data.pictures)
        sides: dict[int, dict[str, Side]] = {}
        costs: dict[int, dict[str, Cost]] = {}
        found: list[Measure] = []
        for count, per_pass in steps:
            made = make_sides(settings, data, ours, plain, store, count=count, per_pass=per_pass)
            print(f"{num_dialogues(made)} dialogues, {per_pass} rows in a pass", flush=True)
            calls = {name: side.run for name, side in made.items()}
            sides[per_pass], costs[per_pass] = made, measure(calls, device=device, repetitions=repetitions)
            found += step_measures(made, costs[per_pass], per_pass=per_pass)
        found += [best_measure(sides, costs), *equal_dialogues_measures(sides, costs)]
        if settings.network.language_training == "lora":
            found += [fitting_measure(sides, costs), *utilisation(settings, sides, costs)]
        count = min(LOSS_ROWS, max(sides))
        return found + loss_measures(settings, data, ours, store, count=count, repetitions=repetitions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description="Training speed and memory.")
    parser.add_argument("--quick", action="store_true", help="a minute's version: smaller steps, fewer of them")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--size", choices=tuple(SCALES), help="default: 7b on cuda, tiny on cpu")
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    default = "7b" if device.type == "cuda" else "tiny"
    size = chosen.size or default
    try:
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError("--device cuda: torch finds no CUDA device here. Leave the option out to run on the CPU.")
        if size == "7b" and device.type == "cpu":
            raise ConfigError("--size 7b: needs a CUDA device. Take --size rehearsal to try its path on a CPU.")
    except ConfigError as error:
        parser.error(str(error))
    rows = run(SCALES[size], device=device, is_quick=chosen.quick)
    name = "train" if size == default else f"train-{size}"
    publish(name, device_name(device), rows, is_quick=chosen.quick)


if __name__ == "__main__":
    main()
