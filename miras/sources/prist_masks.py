"""Masks of PRIST: which shapes of a picture's Labelme file a focus means, and the manifest of ambiguous foci.

A label that reads as the focus does is taken first; else the one label that contains it. Where two records of a picture
have one focus, or one focus contains another, the second rule can find the wrong mask: such a focus needs an entry in
the manifest, and is then only looked up by the label that stands there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import ValidationError

from miras.dialogue import masks
from miras.dialogue.records import Frozen, Rle
from miras.errors import DataError
from miras.files import write_json
from miras.sources.annotations import read_json
from miras.sources.labelme import ENCODINGS, shape_mask
from miras.sources.pictures import printable

SHIPPED_MANIFEST = "prist_manifest.json"
_STRAIGHT_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00b4": "'", "`": "'"})


class Resolution(Frozen):
    """Which label a focus means that could be mistaken."""

    index: int
    """Position of the record in its file; for people, it is not looked at."""
    img_id: str
    focus: str
    case: Literal["duplicate", "substring"]
    """duplicate: other records of the picture have this focus; substring: it is part of another one's focus."""
    others: tuple[int, ...]
    """Positions of these other records."""
    label: str
    """The label to take, every shape that bears it; "" : leave the record out."""


@dataclass(frozen=True)
class MaskFile:
    """A picture's Labelme file."""

    path: Path
    shapes: Mapping[str, Sequence[dict[str, Any]]]
    """Label as `label_key` gives it -> its shapes."""
    pixels: Image.Image

    @classmethod
    def read(cls, path: Path, pixels: Image.Image) -> MaskFile:
        """The file at this path, UTF-8 or else cp1252.

        Raises:
            DataError: it is missing, no Labelme file, or states another size than the picture's.
        """
        content = read_json(path, encodings=ENCODINGS)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError(f'{printable(path)}: no list under "shapes": not a Labelme file. Save it in Labelme again')
        stated = (content.get("imageWidth"), content.get("imageHeight"))
        if stated not in ((None, None), pixels.size):
            raise DataError(f"{printable(path)}: size {stated} is stated, the picture has {pixels.size}")
        shapes: dict[str, list[dict[str, Any]]] = {}
        for number, shape in enumerate(content["shapes"]):
            if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
                raise DataError(f'{printable(path)}: shapes[{number}]: expected an object with text under "label"')
            shapes.setdefault(label_key(shape["label"]), []).append(shape)
        return cls(path, shapes, pixels)

    def label_of(self, focus: str, *, foci: Sequence[str], resolution: Resolution | None) -> str:
        """The key of the label that the focus means.

        Args:
            foci: of all records of this picture, its own among them.
            resolution: what the manifest says of it.

        Raises:
            DataError: no label fits, several do, or the focus is ambiguous and the manifest does not speak of it.
        """
        key = label_key(focus)
        if resolution is not None:
            if label_key(resolution.label) in self.shapes:
                return label_key(resolution.label)
            raise DataError(f"the manifest says {resolution.label!r} for the focus {focus!r}; {self._candidates()}")
        others = [other for other in map(label_key, foci) if key in other]
        if len(others) > 1:
            raise DataError(
                f"the focus {focus!r} is also (part of) another one of this picture and the manifest does not settle "
                f"it. Add it to the manifest; {self._candidates()}"
            )
        if key in self.shapes:
            return key
        containing = [label for label in self.shapes if key in label]
        if len(containing) != 1:
            found = f"several labels contain it ({containing})" if containing else "no label contains it"
            raise DataError(f"no label reads {focus!r} and {found}; {self._candidates()}")
        return containing[0]

    def mask_of(self, key: str) -> Rle:
        """The union of all shapes under this label.

        Raises:
            DataError: one of them is no outline.
        """
        try:
            return masks.union(
                [shape_mask(shape, height=self.pixels.height, width=self.pixels.width) for shape in self.shapes[key]]
            )
        except DataError as error:
            raise DataError(f"{printable(self.path)}: label {key!r}: {error}") from None

    def _candidates(self) -> str:
        names = sorted({shape["label"] for shapes in self.shapes.values() for shape in shapes})
        return f"labels in {self.path.name}: {', '.join(map(repr, names)) or 'none'}"


def label_key(text: str) -> str:
    """A label or focus for comparison: no case, one kind of quotes, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_STRAIGHT_QUOTES).casefold().split())


def ambiguities(records: Sequence[Any]) -> Iterator[Resolution]:
    """The records whose focus another record of their picture has, too, or contains, in order of the file.

    Their label is the focus itself: records with one focus share a mask, and a part of another focus is found by a
    label that reads as it does and by no other one.

    Args:
        records: as `prist.read_records` gives them; those without sound img_id and focus are passed over.
    """
    by_picture: dict[str, list[tuple[int, str]]] = {}
    for index, record in enumerate(records):
        if isinstance(record, dict) and isinstance(record.get("img_id"), str) and isinstance(record.get("focus"), str):
            by_picture.setdefault(record["img_id"], []).append((index, record["focus"].strip()))
    found: list[Resolution] = []
    for img_id, foci in by_picture.items():
        for index, focus in foci:
            key = label_key(focus)
            same = tuple(other for other, text in foci if other != index and label_key(text) == key)
            longer = tuple(other for other, text in foci if other != index and key in label_key(text))
            if longer:
                case: Literal["duplicate", "substring"] = "duplicate" if same else "substring"
                others = same or longer
                found.append(Resolution(index=index, img_id=img_id, focus=focus, case=case, others=others, label=focus))
    yield from sorted(found, key=lambda item: item.index)


def write_manifest(records: Sequence[Any], path: Path) -> int:
    """Writes the manifest of a file's ambiguous records, to be read and corrected by a person; returns how many."""
    found = [item.model_dump(mode="json") for item in ambiguities(records)]
    write_json(path, found)
    return len(found)


def read_manifest(path: Path | None) -> dict[tuple[str, str], Resolution]:
    """The resolutions by img_id and focus; None: of the public test file.

    Raises:
        DataError: the file is missing or not of this form.
    """
    if path is None:
        with resources.as_file(resources.files("miras.sources") / SHIPPED_MANIFEST) as shipped:
            return read_manifest(shipped)
    items = read_json(path)
    if not isinstance(items, list):
        raise DataError(f"{printable(path)}: expected a list of resolutions, found {type(items).__name__}.")
    try:
        parsed = [Resolution.model_validate(item) for item in items]
    except ValidationError as error:
        raise DataError(
            f"{printable(path)}: not a manifest: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}."
        ) from None
    return {(item.img_id, item.focus): item for item in parsed}
