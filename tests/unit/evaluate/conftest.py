"""A small workspace as the earlier stages leave it, and a model that answers from a script."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miras.card.section import EXAMPLES, STATISTICS
from miras.dialogue.masks import encode
from miras.dialogue.records import Dialogue, Picture, Region, Turn
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.models import Model, StageModel
from miras.evaluate.stage import evaluate_models
from miras.files import write_json, write_records
from miras.launch.local import LocalLaunch
from miras.model.records import Group, Request, Response
from miras.paths import Paths

HEIGHT, WIDTH = 24, 32
NUM_PICTURES = 4
BOXES = {"mug": (2, 2, 14, 10), "lamp": (18, 4, 30, 20), "handle": (12, 4, 14, 8)}  # x0, y0, x1, y1


class ScriptedModel:
    """Answers as its function says and remembers what it was asked: the boundary to the network."""

    def __init__(self, answer: Callable[[Request], Response]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.batch_sizes: list[int] = []

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        self.requests += requests
        self.batch_sizes.append(len(requests))
        return [self.answer(request) for request in requests]


def box_mask(name: str) -> np.ndarray:
    """The mask of one of `BOXES`."""
    x0, y0, x1, y1 = BOXES[name]
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def points_at(name: str, *, said: str | None = None) -> Response:
    """An answer with one mask."""
    phrase = said or name
    group = Group(phrase=phrase, mask=box_mask(name))
    return Response(answer=f"It is [OBJ]{phrase}[SEG].", groups=(group,), seconds=0.01)


def says(text: str) -> Response:
    """An answer without mask."""
    return Response(answer=text, groups=(), seconds=0.01)


def wants_mask(request: Request) -> bool:
    """Whether the question of the fixture's dialogues asks for a mask."""
    return "egment" in request.question


def make_paths() -> Paths:
    """The folders of the fixture."""
    names = {name: f"data/{name}" for name in Paths.model_fields}
    return Paths(**names)


def make_config(**changes: object) -> EvaluateConfig:
    """A configuration for the fixture."""
    values: dict[str, object] = {
        "max_dialogues": 50,
        "max_rounds": 50,
        "max_queries": 50,
        "templates": ["lisa"],
        "benchmarks": {},
        "max_missing_share": 0.0,
        "batch_size": 3,
        "bootstrap_rounds": 100,
        "bert_score": None,
        "gallery_examples": 2,
        "seed": 0,
    }
    return EvaluateConfig.model_validate(values | changes)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A workspace of four pictures with one dialogue and four questions each, as the current folder."""
    monkeypatch.chdir(tmp_path)
    return build_workspace()


@pytest.fixture(scope="session")
def evaluated_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the stage `evaluate` has run; only to be copied."""
    folder = tmp_path_factory.mktemp("evaluated")
    with contextlib.chdir(folder):
        evaluate(build_workspace(), scripted_models())
    return folder


