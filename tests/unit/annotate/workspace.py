"""A small data set and people who draw: they save files as Labelme does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miras.annotate import stage
from miras.annotate.config import AnnotateConfig
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region, Turn
from miras.files import write_records
from miras.paths import Paths

HEIGHT, WIDTH = 40, 60
SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]  # 400 px
NEARLY = [[10, 10], [30, 10], [30, 29], [10, 29]]  # IoU with SQUARE 0.95
ELSEWHERE = [[40, 10], [55, 10], [55, 30], [40, 30]]
SETTINGS: dict[str, Any] = {
    "mode": "labelme",
    "folder": "people",
    "groups": ["a", "b"],
    "per_sample": 2,
    "scope": "missing",
    "min_iou": 0.8,
    "min_kappa": 0.75,
    "sam": None,
    "sam_type": "vit_h",
}


def config(**changes: Any) -> AnnotateConfig:
    """The section annotate, with changes."""
    return AnnotateConfig.model_validate(SETTINGS | changes)


def region(number: int, *, phrase: str | None = None, drawn: bool = False) -> Region:
    """Region `i<number>-r`, with a square mask if it is drawn."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[5:15, 5:15] = True
    return Region(
        region_id=f"i{number}-r",
        image_id=f"i{number}",
        phrase=phrase or f"mug {number}",
        mask=masks.encode(mask) if drawn else None,
    )


def dialogue(number: int) -> Dialogue:
    """Two turns about region `i<number>-r`."""
    turns = (
        Turn(question="What can one drink from?", answer="A mug, at 8 o'clock."),
        Turn(question="Outline it.", answer="It is {target}.", targets=(f"i{number}-r",)),
    )
    return Dialogue(dialogue_id=f"d{number}", image_id=f"i{number}", kind="prist", focus=f"mug {number}", turns=turns)


class Workspace:
    """Paths, tables and the folders of two groups, below one folder."""

    def __init__(self, root: Path, *, count: int = 1, **changes: Any) -> None:
        names = {name: str(root / name) for name in Paths.model_fields}
        self.root = root
        self.paths = Paths(**names)
        self.config = config(folder=str(root / "people"), **changes)
        self.people = Path(self.config.folder)
        self.fill(range(count))

    def fill(self, numbers: Sequence[int], *, drawn: bool = False, dialogues: Sequence[Dialogue] | None = None) -> None:
        """Writes the tables anew with these pictures, one generated region and dialogue each."""
        self.paths.pictures.mkdir(parents=True, exist_ok=True)
        pictures = [
            Picture(image_id=f"i{n}", file_name=f"i{n}.png", height=HEIGHT, width=WIDTH, sha256=f"{n:064d}")
            for n in numbers
        ]
        for picture in pictures:
            Image.new("RGB", (WIDTH, HEIGHT), "red").save(self.paths.pictures / picture.file_name)
        write_records(self.paths.picture_table, pictures)
        write_records(self.paths.region_table, [region(1000 + n, drawn=True) for n in numbers])
        write_records(self.paths.generated_regions, [region(n, drawn=drawn) for n in numbers])
        write_records(self.paths.generated_dialogues, dialogues or [dialogue(n) for n in numbers])

    def run(self) -> None:
        """The stage."""
        stage.run(paths=self.paths, work=self.root / "work", annotate=self.config)

    def file(self, group: str, number: int = 0, suffix: str = ".json") -> Path:
        """A file of the sample about picture `i<number>`."""
        (found,) = (self.people / group).glob(f"i{number}-r-????????{suffix}")
        return found

    def status(self) -> list[dict[str, Any]]:
        """The lines of status.jsonl."""
        return [json.loads(line) for line in (self.people / stage.STATUS).read_text("utf-8").splitlines()]


def draw(path: Path, points: object = SQUARE, *, label: str = "mug 0", to: Path | None = None, **changes: Any) -> None:
    """Adds an outline, ticks `finished` and saves as Labelme does."""
    content = json.loads(path.read_text("utf-8"))
    shape = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": "polygon"}
    content["shapes"].append(shape | {"flags": {}, "mask": None})
    content["flags"]["finished"] = True
    content |= {"version": "5.5.0", **changes}
    (to or path).write_text(json.dumps(content, ensure_ascii=False, indent=2), "utf-8")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file in place."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
