"""Export to COCO instances: `instances_<split>.json` and `images/`.

All regions with a mask of the pictures that have dialogues, asked for or not. Masks are run-length codes, exact to the
pixel. Beside COCO's own keys an annotation has "phrase", "region_id", "attributes" and "parent_id" (id of the
annotation it is part of, null where there is none).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from miras.card.exports import Export, json_list
from miras.card.shelf import RecordShelf
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region, Split
from miras.errors import DataError
from miras.generate.language import plural
from miras.progress import progress
from miras.sources.told import UNNAMED

IMAGES = "images"


class _Categories:
    """Numbers category names, from 1, in the order of their first annotation."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def id_of(self, name: str) -> int:
        return self.ids.setdefault(name, len(self.ids) + 1)


def write(job: Export, split: Split) -> None:
    """Writes one split."""
    dialogues = job.dialogues(split)
    job.left_out.update(dialogue.kind for dialogue in dialogues.values())
    numbers: dict[str, int] = {}  # image id -> number; a hundred bytes per picture
    categories = _Categories()
    with (job.folder / f"instances_{split}.json").open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "written by miras"},\n"images": ')
        file.writelines(json_list(_images(job, dialogues, numbers)))
        file.write(',\n"annotations": ')
        file.writelines(json_list(_annotations(job, numbers, categories)))
        names = [{"id": number, "name": name, "supercategory": name} for name, number in categories.ids.items()]
        file.write(f',\n"categories": {json.dumps(names, ensure_ascii=False)}}}\n')


def _images(job: Export, dialogues: RecordShelf[Dialogue], numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    for image_id in progress(dialogues.parts(), name="pictures", unit="pictures"):
        if not image_id:
            continue
        try:
            picture = job.picture(image_id)
            job.copy_picture(picture, f"{IMAGES}/{picture.file_name}")
        except DataError as error:
            job.reject(f"picture {image_id} with its regions", error)
            continue
        numbers[image_id] = len(numbers) + 1
        yield {
            "id": numbers[image_id],
            "file_name": picture.file_name,
            "height": picture.height,
            "width": picture.width,
            "image_id": image_id,
            "source": picture.source,
            "licence": picture.licence,
        }


def _annotations(job: Export, numbers: dict[str, int], categories: _Categories) -> Iterator[dict[str, Any]]:
    given = 0
    for image_id, number in progress(numbers.items(), total=len(numbers), name="masks", unit="pictures"):
        regions = [region for region in job.regions.of(image_id) if region.mask is not None]
        ids = {region.region_id: given + place for place, region in enumerate(regions, 1)}
        given += len(regions)
        group_names = {f"group of {plural(region.category)}": region.category for region in regions}
        for region in regions:
            name, is_crowd = _category(region, group_names)
            yield {
                "id": ids[region.region_id],
                "image_id": number,
                "category_id": categories.id_of(name),
                "iscrowd": int(is_crowd),
                **_shape(region),
                "phrase": region.phrase,
                "region_id": region.region_id,
                "attributes": region.attributes,
                "parent_id": ids.get(region.parent_id or ""),
            }
            job.counts["regions"] += 1


def _category(region: Region, group_names: dict[str, str]) -> tuple[str, bool]:
    """Its name in the file, and whether it is a crowd.

    The reader calls a crowd "group of mugs"; that becomes a crowd of "mug" again where the picture has a mug alone.
    """
    if region.attributes.get("crowd") == "yes" and region.category in group_names:
        return group_names[region.category], True
    return region.category or UNNAMED, False


def _shape(region: Region) -> dict[str, Any]:
    assert region.mask is not None
    x0, y0, x1, y1 = masks.box_xyxy_px(region.mask)
    return {
        "segmentation": {"size": list(region.mask.size), "counts": region.mask.counts},
        "area": masks.area_px(region.mask),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }
