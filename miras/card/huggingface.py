"""Export for Hugging Face `datasets`: Parquet shards `data/<split>-<n>-of-<N>.parquet` with pictures inside.

One row per picture, with all its dialogues and all its regions, so that no picture is stored twice; dialogues without
picture have rows of their own. `datasets.load_dataset(<folder>)` opens it; the features stand in the files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from miras.card.exports import Export
from miras.card.shelf import RecordShelf
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region, Split
from miras.dialogue.rendering import plain_text, render_answer
from miras.errors import DataError
from miras.progress import progress

SHARD_BYTES = 300 * 2**20  # of pictures; the hub advises a few hundred megabytes
ROWS_PER_GROUP = 100  # what a reader decodes at once; the hub's own number for pictures
TEXT, WHOLE = "string", "int32"

# One statement of the columns, for Arrow and for `datasets`: a name of a type, [items], or {fields}.
FEATURES: dict[str, Any] = {
    "image_id": TEXT,
    "image": "image",
    "width": WHOLE,
    "height": WHOLE,
    "source": TEXT,
    "licence": TEXT,
    "dialogues": [
        {
            "dialogue_id": TEXT,
            "kind": TEXT,
            "focus": TEXT,
            "turns": [
                {
                    "question": TEXT,
                    "answer": TEXT,
                    "answer_template": TEXT,
                    "targets": [TEXT],
                    "names": [TEXT],
                    "refers_to": [WHOLE],
                    "points_at": [TEXT],
                }
            ],
        }
    ],
    "regions": [
        {
            "region_id": TEXT,
            "phrase": TEXT,
            "category": TEXT,
            "parent_id": TEXT,
            "attributes": TEXT,
            "relations": [{"predicate": TEXT, "object_id": TEXT}],
            "mask_size": [WHOLE],
            "mask_counts": TEXT,
            "box_xyxy": [WHOLE],
        }
    ],
}
_ARROW = {TEXT: pa.string(), WHOLE: pa.int32(), "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())])}


def write(job: Export, split: Split) -> None:
    """Writes one split, and the card beside it where the stage `card` made one."""
    folder = job.folder / "data"
    folder.mkdir(exist_ok=True)
    shards: list[Path] = []
    writer: pq.ParquetWriter | None = None
    written = 0
    try:
        for rows in _groups(_rows(job, job.dialogues(split))):
            if writer is None or written > SHARD_BYTES:
                if writer is not None:
                    writer.close()
                shards.append(folder / f"{split}.{len(shards)}.partial")
                writer, written = pq.ParquetWriter(shards[-1], SCHEMA, compression="zstd"), 0
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            written += sum(len(row["image"]["bytes"]) for row in rows if row["image"])
    finally:
        if writer is not None:
            writer.close()
    for number, shard in enumerate(shards):
        shard.rename(folder / f"{split}-{number:05d}-of-{len(shards):05d}.parquet")
    _copy_card(Path(job.paths.card), job.folder)


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


def _rows(job: Export, dialogues: RecordShelf[Dialogue]) -> Iterator[dict[str, Any]]:
    for image_id in progress(dialogues.parts(), name="hf", unit="pictures"):
        if not image_id:
            for dialogue in dialogues.of(""):
                yield from _row(job, None, [dialogue], content=None)
            continue
        about = list(dialogues.of(image_id))
        try:
            picture = job.picture(image_id)
            content = job.picture_file(picture).read_bytes()
        except (DataError, OSError) as error:
            for dialogue in about:
                job.reject(f"dialogue {dialogue.dialogue_id}", error)
            continue
        yield from _row(job, picture, about, content=content)


def _row(
    job: Export, picture: Picture | None, dialogues: list[Dialogue], *, content: bytes | None
) -> Iterator[dict[str, Any]]:
    """One row; none where all its dialogues are broken."""
    regions = {region.region_id: region for region in job.regions.of(picture.image_id)} if picture else {}
    told = []
    for dialogue in dialogues:
        try:
            told.append(_dialogue(dialogue, regions))
        except KeyError as error:
            reason = f"names the region {error}, which is not among the regions of its picture; run `dvc repro check`"
            job.reject(f"dialogue {dialogue.dialogue_id}", reason)
    if not told:
        return
    job.counts["dialogues"] += len(told)
    job.counts["pictures"] += picture is not None
    job.counts["regions"] += sum(region.mask is not None for region in regions.values())
    yield {
        "image_id": picture.image_id if picture else "",
        "image": {"bytes": content, "path": picture.file_name} if picture else None,
        "width": picture.width if picture else None,
        "height": picture.height if picture else None,
        "source": picture.source if picture else "",
        "licence": picture.licence if picture else "",
        "dialogues": told,
        "regions": [_region(region) for region in regions.values()],
    }


def _dialogue(dialogue: Dialogue, regions: dict[str, Region]) -> dict[str, Any]:
    turns = []
    for turn in dialogue.turns:
        phrases = {key: regions[key].phrase for key in (*turn.targets, *turn.points_at)}
        turns.append(
            {
                "question": turn.question,
                "answer": plain_text(render_answer(turn, phrases)),
                "answer_template": turn.answer,
                "targets": list(turn.targets),
                "names": list(turn.names),
                "refers_to": list(turn.refers_to),
                "points_at": list(turn.points_at),
            }
        )
    return {"dialogue_id": dialogue.dialogue_id, "kind": dialogue.kind, "focus": dialogue.focus, "turns": turns}


def _region(region: Region) -> dict[str, Any]:
    mask = region.mask
    return {
        "region_id": region.region_id,
        "phrase": region.phrase,
        "category": region.category,
        "parent_id": region.parent_id,
        "attributes": json.dumps(region.attributes, ensure_ascii=False),
        "relations": [relation.model_dump() for relation in region.relations],
        "mask_size": list(mask.size) if mask else None,
        "mask_counts": mask.counts if mask else None,
        "box_xyxy": list(masks.box_xyxy_px(mask)) if mask else None,
    }


def _copy_card(card: Path, folder: Path) -> None:
    """The card's files, so that the folder can be pushed to the hub as it is."""
    for name in ("README.md", "statistics.json", "gallery.html"):
        if (card / name).is_file():
            shutil.copyfile(card / name, folder / name)
    if (card / "figures").is_dir():
        shutil.copytree(card / "figures", folder / "figures", dirs_exist_ok=True)


def _arrow(feature: Any) -> pa.DataType:
    if isinstance(feature, str):
        return _ARROW[feature]
    if isinstance(feature, list):
        return pa.list_(_arrow(feature[0]))
    return pa.struct([(name, _arrow(inner)) for name, inner in feature.items()])


def _declared(feature: Any) -> Any:
    """The feature as `datasets` writes it; a list of one, which all its versions read."""
    if isinstance(feature, list):
        return [_declared(feature[0])]
    if isinstance(feature, dict):
        return {name: _declared(inner) for name, inner in feature.items()}
    return {"_type": "Image"} if feature == "image" else {"dtype": feature, "_type": "Value"}


SCHEMA = pa.schema(
    [(name, _arrow(feature)) for name, feature in FEATURES.items()],
    metadata={"huggingface": json.dumps({"info": {"features": _declared(FEATURES)}})},
)
