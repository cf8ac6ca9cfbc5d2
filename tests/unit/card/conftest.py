"""A small finished data set: what the stages ingest to split leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miras.annotate.agreement import summarise
from miras.dialogue import masks
from miras.dialogue.records import SPLITS, Dialogue, Picture, Region, Rle, Turn
from miras.files import write_json, write_records
from miras.paths import Paths

HEIGHT, WIDTH = 64, 96
NAMES = ("a", "b", "c")  # one picture per split


def box(x0: int, y0: int, x1: int, y1: int) -> Rle:
    """Mask of a rectangle."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return masks.encode(mask)


def ring() -> Rle:
    """Mask of two parts, one with a hole."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:40, 10:40] = True
    mask[20:30, 20:30] = False
    mask[50:60, 60:80] = True
    return masks.encode(mask)


def regions_of(name: str) -> tuple[Region, ...]:
    """A mug with its handle, a lamp in two parts, a crowd, and a thing nobody has drawn."""
    return (
        Region(region_id=f"{name}/mug", image_id=name, phrase="red mug", mask=box(4, 4, 30, 30), category="mug"),
        Region(
            region_id=f"{name}/handle",
            image_id=name,
            phrase="handle of the red mug",
            mask=box(26, 8, 30, 20),
            category="handle",
            parent_id=f"{name}/mug",
            attributes={"colour": "red"},
        ),
        Region(region_id=f"{name}/lamp", image_id=name, phrase="lamp", mask=ring(), category="lamp"),
        Region(
            region_id=f"{name}/mugs",
            image_id=name,
            phrase="group of mugs",
            mask=box(50, 4, 90, 20),
            category="group of mugs",
            attributes={"crowd": "yes"},
        ),
        Region(region_id=f"{name}/dust", image_id=name, phrase="dust", mask=None, category="dust"),
    )


def prist(name: str, number: int, *, region: str, focus: str) -> Dialogue:
    """Two reasoning turns and the request."""
    turns = (
        Turn(question="What would one drink from?", answer="One would drink from the mug."),
        Turn(question="Where does one hold it?", answer="At the side of it."),
        Turn(question="Please segment it.", answer="It is the {target}.", targets=(f"{name}/{region}",)),
    )
    return Dialogue(dialogue_id=f"{name}-prist-{number}", image_id=name, kind="prist", focus=focus, turns=turns)


def dialogues_of(name: str) -> tuple[Dialogue, ...]:
    """Two PRIST dialogues, an MRSeg one, a query and a caption."""
    first = Turn(question="Segment the mug.", answer="{target}.", targets=(f"{name}/mug",))
    second = Turn(question="Its handle?", answer="{target}.", targets=(f"{name}/handle",), refers_to=(0,))
    query = Turn(question="Where is the lamp?", answer="There: {target}.", targets=(f"{name}/lamp",))
    caption = Turn(question="Describe it.", answer="A mug beside a lamp.")
    return (
        prist(name, 0, region="handle", focus="handle of the red mug"),
        prist(name, 1, region="lamp", focus="lamp"),
        Dialogue(dialogue_id=f"{name}-mrseg", image_id=name, kind="mrseg", focus="", turns=(first, second)),
        Dialogue(dialogue_id=f"{name}-query", image_id=name, kind="referring", focus="lamp", turns=(query,)),
        Dialogue(dialogue_id=f"{name}-caption", image_id=name, kind="caption", focus="", turns=(caption,)),
    )


def text_only() -> Dialogue:
    """A dialogue without picture."""
    turn = Turn(question="What is a mug?", answer="A cup with a handle.")
    return Dialogue(dialogue_id="text-0", image_id="", kind="vqa", focus="", turns=(turn,))


def store_dialogues(paths: Paths, split: str, dialogues: Sequence[Dialogue]) -> None:
    """The table of one split."""
    write_records(paths.split_dialogues(split), dialogues)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The data set on disk, one picture in each split and a dialogue without picture in train."""
    paths = Paths(**{name: str(tmp_path / "data" / name) for name in Paths.model_fields})
    pictures = [
        Picture(
            image_id=name,
            file_name=f"{name}.png",
            height=HEIGHT,
            width=WIDTH,
            sha256=name,
            source="mine" if name == "a" else "yours",
            licence="cc-by-4.0" if name == "a" else "",
        )
        for name in NAMES
    ]
    paths.pictures.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * number, 90, 120)).save(paths.pictures / picture.file_name)
    write_records(paths.picture_table, pictures)
    write_records(paths.rejected_table, ())
    write_records(paths.source_originals, ())
    write_json(Path(paths.annotate) / "agreement.json", summarise(()))
    write_records(paths.checked_regions, [region for name in NAMES for region in regions_of(name)])
    for name, split in zip(NAMES, SPLITS, strict=True):
        extra = (text_only(),) if split == "train" else ()
        store_dialogues(paths, split, (*dialogues_of(name), *extra))
    rule = {"says": "A target has a mask.", "failed": 2, "rows_checked": 16}
    write_json(
        paths.check_summary,
        {
            "tables": {"dialogues": {"rows": 18, "passed": 16, "quarantined": 2}},
            "rules": {
                "regions": {"target_has_mask": rule, "other": rule | {"failed": 0}},
                "data_set": {"licence_stated": rule | {"says": "Every picture has a licence.", "failed": 1}},
            },
        },
    )
    return paths
