"""Do the papers' orderings show here? Networks that differ in one setting, on equal data and steps, several seeds.

    python -m benchmarks.orderings memory            one comparison (see `COMPARISONS`), every seed
    python -m benchmarks.orderings --seeds 3 --jobs 2 memory networks

Training is the product's own stages on rendered scenes (for `networks` on `benchmarks.lettered` ones). Scored are
generated answers (nothing is teacher-forced) about held-out pictures, in held-out wordings (sets "known ...": in those
of training). Everything is kept in `work/orderings`; what is there is not run again. Writes
`benchmarks/results/orderings-<comparison>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import lettered
from benchmarks.report import RESULTS, commit
from miras.config import parse_sections, read_yaml
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region
from miras.files import read_records, write_json
from miras.paths import Paths
from tasks import params

WORKSPACE = Path("work/orderings")
HELD_OUT = ("val", "test")
BOOTSTRAP_ROUNDS = 2000
GOOD_IOU = 0.5
# What is asked of held-out pictures, and what the answer is scored by.
SETS = {
    "direct": "names its target; mask",
    "reading": "names its target by what is written on it, its class alone would not do; mask",
    "telling": "asks what is written on it; words (P@.5 is the share of right answers)",
    "known reading": "as reading, in the wordings of training; mask",
    "known telling": "as telling, in the wordings of training; words",
    "same": "points at a mask: this one (copying); mask",
    "other": "points at a mask: the other of two (the hard split); mask",
}

Settings = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Arms that differ in settings alone."""

    arms: Mapping[str, Settings]
    """Name -> `section.key` -> value."""
    against: Sequence[tuple[str, str]]
    """Pairs of arms: what is gained from the first to the second."""
    sets: tuple[str, ...]
    data: str
    """Which pictures: a key of `DATA`."""
    shared: Settings
    """What all arms have."""


DATA: dict[str, Settings] = {
    "scenes": {},
    "lettered": {
        "ingest.sources": {"lettered": {"reader": "scenes", "count": 3000, "size_px": 256, "seed": 0}},
        "generate.queries_per_picture": 6,
        "generate.hard_pairs_per_picture": 0,
        "backbones.mini.convnext.image_size_px": 256,
        "backbones.mini.convnext.grid": 32,
        "backbones.mini.pretraining.steps": 2000,
        "backbones.mini.pretraining.batch_size": 8,
    },
}
COMPARISONS = {
    "memory": Comparison(
        {
            "none": {"network.mask_memory": "off", "network.reference_loss": False},
            "mask": {"network.mask_memory": "mask", "network.reference_loss": False},
            "box": {"network.mask_memory": "box", "network.reference_loss": False},
            "both": {"network.mask_memory": "both", "network.reference_loss": False},
            "both+reference": {"network.mask_memory": "both", "network.reference_loss": True},
        },
        against=[("none", "mask"), ("none", "box"), ("none", "both"), ("none", "both+reference")],
        sets=("same", "other", "direct"),
        data="scenes",
        shared={
            "network.dual_encoder": False,
            "network.region_alignment": "off",
            "stage1.mixture": {"semantic": 2, "referring": 3, "mrseg": 5},
            "stage2.mixture": {"referring": 1, "mrseg": 9},
            "stage1.steps": 1200,
            "stage2.steps": 1500,
            "stage2.dialogues_per_row": 6,
            "stage2.learning_rate": 0.0015,
            "stage2.flat_share": 0.4,
        },
    ),
    "networks": Comparison(
        {
            "lisa": {"network.dual_encoder": False, "network.region_alignment": "off"},
            "aligned": {"network.dual_encoder": False, "network.region_alignment": "full"},
            "dual": {"network.dual_encoder": True, "network.region_alignment": "off"},
            "half aligned": {"network.dual_encoder": True, "network.region_alignment": "half"},
            "miras": {"network.dual_encoder": True, "network.region_alignment": "full"},
        },
        against=[
            ("lisa", "miras"),
            ("lisa", "aligned"),
            ("dual", "half aligned"),
            ("dual", "miras"),
            ("lisa", "dual"),
            ("aligned", "miras"),
        ],
        sets=("direct", "reading", "known reading", "telling", "known telling"),
        data="lettered",
        shared={
            "stage1.mixture": {"semantic": 2, "referring": 5, "mrseg": 2, "vqa": 4},
            "stage2.mixture": {"semantic": 1, "referring": 5, "mrseg": 3, "vqa": 4},
            "stage1.dialogues_per_row": 4,
        },
    ),
    # one ability each, learnt alone, as copying was for the memory
    "letters": Comparison(
        {
            "lisa": {"network.dual_encoder": False},
            "dual": {"network.dual_encoder": True},
        },
        against=[("lisa", "dual")],
        sets=("known telling", "telling"),
        data="lettered",
        shared={
            "network.region_alignment": "off",
            "stage1.mixture": {"vqa": 1},
            "stage2.mixture": {"vqa": 1},
            "stage1.steps": 2000,
            "stage2.steps": 200,
        },
    ),
    "alignment": Comparison(
        {
            "off": {"network.region_alignment": "off"},
            "half": {"network.region_alignment": "half"},
            "full": {"network.region_alignment": "full"},
        },
        against=[("off", "half"), ("off", "full"), ("half", "full")],
        sets=("direct",),
        data="scenes",
        shared={
            "network.dual_encoder": False,
            "stage1.mixture": {"semantic": 2, "referring": 5},
            "stage2.mixture": {"semantic": 1, "referring": 2, "mrseg": 4},
            "stage1.steps": 1500,
            "stage2.steps": 600,
        },
    ),
}


