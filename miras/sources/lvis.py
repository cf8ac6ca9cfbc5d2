"""Reader of LVIS, versions 0.5 and 1: instances of 1200 classes, and which classes are surely not in a picture.

Source: reference facts 4.5 and 4.6; the categories' synonyms and definitions are WordNet's.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Rejected
from miras.generate.view import OTHERS
from miras.sources import instances
from miras.sources.annotations import category_name
from miras.sources.federated import absent_names, not_all_outlined
from miras.sources.instances import NamedCategory
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, printable

PERSON = "person"  # version 0.5 calls that class by the first of its synonyms, "baby"
_SENSE = re.compile(r"_\((?P<sense>[^()]*)\)")


class LvisSource(Section):
    """An LVIS annotation file with its pictures, which are COCO's."""

    reader: Literal["lvis"]
    annotations: str = Field(min_length=1)
    """The JSON file: lvis_v1_train.json, lvis_v0.5_val.json."""
    pictures: str = ""
    """Folder that holds train2017/ and val2017/, or the pictures themselves; "" looks beside the annotations."""


def read(source: LvisSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their regions, without phrases; `FilePicture.absent` names what is surely not there.

    Attributes, where stated: sense ("decorative ribbons" of "bow_(decorative_ribbons)", whose category is "bow"),
    synonyms ("a, b"), definition; and others = yes where the picture shows more of the class than is outlined.

    Raises:
        DataError: the file as a whole is not COCO instances.
    """
    path = Path(source.annotations)
    folders = instances.picture_folders(source.pictures, annotations=path)
    index = instances.index(path)
    categories = instances.read_categories(
        path, index.categories, lambda record, raw: None if raw in limits.ignore_categories else _category(record, raw)
    )
    names = {key: category.name for key, category in categories.items() if category}
    for item in instances.open_pictures(index, folders=folders, limits=limits, file_names=picture_names):
        if isinstance(item, Rejected):
            yield item
            continue
        known = ChainMap(_with_others(not_all_outlined(item), categories), categories)
        yield from item.with_regions(instances.plain_regions(item, known), absent=absent_names(item, names))


def picture_names(record: Mapping[str, Any]) -> list[object]:
    """Names a picture's file may have: the end of `coco_url` ("val2017/1.jpg"), then `file_name`.

    In LVIS 0.5 `file_name` is that of COCO 2014, in LVIS 1 there is none.
    """
    names = [record["file_name"]] if "file_name" in record else []
    url = record.get("coco_url")
    if isinstance(url, str):
        names.insert(0, "/".join(PurePosixPath(urlsplit(url).path).parts[-2:]))
    return names


def words_and_sense(raw: object) -> tuple[str, str]:
    """Name and sense of a class: "bow_(decorative_ribbons)" -> ("bow", "decorative ribbons"); "" if it has none.

    Raises:
        DataError: as `category_name`.
    """
    whole = category_name(raw)
    senses = _SENSE.findall(str(raw))
    name = _SENSE.sub("", str(raw))
    return (category_name(name), category_name(senses[0])) if senses and name else (whole, "")


def _category(record: Mapping[str, Any], raw: str) -> NamedCategory:
    name, sense = words_and_sense(raw)
    listed = record.get("synonyms")
    synonyms = [words_and_sense(item)[0] for item in listed] if isinstance(listed, list) else []
    if PERSON in synonyms:
        name = PERSON
    others = [item for item in dict.fromkeys(synonyms) if item != name]
    stated = {"sense": sense, "synonyms": ", ".join(others), "definition": printable(record.get("def") or "")}
    return NamedCategory(name=name, attributes={key: value for key, value in stated.items() if value})


def _with_others(
    ids: Sequence[int | str], categories: Mapping[Any, NamedCategory | None]
) -> dict[Any, NamedCategory | None]:
    """The categories with these ids, marked as such that are not all outlined."""
    found = {key: categories[key] for key in ids if key in categories}
    return {
        key: category and NamedCategory(category.name, {**category.attributes, OTHERS: "yes"})
        for key, category in found.items()
    }
