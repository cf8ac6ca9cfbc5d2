"""What a dialogue can be taken along as: masks as PNG, COCO run lengths, Labelme, and the dialogue itself."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from miras.annotate.hand_out import labelme_file
from miras.annotate.outlines import shapes
from miras.chat.rooms import NotFoundError, Room
from miras.dialogue.masks import encode
from miras.open_dialogue import SAVED_SUFFIX, Answer
from miras.taking import coco, drawn, mask_png

PICTURE = "picture.png"
UNNAMED = "thing"  # what Labelme calls a mask that the answer has no words for


@dataclass(frozen=True)
class Download:
    """A file to hand over."""

    content: bytes
    media_type: str
    name: str


def download(room: Room, kind: str, model: int) -> Download:
    """A dialogue of one model as a file.

    Args:
        room: the dialogue.
        kind: of `KINDS`.
        model: which of its models.

    Raises:
        NotFoundError: there is no such kind or model.
    """
    if kind not in KINDS or model not in room.talks:
        raise NotFoundError(f"There is no download {kind!r} of model {model + 1}; expected one of {', '.join(KINDS)}.")
    return KINDS[kind](room, model)


def _png(room: Room, model: int) -> Download:
    files: dict[str, bytes] = {}
    picture = room.talks[model].picture
    for turn, answer in enumerate(room.talks[model].answers, 1):
        for number, target in enumerate(answer.targets, 1):
            files[f"turn{turn}-mask{number}.png"] = mask_png(target.mask)
        if answer.targets:
            files[f"turn{turn}.png"] = _as_png(drawn(picture, [target.mask for target in answer.targets]))
    return Download(_zip(files), "application/zip", "masks.zip")


def _coco(room: Room, model: int) -> Download:
    picture = room.talks[model].picture
    found = coco(room.talks[model].answers, file_name=room.title, height=picture.height, width=picture.width)
    return Download(_json(found), "application/json", "coco.json")


def _labelme(room: Room, model: int) -> Download:
    picture = room.talks[model].picture
    content = labelme_file(
        labelme_shapes(room.talks[model].answers), picture=PICTURE, height=picture.height, width=picture.width
    )
    files = {"picture.json": content, PICTURE: _as_png(picture)}
    return Download(_zip(files), "application/zip", "labelme.zip")


def labelme_shapes(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Every mask that is not empty as polygons; several parts of one share a group of their own."""
    found: list[dict[str, Any]] = []
    group = 0
    for turn, answer in enumerate(answers, 1):
        for target in answer.targets:
            group += 1
            for shape in shapes(encode(target.mask), label=target.phrase or UNNAMED, group_id=group):
                found.append(shape | {"description": f"turn {turn}"})
    return found


def _dialogue(room: Room, model: int) -> Download:
    with TemporaryDirectory() as folder:
        saved = room.talks[model].save(Path(folder) / "dialogue")
        return Download(saved.read_bytes(), "application/json", f"dialogue{SAVED_SUFFIX}")


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


KINDS: dict[str, Callable[[Room, int], Download]] = {
    "png": _png,
    "coco": _coco,
    "labelme": _labelme,
    "dialogue": _dialogue,
}
