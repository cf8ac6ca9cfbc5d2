"""A small data set in which every record is good, and the settings to check it with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from miras.annotate.agreement import summarise
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region, Rle, Turn
from miras.files import write_json, write_records
from miras.paths import Paths
from miras.quality.config import CheckConfig, ShareBounds, SizeShares

Record = TypeVar("Record", Region, Dialogue)

SIDE_PX = 64
NO_WORDS = Path(__file__).parents[3] / "presets" / "unwanted_words.txt"  # as shipped: comments alone
NO_BOUND = ShareBounds(least=None, most=None)
CHECK = CheckConfig(
    min_turns=3,
    max_turns=7,
    max_words_per_turn=30,
    min_area_canvas_px=304,
    near_duplicate_similarity=0.9,
    min_focus_named=0.6,
    min_turns_linked=0.5,
    word_list=str(NO_WORDS),
    refuse_emails=True,
    refuse_phones=True,
    min_agreement_iou=0.8,
    min_agreement_kappa=0.75,
    size_shares=SizeShares(fine=NO_BOUND, medium=NO_BOUND, coarse=NO_BOUND),
    max_unknown_foci_share=0.2,
    on_bad_share="stop",
    without_licence="allow",
    max_quarantined_share=0.2,
)


@dataclass(frozen=True)
class DataSet:
    """What the stage check reads."""

    pictures: tuple[Picture, ...]
    regions: tuple[Region, ...]
    dialogues: tuple[Dialogue, ...]

    def with_region(self, index: int, **values: object) -> DataSet:
        """The same with one region changed."""
        return replace(self, regions=_changed(self.regions, index, values))

    def with_dialogue(self, index: int, **values: object) -> DataSet:
        """The same with one dialogue changed."""
        return replace(self, dialogues=_changed(self.dialogues, index, values))

    def __add__(self, other: DataSet) -> DataSet:
        return DataSet(self.pictures + other.pictures, self.regions + other.regions, self.dialogues + other.dialogues)


def _changed(records: tuple[Record, ...], index: int, values: dict[str, object]) -> tuple[Record, ...]:
    changed: Record = records[index].model_copy(update=values)
    return records[:index] + (changed,) + records[index + 1 :]  # noqa: RUF005 (keeps the type)


def square(side_px: int, *, height: int = SIDE_PX, width: int = SIDE_PX) -> Rle:
    """Mask of a square in the corner."""
    mask = np.zeros((height, width), bool)
    mask[:side_px, :side_px] = True
    return masks.encode(mask)


def prist_turns(region_id: str, *, about: str = "mug") -> tuple[Turn, ...]:
    """Two turns of talk and the request for the mask."""
    return (
        Turn(question=f"What stands on the table beside the red {about}?", answer="A lamp and some books stand there."),
        Turn(question="Which part does one hold when drinking?", answer=f"One holds the handle of the {about}."),
        Turn(question="Please segment it.", answer="Certainly: {target}.", targets=(region_id,)),
    )


def good(name: str) -> DataSet:
    """One picture with a mug, its handle, an unused lamp, a PRIST dialogue, a query and a caption."""
    region_ids = mug, handle, lamp = f"{name}/mug", f"{name}/handle", f"{name}/lamp"
    phrases = ("red mug", "handle of the red mug", "lamp")
    parents = (None, mug, None)
    regions = tuple(
        Region(region_id=region_id, image_id=name, phrase=phrase, mask=square(side), parent_id=parent)
        for region_id, phrase, side, parent in zip(region_ids, phrases, (20, 10, 1), parents, strict=True)
    )
    assert lamp == regions[2].region_id  # too small to be a target, and nobody asks for it
    query = Turn(question="Where is the red mug?", answer="Here: {target}.", targets=(mug,))
    caption = Turn(question="Describe the picture.", answer="A red mug beside a lamp.")
    return DataSet(
        pictures=(Picture(image_id=name, file_name=f"{name}.png", height=SIDE_PX, width=SIDE_PX, sha256=name),),
        regions=regions,
        dialogues=(
            Dialogue(
                dialogue_id=f"{name}-prist",
                image_id=name,
                kind="prist",
                focus="handle of the red mug",
                turns=prist_turns(handle),
            ),
            Dialogue(dialogue_id=f"{name}-query", image_id=name, kind="referring", focus="red mug", turns=(query,)),
            Dialogue(dialogue_id=f"{name}-caption", image_id=name, kind="caption", focus="", turns=(caption,)),
        ),
    )


def paths_in(workspace: Path) -> Paths:
    """All stages' folders within a workspace."""
    return Paths(**{name: str(workspace / "data" / name) for name in Paths.model_fields})


def store(paths: Paths, data: DataSet) -> None:
    """Writes what the stages ingest, generate and annotate would have written."""
    write_records(paths.picture_table, data.pictures)
    write_records(paths.annotated_regions, data.regions)
    write_records(paths.annotated_dialogues, data.dialogues)
    write_json(Path(paths.annotate) / "agreement.json", summarise(()))
    paths.pictures.mkdir(parents=True, exist_ok=True)
    for picture in data.pictures:
        Image.new("RGB", (picture.width, picture.height), "teal").save(paths.pictures / picture.file_name)
