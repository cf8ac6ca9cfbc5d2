"""Export to PRIST's form: `<split>.json`, `masks/` (Labelme files), `pictures/` and `manifest_<split>.json`.

PRIST dialogues alone have a place in it. Masks become polygons along the edges of their pixels: they come back exactly.
The manifest settles foci that two records of a picture share or that contain each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import PurePosixPath
from sqlite3 import Connection
from typing import Any

from miras.annotate.hand_out import labelme_file
from miras.annotate.outlines import polygons
from miras.card.exports import Export, json_list
from miras.card.shelf import OriginalsOfForm
from miras.dialogue.records import Dialogue, Split
from miras.errors import DataError
from miras.progress import progress
from miras.sources import prist
from miras.sources.prist_masks import ambiguities, label_key
from miras.sources.records import Original

PICTURES, MASKS = "pictures", "masks"


class _Labels:
    """Which mask each label of each picture of a split stands for, on disk."""

    def __init__(self, index: Connection, split: Split) -> None:
        self._index, self._split = index, split
        index.execute(
            "CREATE TEMP TABLE IF NOT EXISTS labels (split TEXT, name TEXT, stem TEXT, key TEXT, focus TEXT, "
            "region_id TEXT, image_id TEXT, dialogue_id TEXT PRIMARY KEY)"
        )
        index.execute("CREATE INDEX IF NOT EXISTS labels_stems ON labels (stem)")

    def add(self, name: str, focus: str, dialogue: Dialogue, region_id: str) -> None:
        """A dialogue about a picture of this name.

        Raises:
            DataError: the name of its mask file is another picture's, or the focus stands for another mask of this one.
        """
        key, stem = label_key(focus), PurePosixPath(name).stem
        sql = "SELECT name, region_id, dialogue_id FROM labels WHERE stem = ? AND (name <> ? OR key = ?)"
        for taken, other, where in self._index.execute(sql, (stem, name, key)):
            if taken != name:
                raise DataError(
                    f"{taken!r} has the mask file {stem}.json that {name!r} needs; export the sources apart"
                )
            if other != region_id:
                raise DataError(f"its focus {focus!r} names {region_id}, and in dialogue {where} it names {other}")
        values = (self._split, name, stem, key, focus, region_id, dialogue.image_id, dialogue.dialogue_id)
        self._index.execute("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)

    def drop(self, dialogue_id: str) -> None:
        """Forgets a dialogue that was not written."""
        self._index.execute("DELETE FROM labels WHERE dialogue_id = ?", (dialogue_id,))

    def names(self) -> list[str]:
        """The pictures' names."""
        sql = "SELECT DISTINCT name FROM labels WHERE split = ? ORDER BY name"
        return [name for (name,) in self._index.execute(sql, (self._split,))]

    def of(self, name: str) -> list[tuple[str, str]]:
        """Focus and region id of each different label of a picture."""
        sql = "SELECT MIN(focus), region_id FROM labels WHERE stem = ? GROUP BY key ORDER BY MIN(rowid)"
        return self._index.execute(sql, (PurePosixPath(name).stem,)).fetchall()

    def placed(self) -> Iterator[tuple[str, list[tuple[int, str]]]]:
        """Each picture's name with the positions in the file and foci of its records."""
        numbered = "SELECT name, focus, ROW_NUMBER() OVER (ORDER BY rowid) - 1 AS place FROM labels WHERE split = ?"
        rows = self._index.execute(f"SELECT name, place, focus FROM ({numbered}) ORDER BY name, place", (self._split,))
        for name, group in groupby(rows, key=itemgetter(0)):
            yield name, [(place, focus) for _, place, focus in group]


def write(job: Export, split: Split) -> None:
    """Writes one split."""
    originals, labels = OriginalsOfForm(job.originals(), key="img_id"), _Labels(job.index, split)
    told = _dialogues(job, split, originals, labels)
    refused = prist.write(told, job.regions, job.pictures, job.folder / f"{split}.json", originals=originals)
    for item in refused:
        labels.drop(item.where.removeprefix("dialogue "))
        job.add_rejected(item)
    job.counts["dialogues"] -= len(refused)
    names = labels.names()
    for name in progress(names, total=len(names), name="prist masks", unit="pictures"):
        _write_masks(job, name, labels.of(name))
    with (job.folder / f"manifest_{split}.json").open("w", encoding="utf-8") as file:
        file.writelines(json_list(_resolutions(labels)))


def _dialogues(job: Export, split: Split, originals: Mapping[str, Original], labels: _Labels) -> Iterator[Dialogue]:
    for dialogue in job.dialogues(split).values():
        if dialogue.kind != "prist":
            job.left_out[dialogue.kind] += 1
            continue
        try:
            _take(job, dialogue, originals.get(dialogue.dialogue_id), labels)
        except DataError as error:
            job.reject(f"dialogue {dialogue.dialogue_id}", error)
            continue
        job.counts["dialogues"] += 1
        yield dialogue


def _take(job: Export, dialogue: Dialogue, original: Original | None, labels: _Labels) -> None:
    """Copies the dialogue's picture and keeps its label.

    Raises:
        DataError: it has no picture or mask, or the label is taken.
    """
    targets = dialogue.turns[-1].targets if dialogue.turns else ()
    if len(targets) != 1 or targets[0] not in job.regions:
        raise DataError(f"its last turn has the targets {targets}; PRIST has one, a region of the data set")
    region = job.regions[targets[0]]
    if region.mask is None:
        raise DataError(f"its target {region.region_id} has no mask; have it drawn (params.yaml: annotate)")
    picture = job.picture(dialogue.image_id)
    name = str(original.record["img_id"]) if original else picture.file_name
    job.copy_picture(picture, f"{PICTURES}/{name}")
    labels.add(name, dialogue.focus or region.phrase, dialogue, region.region_id)


def _write_masks(job: Export, name: str, labels: list[tuple[str, str]]) -> None:
    drawn: list[dict[str, Any]] = []
    for number, (focus, region_id) in enumerate(labels, 1):
        region = job.regions[region_id]
        assert region.mask is not None
        size = region.mask.size
        outlines = polygons(region.mask)
        group = number if len(outlines) > 1 else None  # parts of one group are one object
        drawn += [
            {"label": focus, "points": outline, "group_id": group, "shape_type": "polygon"} for outline in outlines
        ]
    path = job.folder / MASKS / f"{PurePosixPath(name).stem}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(labelme_file(drawn, picture=f"../{PICTURES}/{name}", height=size[0], width=size[1]))
    job.counts["regions"] += len(labels)


def _resolutions(labels: _Labels) -> Iterator[object]:
    for name, placed in labels.placed():
        places = [place for place, _ in placed]
        for found in ambiguities([{"img_id": name, "focus": focus} for _, focus in placed]):
            yield found.model_copy(
                update={"index": places[found.index], "others": tuple(places[other] for other in found.others)}
            ).model_dump(mode="json")
