"""The stage `split`: which pictures are trained on, tuned on and tested on.

Run as `python -m tasks.run split`. A picture's split follows from its content alone, so that adding pictures
never moves others and equal files stay together. Before anything is published, a Great Expectations suite
looks for leaks in what was written.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from miras.dialogue.masks import SIZE_CLASSES, canvas_area_px, size_class
from miras.dialogue.records import SPLITS, Dialogue, Picture, Region, Split
from miras.errors import DataError
from miras.files import finished_folder, read_records, write_json, write_records
from miras.paths import Paths
from miras.quality.config import SplitConfig
from miras.quality.duplicates import dialogue_key

log = logging.getLogger(__name__)

VALIDATION_FILE = "validation.json"


def run(*, paths: Paths, work: Path, split: SplitConfig) -> None:
    """Deals the checked dialogues out to the splits, by picture.

    Raises:
        DataError: a split would be empty, or the same picture or text is in two splits; nothing is published.
    """
    pictures = {picture.image_id: picture for picture in read_records(paths.picture_table, Picture)}
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    dialogues: dict[Split, list[Dialogue]] = {name: [] for name in SPLITS}
    for dialogue in read_records(paths.checked_dialogues, Dialogue):
        picture = pictures.get(dialogue.image_id)
        if picture is None:
            raise DataError(
                f"{paths.checked_dialogues}: {dialogue.dialogue_id}: its picture {dialogue.image_id} is not "
                f"in {paths.picture_table}. The checks ran on other pictures: run `dvc repro check` again."
            )
        dialogues[split_of(picture, split)].append(dialogue)
    _refuse_empty(dialogues, split)
    with finished_folder(Path(paths.split)) as folder:
        for name in SPLITS:
            write_records(folder / paths.split_dialogues(name).name, dialogues[name])
        written = {name: list(read_records(folder / paths.split_dialogues(name).name, Dialogue)) for name in SPLITS}
        validation = check_leaks(written, pictures, regions)
        write_json(folder / VALIDATION_FILE, validation)
        write_json(folder / paths.split_summary.name, _summary(written, regions))
    for name in SPLITS:
        log.info("split name=%s dialogues=%d", name, len(dialogues[name]))


def split_of(picture: Picture, split: SplitConfig) -> Split:
    """The split of a picture, from the seed and the hash of its content.

    Raising `val_share` moves pictures from train to val only; the test pictures stay.
    """
    digest = hashlib.sha256(f"{split.seed}:{picture.sha256}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < split.test_share:
        return "test"
    return "val" if place < split.test_share + split.val_share else "train"


def _refuse_empty(dialogues: Mapping[Split, Sequence[Dialogue]], split: SplitConfig) -> None:
    empty = [name for name in SPLITS if not dialogues[name]]
    if empty:
        pictures = len({dialogue.image_id for part in dialogues.values() for dialogue in part})
        raise DataError(
            f"split: no picture with dialogues fell into {' and '.join(empty)}: {pictures} pictures have "
            f"dialogues, val_share is {split.val_share}, test_share {split.test_share}. Add pictures, or "
            "raise params.yaml: split.val_share or split.test_share, or take another split.seed."
        )


def check_leaks(
    dialogues: Mapping[Split, Sequence[Dialogue]],
    pictures: Mapping[str, Picture],
    regions: Mapping[str, Region],
) -> dict[str, Any]:
    """Great Expectations' results on the joined splits.

    Raises:
        DataError: a picture, its content, or a text about it is in two splits.
    """
    from miras.quality.suites import leak_suite
    from miras.quality.validation import reasons_by_row, validate

    frame = _leak_frame(dialogues, pictures, regions)
    validation = validate(frame, leak_suite())
    if not validation.success:
        reasons = [reason for found in reasons_by_row(validation, frame).values() for reason in found.values()]
        shown = "\n".join(f"  {reason}" for reason in dict.fromkeys(reasons[:5]))
        raise DataError(
            f"split: {len(reasons)} leaks between splits, nothing was published:\n{shown}\n  Every image_id "
            "must stand for one picture with one sha256 in the table of pictures: run the stage ingest again."
        )
    return validation.raw()


def _leak_frame(
    dialogues: Mapping[Split, Sequence[Dialogue]],
    pictures: Mapping[str, Picture],
    regions: Mapping[str, Region],
) -> pd.DataFrame:
    """One row per dialogue: in how many splits its picture, the picture's content, and its text are."""
    phrases = {region_id: region.phrase for region_id, region in regions.items()}
    frame = pd.DataFrame(
        [
            {
                "record_id": dialogue.dialogue_id,
                "split": name,
                "image_id": dialogue.image_id,
                "content": pictures[dialogue.image_id].sha256,
                "text": dialogue_key(dialogue, phrases),
            }
            for name, part in dialogues.items()
            for dialogue in part
        ]
    )
    frame.insert(0, "row", range(len(frame)))
    frame["splits_of_image"] = frame.groupby("image_id")["split"].transform("nunique")
    frame["splits_of_content"] = frame.groupby("content")["split"].transform("nunique")
    frame["splits_of_text"] = frame.groupby(["content", "text"])["split"].transform("nunique")
    return frame


def _summary(dialogues: Mapping[Split, Sequence[Dialogue]], regions: Mapping[str, Region]) -> dict[str, dict[str, Any]]:
    return {name: _split_summary(part, regions) for name, part in dialogues.items()}


def _split_summary(dialogues: Sequence[Dialogue], regions: Mapping[str, Region]) -> dict[str, Any]:
    """Counts of one split; size classes are of its targets that have a mask, each region once."""
    kinds = Counter(dialogue.kind for dialogue in dialogues)
    targets = {key for dialogue in dialogues for turn in dialogue.turns for key in turn.targets}
    masks = [mask for key in sorted(targets) if (mask := regions[key].mask) is not None]
    sizes = Counter(size_class(canvas_area_px(mask)) for mask in masks)
    return {
        "pictures": len({dialogue.image_id for dialogue in dialogues}),
        "dialogues": len(dialogues),
        "turns": sum(len(dialogue.turns) for dialogue in dialogues),
        "kinds": dict(kinds.most_common()),
        "size_classes": {
            name: {"count": sizes[name], "share": round(sizes[name] / len(masks), 4) if masks else 0.0}
            for name in SIZE_CLASSES
        },
    }
