"""Reader of LVIS, versions 0.5 and 1: instances of 1200 classes, and which classes are surely not in a picture.

Source: reference facts 4.5 and 4.6; the categories' synonyms and definitions are WordNet's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Region, Rejected
from miras.errors import DataError
from miras.sources import instances
from miras.sources.annotations import category_name
from miras.sources.instances import OpenPicture
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, printable

_SENSE = re.compile(r"_\((?P<sense>[^()]*)\)")


class LvisSource(Section):
    """An LVIS annotation file with its pictures, which are COCO's."""

    reader: Literal["lvis"]
    annotations: str = Field(min_length=1)
    """The JSON file: lvis_v1_train.json, lvis_v0.5_val.json."""
    pictures: str = ""
    """Folder that holds train2017/ and val2017/, or the pictures themselves; "" looks beside the annotations."""


@dataclass(frozen=True)
class LvisCategory:
    """A class of LVIS."""

    name: str
    """As words, without its sense: "bow" of "bow_(decorative_ribbons)"."""
    attributes: dict[str, str]
    """sense ("decorative ribbons"), synonyms ("a, b") and definition, where stated."""


def read(source: LvisSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their regions, without phrases; `FilePicture.absent` names what is surely not there.

    A class is absent if the file lists it as negative and no class of the same words is annotated in the picture,
    or listed as not exhaustively annotated: there may be no mouse (animal), yet a mouse (computer equipment).

    Raises:
        DataError: the file as a whole is not COCO instances.
    """
    path = Path(source.annotations)
    folders = instances.picture_folders(source.pictures, annotations=path)
    index = instances.index(path)
    categories = _categories(path, index.categories, ignore=limits.ignore_categories)
    for item in instances.open_pictures(index, folders=folders, limits=limits, file_names=picture_names):
        if isinstance(item, Rejected):
            yield item
            continue
        regions: list[Region] = []
        for found in instances.outlined(item, categories):
            if isinstance(found, Rejected):
                yield found
                continue
            category = categories[found.category_id]
            assert category is not None  # `outlined` leaves them out
            regions.append(
                Region(
                    region_id=f"{item.image_id}-r{len(regions)}",
                    image_id=item.image_id,
                    phrase="",
                    mask=found.mask,
                    category=category.name,
                    attributes=category.attributes,
                )
            )
        yield item.with_regions(regions, absent=_absent(item, categories))


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


def _categories(path: Path, records: Sequence[Any], *, ignore: Sequence[str]) -> dict[Any, LvisCategory | None]:
    categories: dict[Any, LvisCategory | None] = {}
    for index, record in enumerate(records):
        try:
            key, raw = instances.field_of(record, "id"), instances.field_of(record, "name")
            if key in categories:
                raise DataError(f"an earlier category has the same id {key}")
            categories[key] = None if raw in ignore else _category(record, raw)
        except DataError as error:
            raise DataError(f"{path}: categories[{index}]: {error}. Correct it in the file.") from None
    return categories


def _category(record: Mapping[str, Any], raw: object) -> LvisCategory:
    name, sense = words_and_sense(raw)
    listed = record.get("synonyms")
    synonyms = [words_and_sense(item)[0] for item in listed] if isinstance(listed, list) else []
    others = [item for item in dict.fromkeys(synonyms) if item != name]
    stated = {"sense": sense, "synonyms": ", ".join(others), "definition": printable(record.get("def") or "")}
    return LvisCategory(name=name, attributes={key: value for key, value in stated.items() if value})


def _absent(item: OpenPicture, categories: Mapping[Any, LvisCategory | None]) -> tuple[str, ...]:
    present = [annotation.get("category_id") for annotation in item.annotations if isinstance(annotation, dict)]
    doubtful = {
        category.name for category in _known([*present, *_ids(item, "not_exhaustive_category_ids")], categories)
    }
    negative = [category.name for category in _known(_ids(item, "neg_category_ids"), categories)]
    return tuple(dict.fromkeys(name for name in negative if name not in doubtful))


def _ids(item: OpenPicture, key: str) -> list[object]:
    value = item.record.get(key)
    return value if isinstance(value, list) else []


def _known(ids: Sequence[object], categories: Mapping[Any, LvisCategory | None]) -> list[LvisCategory]:
    found = [categories.get(key) for key in ids if isinstance(key, int | str)]
    return [category for category in found if category]
