"""Speed of the data factory: `python -m benchmarks.generate [--quick]`.

- the annotated teacher: dialogues a second of one core on rendered scenes, rendering not counted;
- the language model client: see `benchmarks.llm_client`;
- reading a table of dialogues: time and memory of our stream beside `json.load` of the same records in one list, and of
  a table a hundred times as long (quick: five times);
- masks: run-length encoding and decoding beside pycocotools called by hand;
- the stage `check`: dialogues a second of a long table beside a short one (1: time grows with the length alone).

Memory is the peak of a process of its own less that of one which only imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from benchmarks import llm_client
from benchmarks.report import Row, compare, device_name, publish
from miras.annotate.agreement import summarise
from miras.annotate.stage import AGREEMENT
from miras.config import parse_sections, read_yaml
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region
from miras.files import read_records, write_json, write_records
from miras.generate.annotated import part_names, write_about
from miras.generate.config import GenerateConfig
from miras.generate.phrases import identify
from miras.paths import Paths
from miras.quality.config import CheckConfig
from miras.sources import scenes

PRESET = Path(__file__).parent.parent / "presets" / "tiny.yaml"
LEAST_PER_SECOND = 1000.0  # promised, dialogues of the annotated teacher per core
MASKS = 200
REPETITIONS = 5


def rows(*, is_quick: bool) -> list[Row]:
    """All measures."""
    count = 200 if is_quick else 1000
    pictures = list(named_scenes(count))
    written = dialogues_of(pictures)
    found = [teacher_row(pictures), *llm_client.rows(is_quick=is_quick)]
    short, long = (10_000, 50_000) if is_quick else (10_000, 1_000_000)
    found += reading_rows(written, short=short, long=long)
    found += mask_rows()
    short, long = (2_000, 10_000) if is_quick else (10_000, 100_000)
    return [*found, check_row(pictures, written, short=short, long=long)]


# --- the teacher


def named_scenes(count: int) -> Iterator[tuple[Picture, list[Region]]]:
    """Scenes with phrases, as `ingest` makes them."""
    for source in scenes.read(count=count, size_px=128, seed=0):
        phrases = identify(source.regions)
        regions = [
            region.model_copy(update={"phrase": phrases.get(region.region_id, region.category)})
            for region in source.regions
        ]
        picture = Picture(
            image_id=source.image_id, file_name="", height=128, width=128, sha256=source.image_id, source="scenes"
        )
        yield picture, regions


def dialogues_of(pictures: list[tuple[Picture, list[Region]]]) -> list[Dialogue]:
    """What the annotated teacher writes with the settings of `tiny`."""
    config = parse_sections(
        {"generate": read_yaml(PRESET)["generate"]}, {"generate": GenerateConfig}, source=str(PRESET)
    )["generate"]
    parts: dict[str, frozenset[str]] = {}
    for _, regions in pictures:
        parts |= {name: parts.get(name, frozenset()) | found for name, found in part_names(regions).items()}
    return [
        dialogue
        for picture, regions in pictures
        for dialogue in write_about(picture.image_id, regions, scenes.CATEGORIES, config, parts=parts).dialogues
    ]


def teacher_row(pictures: list[tuple[Picture, list[Region]]]) -> Row:
    """Dialogues a second of processor time."""
    began = time.process_time()
    written = dialogues_of(pictures)
    speed = len(written) / (time.process_time() - began)
    row = compare("annotated teacher on rendered scenes, one core", ours=speed, other=None, unit="dialogues/s")
    return replace(row, target=f"ours >= {LEAST_PER_SECOND:g}", met=speed >= LEAST_PER_SECOND)


# --- reading


def reading_rows(written: list[Dialogue], *, short: int, long: int) -> list[Row]:
    """Time and memory of reading tables of two lengths, streamed and whole."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {count: folder / f"{count}.jsonl" for count in (short, long)}
        for count, path in tables.items():
            write_records(path, repeated(written, count))
        whole = folder / "whole.json"
        whole.write_text(
            "[" + ",".join(line for line in tables[short].read_text("utf-8").splitlines()) + "]", encoding="utf-8"
        )
        nothing_mb = reading("nothing", whole)[1]
        stream_s, stream_mb = reading("stream", tables[short])
        list_s, list_mb = reading("list", whole)
        long_s, long_mb = reading("stream", tables[long])
    title = f"reading {short} dialogues as a stream of records, not as one JSON list"
    longer = f"reading {long} dialogues, not {short}"
    return [
        compare(f"{title}: time per dialogue", ours=1e6 * stream_s / short, other=1e6 * list_s / short, unit="us"),
        compare(f"{title}: memory", ours=stream_mb - nothing_mb, other=list_mb - nothing_mb, unit="MB"),
        compare(f"{longer}: time per dialogue", ours=1e6 * long_s / long, other=1e6 * stream_s / short, unit="us"),
        compare(f"{longer}: memory", ours=long_mb - nothing_mb, other=stream_mb - nothing_mb, unit="MB"),
    ]