def main() -> None:
    """Runs the comparisons named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orderings", description=__doc__.splitlines()[0])
    parser.add_argument("comparisons", nargs="*", metavar="COMPARISON", help=", ".join(COMPARISONS))
    parser.add_argument("--arms", nargs="*", help="only these arms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.KEY=JSON", help="settings of every arm")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_arm(json.loads(options.one))
        return
    extra = {key: json.loads(value) for key, _, value in (text.partition("=") for text in options.set)}
    for name in options.comparisons or list(COMPARISONS):
        prepare(COMPARISONS[name].data)
        compare(name, arms=options.arms, seeds=options.seeds, jobs=options.jobs, extra=extra)


# --- the shared part


def prepare(data: str) -> None:
    """Pictures, dialogues, backbones and features in the workspace, by the stages of the pipeline."""
    for stage in ("ingest", "generate", "check", "split", "backbones", "features"):
        done = WORKSPACE / data / "done" / stage
        if not done.exists():
            work = str(WORKSPACE / data / "work" / stage)
            threads = len(os.sched_getaffinity(0))
            _process({"stage": stage, "data": data, "settings": {}, "work": work}, threads=threads)
            done.parent.mkdir(parents=True, exist_ok=True)
            done.touch()


def sections(data: str, settings: Settings, *, output: Path) -> dict[str, Any]:
    """params.yaml's sections with settings, every path in the workspace, trained weights below `output`."""
    tree = read_yaml(params.PARAMS)
    for key, value in {**DATA[data], **settings}.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[name] = value
    tree["paths"] = {name: str(WORKSPACE / data / name) for name in Paths.model_fields}
    tree["paths"] |= {name: str(output / name) for name in ("stage1", "stage2")}
    classes = {name: params.load_object(where) for name, where in params.SECTIONS.items()}
    return parse_sections(tree, classes, source=f"{params.PARAMS} with {settings}")


def run_arm(request: dict[str, Any]) -> None:
    """In a process of its own: one stage, or the questions to a trained network."""
    from miras import stages
    from miras.sources import readers

    work = Path(request["work"])
    work.mkdir(parents=True, exist_ok=True)
    found = sections(request["data"], request["settings"], output=Path(request.get("output", WORKSPACE)))
    if request["data"] == "lettered":
        readers.READERS["scenes"] = lettered.read
    if request["stage"] == "ask":
        ask(found, request["sets"], Path(request["output"]))
        return
    stage = stages.STAGES[request["stage"]]
    run = params.load_object(stage.function)
    run(paths=found["paths"], work=work, **{name: found[name] for name in stage.sections})


def _process(request: dict[str, Any], *, threads: int = 1) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    log = Path(request["work"]).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.orderings", "--one", json.dumps(request)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{request['stage']} failed; see {log}:\n{log.read_text()[-1500:]}")


# --- the arms