@pytest.fixture
def evaluated(evaluated_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A copy of the evaluated workspace, as the current folder."""
    shutil.copytree(evaluated_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return make_paths()


def good(request: Request) -> Response:
    """Finds the mug of the dialogues."""
    return points_at("mug") if wants_mask(request) else says("The mug is for tea $5.")


def poor(request: Request) -> Response:
    """Takes the lamp for it."""
    return points_at("lamp") if wants_mask(request) else says("A lamp.")


def scripted_models() -> dict[str, ScriptedModel]:
    """A model per name in the stage's passes: stage 2 finds what it looks for."""
    return {"stage1": ScriptedModel(poor), "stage2": ScriptedModel(good), "no-picture": ScriptedModel(poor)}


ONE_PROCESS = LocalLaunch(
    place="local",
    processes=1,
    zero_stage=0,
    gradient_checkpointing=False,
    threads=1,
    shares=1,
    gpu_memory_gb=None,
    tflops=None,
)


def evaluate(paths: Paths, models: Mapping[str, ScriptedModel], **changes: object) -> None:
    """Runs the stage with scripted models."""
    described: dict[str, Model] = {
        name: StageModel(backbones=paths.backbones, weights=paths.stage2 if name != "stage1" else paths.stage1)
        for name in models
    }
    evaluate_models(
        described,
        paths=paths,
        work=Path("work"),
        config=make_config(**changes),
        launch=ONE_PROCESS,
        openers={name: functools.partial(models.__getitem__, name) for name in models},
    )


def build_workspace() -> Paths:
    """Fills the current folder as the earlier stages leave it."""
    paths = make_paths()
    image_ids = [f"p{number}" for number in range(NUM_PICTURES)]
    paths.pictures.mkdir(parents=True)
    write_records(paths.picture_table, [_picture(image_id, paths.pictures) for image_id in image_ids])
    write_records(paths.checked_regions, [region for image_id in image_ids for region in _regions(image_id)])
    dialogues = [dialogue for image_id in image_ids for dialogue in _dialogues(image_id)]
    for split in ("train", "val", "test"):
        write_records(paths.split_dialogues(split), dialogues)
    _write_summaries(paths)
    for stage in (paths.backbones, paths.stage1, paths.stage2):
        Path(stage).mkdir(parents=True)
    for number, stage in enumerate((paths.stage1, paths.stage2)):
        lines = [
            {"step": step, "samples": 8 * step, "total": 3 / step + number, "text": 2 / step} for step in range(1, 5)
        ] + [{"step": 5, "samples": 40, "total": 0.5, "val_ciou": 40.0 + number}]
        (Path(stage) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths


def _picture(image_id: str, folder: Path) -> Picture:
    pixels = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    pixels[box_mask("mug")] = (200, 40, 40)
    pixels[box_mask("lamp")] = (40, 40, 200)
    file = folder / f"{image_id}.png"
    Image.fromarray(pixels).save(file)
    return Picture(
        image_id=image_id,
        file_name=file.name,
        height=HEIGHT,
        width=WIDTH,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        origin=f"photograph {image_id}",
    )


def _regions(image_id: str) -> list[Region]:
    return [
        Region(
            region_id=f"{image_id}-{name}",
            image_id=image_id,
            phrase=name,
            mask=encode(box_mask(name)),
            parent_id=f"{image_id}-mug" if name == "handle" else None,
        )
        for name in BOXES
    ]


def _dialogues(image_id: str) -> list[Dialogue]:
    def query(name: str, kind: str, turn: Turn) -> Dialogue:
        focus = "" if kind == "vqa" else name
        return Dialogue(dialogue_id=f"{image_id}-{name}", image_id=image_id, kind=kind, focus=focus, turns=(turn,))

    mug, lamp = f"{image_id}-mug", f"{image_id}-lamp"
    talk = (
        Turn(question="What stands on the table?", answer="A mug & a lamp <b>stand</b> there."),
        Turn(question="Which one is for tea?", answer="The mug is for tea."),
        Turn(question="Segment what we spoke of.", answer="It is {target}.", targets=(mug,)),
    )
    return [
        Dialogue(dialogue_id=f"{image_id}-talk", image_id=image_id, kind="prist", focus="mug", turns=talk),
        query("one", "referring", Turn(question="Segment the lamp.", answer="{target}", targets=(lamp,))),
        query(
            "all",
            "semantic",
            Turn(question="Segment all things.", answer="{target} and {target}", targets=(mug, lamp)),
        ),
        query("none", "referring", Turn(question="Segment the boat.", answer="There is no boat.")),
        query("vqa", "vqa", Turn(question="What colour is the mug?", answer="Red.")),
    ]


def _write_summaries(paths: Paths) -> None:
    counts = {"rows": 20, "passed": 19, "quarantined": 1, "quarantined_share": 0.05}
    rule = {"says": "every question ends", "rows_checked": 20, "failed": 1}
    write_json(paths.check_summary, {"tables": {"dialogues": counts}, "rules": {"dialogues": {"end": rule}}})
    sizes = {name: {"count": 2, "share": 0.3333} for name in ("fine", "medium", "coarse")}
    split = {"pictures": 4, "dialogues": 20, "turns": 28, "kinds": {"prist": 4}, "size_classes": sizes}
    write_json(paths.split_summary, dict.fromkeys(("train", "val", "test"), split))
    counts = {"dialogues": 60, "pictures": 4, "turns": 84, "targets": 20, "targets_without_mask": 0}
    write_json(Path(paths.card) / STATISTICS, counts | {f"{name}_percent": 33.3 for name in sizes})
    write_records(Path(paths.card) / EXAMPLES, [])
