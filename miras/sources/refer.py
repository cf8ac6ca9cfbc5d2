"""Reader of referring expressions: RefCOCO, RefCOCO+, RefCOCOg (pickled refs) and gRefCOCO (JSON).

`refs(<split>).p` or `grefs(<split>).json` holds the expressions, `instances.json` beside it the pictures and masks. The
pickle is read with nothing allowed in it but lists, dictionaries, texts and numbers. `instances.json` is gone through
once; masks are read again from their place in it when their picture's turn comes.
"""

from __future__ import annotations

import pickle
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region, Rejected, Rle, Turn
from miras.errors import DataError
from miras.generate.language import plural
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, RejectedRegion, category_name, rejection
from miras.sources.coco import segmentation_mask
from miras.sources.json_elements import element_at, walk
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, ImageIds, UprightPicture, picture_folder, printable
from miras.sources.told import (
    RejectedDialogue,
    answer_with,
    checked_text,
    licence_names,
    licence_of,
    named_picture,
    noun_phrase,
    one_turn,
    question_for,
)

NO_TARGET = -1  # gRefCOCO's annotation id of an expression that fits nothing

# What an unpickler may raise on damaged input; six of these came in 2 000 altered pickles.
_UNPICKLING_FAILS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


class ReferSource(Section):
    """A data set of referring expressions."""

    reader: Literal["refer"]
    refs: str = Field(min_length=1)
    """refs(unc).p, refs(umd).p or grefs(unc).json."""
    instances: str = Field(min_length=1)
    """instances.json of the same data set."""
    pictures: str = Field(min_length=1)
    """Folder of the pictures (COCO's train2014)."""
    splits: list[str] = Field(min_length=1)
    """Which of the data set's own splits to read: train, val, testA, testB, test."""


class Expression(NamedTuple):
    """A description of one or several things, or of nothing."""

    text: str
    targets: tuple[int, ...]
    """Annotation ids."""
    where: str


@dataclass
class ReferIndex:
    """What was found in one pass over both files."""

    expressions: dict[int, list[Expression]] = field(default_factory=dict)
    """By image id."""
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    """COCO's records of the pictures that have expressions."""
    annotations: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Image id -> first byte and length of each annotation."""
    categories: dict[int, str] = field(default_factory=dict)
    licences: dict[object, str] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dictionaries, texts and numbers, which need no class; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which refs never need and which could do harm")


def read(source: ReferSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures that have expressions, with all their annotated regions and a dialogue per expression.

    A region that an expression alone describes bears the first such expression as its phrase; others have none. An
    annotation is one region, the union of its pieces.

    Raises:
        DataError: a file is unreadable as a whole, or has no expression of these splits.
    """
    folder = picture_folder(source.pictures)
    assert folder is not None
    index = build_index(Path(source.refs), Path(source.instances), splits=source.splits)
    yield from index.rejected
    ids = ImageIds()
    total = min(len(index.expressions), limits.max_pictures)
    with Path(source.instances).open("rb") as file:
        for image in progress(index.expressions, total=total, name="reading refer", unit="pictures"):
            yield from _picture(index, image, file, source=source, folder=folder, limits=limits, ids=ids)


def build_index(refs: Path, instances: Path, *, splits: Iterable[str]) -> ReferIndex:
    """What stands where, without masks and pixels.

    Raises:
        DataError: a file is unreadable as a whole, or has no expression of these splits.
    """
    index = ReferIndex()
    wanted, found = set(splits), Counter[str]()
    for number, ref in enumerate(_refs(refs)):
        where = f"{printable(refs)}: refs[{number}]"
        try:
            image, split, targets = _ref_fields(ref)
        except DataError as error:
            index.rejected.append(rejection(RejectedDialogue, where, error))
            continue
        found[split] += 1
        if split in wanted:
            for item in _sentences(ref, targets, where):
                if isinstance(item, Rejected):
                    index.rejected.append(item)
                else:
                    index.expressions.setdefault(image, []).append(item)
    if not index.expressions:
        raise DataError(
            f"{printable(refs)}: no expression of the splits {', '.join(sorted(wanted))}; the file has "
            f"{dict(found)}. Set `splits` of the source."
        )
    _index_instances(index, instances)
    return index