def compare(name: str, *, arms: Sequence[str] | None, seeds: int, jobs: int, extra: Settings) -> None:
    """Every arm and seed of a comparison that is not there yet, then the table of all that are."""
    comparison = COMPARISONS[name]
    chosen = {arm: value for arm, value in comparison.arms.items() if not arms or arm in arms}
    wanted = [(arm, seed) for seed in range(seeds) for arm in chosen]

    def train_and_ask(place: tuple[str, int]) -> None:
        arm, seed = place
        output = WORKSPACE / name / f"{arm}-{seed}"
        if (output / "answers.json").exists():
            return
        settings = {**comparison.shared, **extra, **chosen[arm], "stage1.seed": seed, "stage2.seed": seed}
        for stage in ("stage1", "stage2", "ask"):
            if (output / stage).exists():
                continue
            request = {"stage": stage, "settings": settings, "sets": comparison.sets, "output": str(output)}
            request["data"] = comparison.data
            _process({**request, "work": str(output / "work" / stage)})
        print(f"{name}: {arm}, seed {seed}: {summary(json.loads((output / 'answers.json').read_text()))}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(train_and_ask, wanted))
    write_table(name, comparison)


def ask(found: Mapping[str, Any], sets: Sequence[str], output: Path) -> None:
    """Generated answers to held-out wordings about held-out pictures: intersections, unions and pictures per set."""
    from miras.model.records import Request
    from miras.model.responder import Responder, StoredPicture

    paths: Paths = found["paths"]
    pictures = {picture.image_id: picture for picture in read_records(paths.picture_table, Picture)}
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    responder = Responder.load(
        Path(paths.backbones),
        Path(paths.stage2),
        features=Path(paths.features),
        pictures={i: StoredPicture(paths.pictures / p.file_name, p.height, p.width) for i, p in pictures.items()},
    )
    answers: dict[str, dict[str, list[Any]]] = {}
    for name, dialogues in held_out_questions(paths, regions, found["generate"]).items():
        if name not in sets:
            continue
        answers[name] = {"picture": [], "intersection_px": [], "union_px": []}
        for start in range(0, len(dialogues), 32):
            batch = dialogues[start : start + 32]
            requests = [
                Request(
                    d.image_id, (), d.turns[0].question, (tuple(_pixels(regions[r]) for r in d.turns[0].points_at),)
                )
                for d in batch
            ]
            for dialogue, response in zip(batch, responder.respond(requests), strict=True):
                turn = dialogue.turns[0]
                if turn.targets:
                    target = np.logical_or.reduce([_pixels(regions[r]) for r in turn.targets])
                    predicted = np.logical_or.reduce([np.zeros_like(target), *(g.mask for g in response.groups)])
                else:  # words: one pixel, hit or missed
                    target = np.ones(1, bool)
                    predicted = np.array([_quoted(turn.answer) == _quoted(response.answer)])
                answers[name]["picture"].append(dialogue.image_id)
                answers[name]["intersection_px"].append(int((predicted & target).sum()))
                answers[name]["union_px"].append(int((predicted | target).sum()))
    write_json(output / "answers.json", answers)


def held_out_questions(paths: Paths, regions: Mapping[str, Region], config: Any) -> dict[str, list[Dialogue]]:
    """One-turn dialogues about pictures that are not trained on, by set; in held-out wordings but for "known ..."."""
    from miras.generate.annotated import part_names, write_about

    ids = {d.image_id for split in HELD_OUT for d in read_records(paths.split_dialogues(split), Dialogue)}
    of_picture: dict[str, list[Region]] = defaultdict(list)
    for region in regions.values():
        if region.image_id in ids:
            of_picture[region.image_id].append(region)
    classes = tuple(sorted({region.category for region in regions.values() if region.parent_id is None}))
    config = config.model_copy(
        update={"wording": "held_out", "mrseg_per_picture": 4, "hard_pairs_per_picture": 3, "seed": config.seed + 1}
    )
    found: dict[str, list[Dialogue]] = defaultdict(list)
    parts = part_names(regions.values())
    for image_id, here in sorted(of_picture.items()):
        found["reading"] += lettered.ask(here, "referring", is_held_out=True)
        found["telling"] += lettered.ask(here, "vqa", is_held_out=True)
        found["known reading"] += lettered.ask(here, "referring", is_held_out=False)
        found["known telling"] += lettered.ask(here, "vqa", is_held_out=False)
        for dialogue in write_about(image_id, here, classes, config, parts=parts).dialogues:
            first = dialogue.turns[0]
            if dialogue.kind != "mrseg" or len(first.targets) != 1 or "one of" in first.question:
                continue
            if "-hard-" in dialogue.dialogue_id:
                found["same" if "-hard-same-" in dialogue.dialogue_id else "other"].append(dialogue)
            elif not any(first == known.turns[0] for known in found["direct"][-8:]):
                found["direct"].append(dialogue.model_copy(update={"turns": (first,)}))
    return dict(found)


def _quoted(text: str) -> str:
    """What stands between the first quotation marks."""
    return [*text.split('"'), ""][1]


def _pixels(region: Region) -> np.ndarray:
    assert region.mask is not None
    return masks.decode(region.mask)


# --- the table


def summary(answers: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, dict[str, float]]:
    """P@.5 and cIoU in percent, per set."""
    return {name: {**_scores(_arrays(found)), "n": len(found["picture"])} for name, found in answers.items()}


def _arrays(found: Mapping[str, list[Any]]) -> np.ndarray:
    """[n, 2] intersections and unions in pixels."""
    return np.array([found["intersection_px"], found["union_px"]], float).T


def _scores(counts: np.ndarray) -> dict[str, float]:
    iou = counts[:, 0] / np.maximum(counts[:, 1], 1)
    return {
        "precision_at_50": round(100 * float((iou > GOOD_IOU).mean()), 1),
        "ciou": round(100 * float(counts[:, 0].sum() / counts[:, 1].sum()), 1),
    }


def write_table(name: str, comparison: Comparison) -> None:
    """Means over seeds, and what is gained from arm to arm with 95 % intervals over seeds and pictures."""
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for place in sorted((WORKSPACE / name).glob("*/answers.json")):
        arm, _, seed = place.parent.name.rpartition("-")
        found[arm][int(seed)] = json.loads(place.read_text())
    rows, gains = [], []
    for set_name in comparison.sets:
        for arm in comparison.arms:
            runs = found.get(arm, {})
            if not runs:
                continue
            scores = [_scores(_arrays(run[set_name])) for run in runs.values()]
            row: dict[str, Any] = {"set": set_name, "what": SETS[set_name], "arm": arm, "seeds": sorted(runs)}
            row["questions"] = len(next(iter(runs.values()))[set_name]["picture"])
            for key in ("precision_at_50", "ciou"):
                row[key] = [score[key] for score in scores]
                row[f"mean_{key}"] = round(float(np.mean(row[key])), 1)
            rows.append(row)
        for first, second in comparison.against:
            both = sorted(set(found.get(first, {})) & set(found.get(second, {})))
            if both:
                pairs = [[found[arm][seed][set_name] for seed in both] for arm in (first, second)]
                gains.append({"set": set_name, "from": first, "to": second, "seeds": both, **difference(*pairs)})
    stamp = {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    write_json(RESULTS / f"orderings-{name}.json", {**stamp, "comparison": name, "rows": rows, "gains": gains})
    for row in [*rows, *gains]:
        print({key: value for key, value in row.items() if key != "what"})


def difference(base: Sequence[Mapping[str, list[Any]]], other: Sequence[Mapping[str, list[Any]]]) -> dict[str, Any]:
    """Points that the other arm is better by, with a 95 % interval: seeds and pictures drawn anew, answers paired."""
    dice = np.random.default_rng(0)
    pictures = np.array(base[0]["picture"])
    names = np.unique(pictures)
    rows_of = [np.flatnonzero(pictures == name) for name in names]
    pairs = [(_arrays(a), _arrays(b)) for a, b in zip(base, other, strict=True)]
    drawn: dict[str, list[float]] = defaultdict(list)
    for _ in range(BOOTSTRAP_ROUNDS):
        chosen = np.concatenate([rows_of[i] for i in dice.integers(len(names), size=len(names))])
        seeds = dice.integers(len(pairs), size=len(pairs))
        sides = [np.concatenate([pairs[s][side][chosen] for s in seeds]) for side in (0, 1)]
        before, after = (_scores(side) for side in sides)
        for key in before:
            drawn[key].append(after[key] - before[key])
    means = [np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)]
    found: dict[str, Any] = {}
    for key in drawn:
        low, high = np.quantile(drawn[key], [0.025, 0.975])
        gain = _scores(means[1])[key] - _scores(means[0])[key]
        found[f"gain_{key}"] = [round(gain, 1), round(float(low), 1), round(float(high), 1)]
    return found


if __name__ == "__main__":
    main()