def repeated(written: list[Dialogue], count: int) -> Iterator[Dialogue]:
    """`count` dialogues under ids of their own, of other pictures each time round."""
    for number in range(count):
        turn, place = divmod(number, len(written))
        dialogue = written[place]
        yield dialogue.model_copy(
            update={
                "dialogue_id": f"{turn}-{dialogue.dialogue_id}",
                "image_id": f"{turn}-{dialogue.image_id}",
                "turns": tuple(
                    turn_of.model_copy(
                        update={
                            "targets": tuple(f"{turn}-{target}" for target in turn_of.targets),
                            "points_at": tuple(f"{turn}-{target}" for target in turn_of.points_at),
                        }
                    )
                    for turn_of in dialogue.turns
                ),
            }
        )


def reading(how: str, path: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of reading a file in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.generate", "--read", how, str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seconds, peak_mb = output.split()[-2:]
    return float(seconds), float(peak_mb)


def read(how: str, path: Path) -> None:
    """What `reading` starts."""
    began = time.perf_counter()
    if how == "stream":
        assert sum(1 for _ in read_records(path, Dialogue))
    elif how == "list":
        assert [Dialogue.model_validate(record) for record in json.loads(path.read_text("utf-8"))]
    seconds = time.perf_counter() - began
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# --- masks


def mask_rows() -> list[Row]:
    """Our masks beside pycocotools called by hand, on ellipses of 640 x 480 px."""
    rows_px, columns_px = np.mgrid[:480, :640]
    dice = np.random.default_rng(0)
    drawn = []
    for _ in range(MASKS):
        y, x, height, width = dice.uniform((100, 100, 20, 20), (380, 540, 100, 100))
        drawn.append(((rows_px - y) / height) ** 2 + ((columns_px - x) / width) ** 2 < 1)
    coded = [masks.encode(mask) for mask in drawn]
    plain = [{"size": list(rle.size), "counts": rle.counts.encode()} for rle in coded]
    encode = compare_calls(
        "encoding a mask of 640 x 480 px, beside pycocotools",
        ours=lambda: [masks.encode(mask) for mask in drawn],
        other=lambda: [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in drawn],
    )
    decode = compare_calls(
        "decoding it, beside pycocotools",
        ours=lambda: [masks.decode(rle) for rle in coded],
        other=lambda: [coco_mask.decode(rle).astype(bool) for rle in plain],
    )
    return [encode, decode]


def compare_calls(measure: str, *, ours: Callable[[], object], other: Callable[[], object]) -> Row:
    """Median microseconds of processor time per mask; the sides take turns."""
    times: dict[str, list[float]] = {"ours": [], "other": []}
    for _ in range(REPETITIONS):
        for name, call in (("ours", ours), ("other", other)):
            began = time.process_time()
            call()
            times[name].append(1e6 * (time.process_time() - began) / MASKS)
    return compare(
        measure, ours=float(np.median(times["ours"])), other=float(np.median(times["other"])), unit="us/mask"
    )


# --- the checks


def check_row(pictures: list[tuple[Picture, list[Region]]], written: list[Dialogue], *, short: int, long: int) -> Row:
    """Dialogues a second through the stage `check`."""
    speed = {}
    for count in (short, long):
        with tempfile.TemporaryDirectory() as name:
            store(Path(name), pictures, written, count)
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "benchmarks.generate", "--check", name], check=True)
            speed[count] = count / (time.perf_counter() - began)
    return compare(
        f"checking {long} dialogues, not {short}",
        ours=speed[long],
        other=speed[short],
        unit="dialogues/s",
        more_is_better=True,
    )


def store(folder: Path, pictures: list[tuple[Picture, list[Region]]], written: list[Dialogue], count: int) -> None:
    """What the stages before `check` would have written: `count` dialogues."""
    paths = paths_in(folder)
    turns = range(-(-count // len(written)))
    write_records(
        paths.picture_table,
        (
            picture.model_copy(update={"image_id": f"{turn}-{picture.image_id}", "sha256": f"{turn}{picture.sha256}"})
            for turn in turns
            for picture, _ in pictures
        ),
    )
    write_records(
        paths.annotated_regions,
        (
            region.model_copy(
                update={
                    "region_id": f"{turn}-{region.region_id}",
                    "image_id": f"{turn}-{region.image_id}",
                    "parent_id": f"{turn}-{region.parent_id}" if region.parent_id else None,
                }
            )
            for turn in turns
            for _, regions in pictures
            for region in regions
        ),
    )
    write_records(paths.annotated_dialogues, repeated(written, count))
    write_json(Path(paths.annotate) / AGREEMENT, summarise(()))


def paths_in(folder: Path) -> Paths:
    """Every stage's folder below this one."""
    return Paths(**{name: str(folder / name) for name in Paths.model_fields})


def check(folder: Path) -> None:
    """What `check_row` starts."""
    from miras.quality.stage import run

    config = parse_sections({"check": read_yaml(PRESET)["check"]}, {"check": CheckConfig}, source=str(PRESET))["check"]
    run(paths=paths_in(folder), work=folder / "work", check=config)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description="Speed of the data factory.")
    parser.add_argument("--quick", action="store_true", help="a minute's version")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--check", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.read:
        read(chosen.read[0], Path(chosen.read[1]))
    elif chosen.check:
        check(Path(chosen.check))
    else:
        found = rows(is_quick=chosen.quick)
        publish("generate", device_name(torch.device("cpu")), found, is_quick=chosen.quick)


if __name__ == "__main__":
    main()
