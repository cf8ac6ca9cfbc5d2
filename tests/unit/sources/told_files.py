"""Small data sets in the true formats, for the tests of readers of data sets with words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from miras.dialogue.records import Rejected
from miras.sources.limits import ReadLimits

HEIGHT, WIDTH = 20, 30
LIMITS = ReadLimits(max_pictures=9, max_megapixels=1, ignore_categories=())
LEFT = [2, 3, 12, 3, 12, 13, 2, 13]  # 100 px
RIGHT = [16, 3, 26, 3, 26, 13, 16, 13]  # 100 px


def save_picture(path: Path, *, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (shade, 0, 0)).save(path)


def save_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def coco(*annotations: dict[str, Any], names: Iterable[str] = ("1.png",), **changes: Any) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, "license": 4}
        for number, name in enumerate(names, 1)
    ]
    licences = [{"id": 4, "url": "https://creativecommons.org/licenses/by/2.0/", "name": "Attribution"}]
    categories = [{"id": 1, "name": "mug"}, {"id": 2, "name": "table"}]
    content = {"images": images, "annotations": list(annotations), "categories": categories, "licenses": licences}
    return content | changes


def annotation(number: int, *, polygon: list[int] = LEFT, image_id: int = 1, **changes: Any) -> dict[str, Any]:
    record = {"id": number, "image_id": image_id, "category_id": 1, "segmentation": [polygon], "iscrowd": 0}
    return record | changes


def shape(label: str, polygon: list[int] = LEFT) -> dict[str, Any]:
    points = [list(pair) for pair in zip(polygon[::2], polygon[1::2], strict=True)]
    return {"label": label, "points": points, "shape_type": "polygon"}


def sorted_out(items: Iterable[Any]) -> tuple[list[Any], list[Rejected]]:
    """What was read, and what was rejected."""
    found = list(items)
    rejected = [item for item in found if isinstance(item, Rejected)]
    return [item for item in found if not isinstance(item, Rejected)], rejected