def _refs(path: Path) -> Iterable[Any]:
    try:
        with path.open("rb") as file:
            beginning = file.read(64).lstrip()
            if beginning[:1] in (b"[", b"\xef"):
                return (item.value for item in walk(path))
            file.seek(0)
            # Python 2 wrote these files: its byte strings are read as UTF-8, a wrong one is refused with its sentence.
            loaded = _PlainUnpickler(file, encoding="utf-8", errors="surrogateescape").load()
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(
            f"{printable(path)}: no such file. Set `refs` of the source to the file of expressions."
        ) from None
    except _UNPICKLING_FAILS as error:
        raise DataError(f"{printable(path)}: no sound pickle of plain values: {error}. Download it again.") from None
    if not isinstance(loaded, list):
        raise DataError(f"{printable(path)}: expected a list of refs, found {type(loaded).__name__}.")
    return loaded


def _ref_fields(ref: Any) -> tuple[int, str, tuple[int, ...]]:
    """Image id, split and annotation ids."""
    if not isinstance(ref, dict):
        raise DataError(f"expected an object with keys, found {type(ref).__name__}")
    image, split, annotation = ref.get("image_id"), ref.get("split"), ref.get("ann_id")
    if type(image) is not int:
        raise DataError(f'expected a whole number under "image_id", found {image!r}')
    if not isinstance(split, str):
        raise DataError(f'expected text under "split", found {split!r}')
    stated = annotation if isinstance(annotation, list) else [annotation]
    targets = [target for target in stated if type(target) is int]
    if not targets or len(targets) < len(stated):
        raise DataError(f'expected a whole number or a list of them under "ann_id", found {annotation!r}')
    return image, split, tuple(dict.fromkeys(target for target in targets if target != NO_TARGET))


def _sentences(ref: dict[str, Any], targets: tuple[int, ...], where: str) -> Iterator[Expression | Rejected]:
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or not sentences:
        yield rejection(RejectedDialogue, where, f'no list of sentences under "sentences", found {sentences!r}')
        return
    for number, sentence in enumerate(sentences):
        place = f"{where}, sentence {number}"
        try:
            raw = sentence.get("sent") or sentence.get("raw") if isinstance(sentence, dict) else sentence
            yield Expression(noun_phrase(checked_text(raw, what="the sentence")), targets, place)
        except DataError as error:
            yield rejection(RejectedDialogue, place, error)


def _index_instances(index: ReferIndex, path: Path) -> None:
    seen: set[str] = set()
    licences: list[Any] = []
    for element in walk(path, lists=("images", "annotations", "categories", "licenses")):
        key, value = element.member, element.value
        seen.add(key)
        if key == "annotations":
            image = value.get("image_id") if isinstance(value, dict) else None
            if isinstance(image, int) and image in index.expressions:
                index.annotations.setdefault(image, []).append((element.offset, element.length))
        elif key == "images":
            image = value.get("id") if isinstance(value, dict) else None
            if isinstance(image, int) and image in index.expressions:
                index.images[image] = value
        elif key == "licenses":
            licences.append(value)
        elif key == "categories":
            try:
                index.categories[value["id"]] = category_name(value["name"])
            except (DataError, KeyError, TypeError) as error:
                raise DataError(f"{printable(path)}: categories: {error}. Correct it in the file.") from None
    if missing := {"images", "annotations", "categories"} - seen:
        raise DataError(f"{printable(path)}: nothing under {', '.join(sorted(missing))}; expected COCO instances.")
    index.licences = licence_names(licences)


