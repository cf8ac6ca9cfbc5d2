"""Reader of PACO-LVIS: 75 classes of objects with their parts and attributes.

An annotation whose `obj_ann_id` is its own id is an object; any other is a part of the object with that id.
Categories are "mug" and "mug:handle", where both may carry a sense: "mouse_(computer_equipment):scroll_wheel".

Source: reference facts 3.3; field names as PACO's own documentation of the format gives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Region, Rejected
from miras.errors import DataError
from miras.generate.view import OTHERS
from miras.sources import instances
from miras.sources.annotations import RejectedRegion, category_name, rejection
from miras.sources.federated import absent_names, not_all_outlined
from miras.sources.instances import OpenPicture, Outlined
from miras.sources.limits import ReadLimits
from miras.sources.lvis import picture_names, words_and_sense
from miras.sources.pictures import FilePicture

COLOUR = "color"  # PACO's kind of attribute that we keep as `colour`
MAX_COLOURS = 2  # "red and white"; of more colours no short phrase can be made


class PacoSource(Section):
    """A PACO-LVIS annotation file with its pictures, which are COCO's."""

    reader: Literal["paco"]
    annotations: str = Field(min_length=1)
    """The JSON file: paco_lvis_v1_train.json."""
    pictures: str = ""
    """Folder that holds train2017/ and val2017/, or the pictures themselves; "" looks beside the annotations."""


@dataclass(frozen=True)
class _Category:
    name: str
    """Of the object, or of the part without its object."""
    is_part: bool


@dataclass(frozen=True)
class _Attribute:
    kind: str
    """color, pattern_marking, material or transparency."""
    value: str


@dataclass(frozen=True)
class _Vocabulary:
    categories: Mapping[Any, _Category | None]
    attributes: Mapping[Any, _Attribute]


def read(source: PacoSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their regions, objects before parts; `parent_id` of a part is its object.

    Attributes: `colour` where one or two are stated (the dominant ones where the file says which), the other kinds by
    their own names, and others = yes where the picture shows more of the category than is outlined. A part whose
    object is rejected is rejected with it; one whose object is left out is left out.

    Raises:
        DataError: the file as a whole is not COCO instances, or a category or attribute is malformed.
    """
    path = Path(source.annotations)
    folders = instances.picture_folders(source.pictures, annotations=path)
    index = instances.index(path)
    vocabulary = _Vocabulary(
        instances.read_categories(
            path, index.categories, lambda _, raw: _read_category(raw, ignore=limits.ignore_categories)
        ),
        _attributes(path, index.other),
    )
    objects = {
        key: category.name for key, category in vocabulary.categories.items() if category and not category.is_part
    }
    for item in instances.open_pictures(index, folders=folders, limits=limits, file_names=picture_names):
        if isinstance(item, Rejected):
            yield item
            continue
        yield from item.with_regions(_regions(item, vocabulary), absent=absent_names(item, objects))


def _regions(item: OpenPicture, vocabulary: _Vocabulary) -> Iterator[Region | Rejected]:
    parts: list[Outlined] = []
    region_ids: dict[Any, str] = {}  # by the annotation's own id, of objects
    for found in instances.outlined(item, vocabulary.categories):
        if isinstance(found, Rejected):
            yield found
        elif found.record.get("obj_ann_id", found.record["id"]) != found.record["id"]:
            parts.append(found)
        elif _category(found, vocabulary).is_part:
            reason = "a part that names no object: its obj_ann_id is its own id, or missing"
            yield rejection(RejectedRegion, found.where, reason)
        else:
            region = _region(found, item, vocabulary, number=len(region_ids), parent_id=None)
            region_ids[found.record["id"]] = region.region_id
            yield region
    number = len(region_ids)
    left_out = _left_out(item, vocabulary)
    for part in parts:
        owner = part.record["obj_ann_id"]
        if owner in left_out:
            continue
        if owner not in region_ids:
            reason = f"a part of object {owner!r}, which is not in the picture or could not be read"
            yield rejection(RejectedRegion, part.where, reason)
            continue
        yield _region(part, item, vocabulary, number=number, parent_id=region_ids[owner])
        number += 1


def _left_out(item: OpenPicture, vocabulary: _Vocabulary) -> set[Any]:
    """Ids of objects whose category is ignored."""
    ids = set()
    for record in item.annotations:
        if isinstance(record, dict) and isinstance(record.get("category_id"), int | str):
            is_ignored = vocabulary.categories.get(record["category_id"], 0) is None
            if is_ignored and isinstance(record.get("id"), int | str):
                ids.add(record["id"])
    return ids


def _category(found: Outlined, vocabulary: _Vocabulary) -> _Category:
    category = vocabulary.categories[found.category_id]
    assert category is not None  # `outlined` leaves them out
    return category


def _region(
    found: Outlined, item: OpenPicture, vocabulary: _Vocabulary, *, number: int, parent_id: str | None
) -> Region:
    return Region(
        region_id=f"{item.image_id}-r{number}",
        image_id=item.image_id,
        phrase="",
        mask=found.mask,
        category=_category(found, vocabulary).name,
        attributes=_stated(found.record, vocabulary.attributes) | _others(found, item),
        parent_id=parent_id,
    )


def _others(found: Outlined, item: OpenPicture) -> dict[str, str]:
    return {OTHERS: "yes"} if found.category_id in not_all_outlined(item) else {}


def _stated(record: Mapping[str, Any], attributes: Mapping[Any, _Attribute]) -> dict[str, str]:
    by_kind: dict[str, list[str]] = {}
    for attribute in _listed(record, "attribute_ids", attributes):
        by_kind.setdefault(attribute.kind, []).append(attribute.value)
    colours = [attribute.value for attribute in _listed(record, "dom_color_ids", attributes)]
    colours = colours or by_kind.get(COLOUR, [])
    stated = {kind: ", ".join(values) for kind, values in by_kind.items() if kind != COLOUR}
    if 1 <= len(colours) <= MAX_COLOURS:
        stated["colour"] = " and ".join(colours)
    return stated


def _listed(record: Mapping[str, Any], key: str, attributes: Mapping[Any, _Attribute]) -> list[_Attribute]:
    """Attributes under this key; ids unknown to the file say nothing and are passed over."""
    ids = record.get(key)
    known = [key for key in ids if isinstance(key, int | str) and key in attributes] if isinstance(ids, list) else []
    return [attributes[key] for key in dict.fromkeys(known)]


def _read_category(raw: str, *, ignore: Sequence[str]) -> _Category | None:
    thing, colon, part = raw.partition(":")
    name = words_and_sense(part if colon else thing)[0]
    return None if raw in ignore or thing in ignore else _Category(name=name, is_part=bool(colon))


def _attributes(path: Path, other: Mapping[str, Any]) -> dict[Any, _Attribute]:
    """By id. A file without attributes is as good."""
    records, ids_of_kind = other.get("attributes", []), other.get("attr_type_to_attr_idxs", {})
    if not isinstance(records, list) or not isinstance(ids_of_kind, dict):
        raise DataError(f"{path}: attributes are no list, or their kinds no object. Take the file as published.")
    kinds = {key: kind for kind, ids in ids_of_kind.items() if isinstance(ids, list) for key in ids}
    attributes: dict[Any, _Attribute] = {}
    for index, record in enumerate(records):
        try:
            key = instances.field_of(record, "id")
            if key in kinds:
                value = category_name(instances.field_of(record, "name"))
                attributes[key] = _Attribute(kind=kinds[key], value=value)
        except DataError as error:
            raise DataError(f"{path}: attributes[{index}]: {error}. Correct it in the file.") from None
    return attributes