def _picture(
    index: ReferIndex,
    image: int,
    file: BinaryIO,
    *,
    source: ReferSource,
    folder: Path,
    limits: ReadLimits,
    ids: ImageIds,
) -> Iterator[FilePicture | Rejected]:
    expressions, record = index.expressions[image], index.images.get(image)
    where = f"{printable(source.instances)}: image {image}"
    try:
        if record is None:
            raise DataError(f"no picture has the image id {image}")
        size = {"height": record.get("height"), "width": record.get("width")}
        root = Path(source.instances).parent
        picture = named_picture(record.get("file_name"), folder=folder, root=root, limits=limits, **size)
    except DataError as error:
        yield rejection(RejectedPicture, where, f"{error}; {len(expressions)} expressions go with it")
        return
    image_id = ids.allot(printable(record["file_name"]))
    regions: dict[int, Region] = {}
    ignored: set[int] = set()
    for offset, length in index.annotations.get(image, []):
        annotation = element_at(file, offset, length)
        try:
            key = _annotation_id(annotation)
            if _category(index, annotation) in limits.ignore_categories:
                ignored.add(key)
                continue
            region = _region(index, annotation, picture, image_id=image_id, number=len(regions))
            if regions.setdefault(key, region) is not region:
                raise DataError("an earlier annotation has the same id")
        except DataError as error:
            label = annotation.get("id") if isinstance(annotation, dict) else annotation
            yield rejection(RejectedRegion, f"{where}, annotation {label!r}", error)
    dialogues: list[Dialogue] = []
    for item in _dialogues(expressions, regions, ignored=ignored, image_id=image_id):
        if isinstance(item, Rejected):
            yield item
        else:
            dialogues.append(item)
    phrases = _phrases(expressions)
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=printable(record["file_name"]),
        regions=tuple(region.model_copy(update={"phrase": phrases.get(key, "")}) for key, region in regions.items()),
        dialogues=tuple(dialogues),
        licence=licence_of(record, index.licences),
        content=picture.content,
        suffix=picture.suffix,
    )


def _annotation_id(annotation: Any) -> int:
    if not isinstance(annotation, dict) or type(annotation.get("id")) is not int:
        raise DataError('expected an object with a whole number under "id"')
    number: int = annotation["id"]
    return number


def _category(index: ReferIndex, annotation: dict[str, Any]) -> str:
    category = annotation.get("category_id")
    if not isinstance(category, int) or category not in index.categories:
        raise DataError(f"category id {category!r} is not among the categories")
    return index.categories[category]


def _region(
    index: ReferIndex, annotation: dict[str, Any], picture: UprightPicture, *, image_id: str, number: int
) -> Region:
    name = _category(index, annotation)
    is_crowd = annotation.get("iscrowd") in (1, True)
    return Region(
        region_id=f"{image_id}-r{number}",
        image_id=image_id,
        phrase="",
        mask=instance_mask(annotation.get("segmentation"), height=picture.pixels.height, width=picture.pixels.width),
        category=f"group of {plural(name)}" if is_crowd else name,
        attributes={"crowd": "yes"} if is_crowd else {},
    )


def instance_mask(segmentation: object, *, height: int, width: int) -> Rle:
    """The mask of a COCO segmentation, or of a list of run-length codes (RefCLEF), their union.

    Raises:
        DataError: no segmentation, a wrong one, or one that covers no pixel.
    """
    if isinstance(segmentation, list) and segmentation and all(isinstance(piece, dict) for piece in segmentation):
        return masks.union([segmentation_mask(piece, height=height, width=width) for piece in segmentation])
    return segmentation_mask(segmentation, height=height, width=width)


def _phrases(expressions: list[Expression]) -> dict[int, str]:
    """Annotation id -> the first expression that describes it and nothing else in the picture."""
    meant: dict[str, set[tuple[int, ...]]] = {}
    for expression in expressions:
        meant.setdefault(expression.text.casefold(), set()).add(expression.targets)
    phrases: dict[int, str] = {}
    for expression in expressions:
        if len(expression.targets) == 1 and len(meant[expression.text.casefold()]) == 1:
            phrases.setdefault(expression.targets[0], expression.text)
    return phrases


def _dialogues(
    expressions: list[Expression], regions: dict[int, Region], *, ignored: set[int], image_id: str
) -> Iterator[Dialogue | Rejected]:
    for number, expression in enumerate(expressions):
        if ignored.intersection(expression.targets):
            continue
        missing = [target for target in expression.targets if target not in regions]
        if missing:
            reason = f"annotation {', '.join(map(str, missing))} is not there or has no mask"
            yield rejection(RejectedDialogue, expression.where, reason)
            continue
        targets = [regions[target] for target in expression.targets]
        dialogue_id = f"{image_id}-refer-{number}"
        turn = Turn(
            question=question_for(expression.text, key=dialogue_id),
            answer=answer_with(len(targets), key=dialogue_id),
            targets=tuple(region.region_id for region in targets),
            names=(expression.text,) if len(targets) == 1 else tuple(region.category for region in targets),
        )
        yield one_turn(dialogue_id, image_id, turn, kind="referring", focus=expression.text)
