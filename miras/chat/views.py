"""A dialogue as the page gets it: JSON with masks as small pictures in pixels of the shown picture.

The shown picture is the dialogue's own, or a smaller one of `VIEW_SIDE_PX` where it is larger.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from miras.chat.pieces import pieces_of
from miras.chat.rooms import Room
from miras.model.talk import Said, mask_name

VIEW_SIDE_PX = 1600
LOSSLESS_BELOW_PX = 1_000_000
JPEG_QUALITY = 92


@dataclass(frozen=True)
class View:
    """The size in which a picture is shown."""

    width: int
    height: int

    @classmethod
    def of(cls, picture: Image.Image) -> View:
        """For an upright picture."""
        scale = min(1.0, VIEW_SIDE_PX / max(picture.size))
        return cls(max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))


def shown_picture(picture: Image.Image) -> tuple[bytes, str]:
    """The picture as the page shows it, and its media type: exact where it is small."""
    view = View.of(picture)
    if (view.width, view.height) != picture.size:
        picture = picture.resize((view.width, view.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if view.width * view.height <= LOSSLESS_BELOW_PX:
        picture.save(buffer, format="PNG")
        return buffer.getvalue(), "image/png"
    picture.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue(), "image/jpeg"


def room_view(room: Room) -> dict[str, Any]:
    """The whole dialogue."""
    picture = room.first.picture
    view = View.of(picture)
    return {
        "id": room.room_id,
        "title": room.title,
        "width": picture.width,
        "height": picture.height,
        "view": {"width": view.width, "height": view.height},
        "models": list(room.talks),
        "turns": [turn_view(room, number) for number in range(room.num_turns)],
    }


def turn_view(room: Room, turn: int) -> dict[str, Any]:
    """A question with the answers of all models."""
    said = {model: talk.state.said[turn] for model, talk in room.talks.items()}
    first = next(iter(said))
    return {
        "question": said[first].question,
        "about": _about(room, first, said[first], turn),
        "answers": {str(model): answer_view(room, model, turn, item) for model, item in said.items()},
    }


def answer_view(room: Room, model: int, turn: int, said: Said) -> dict[str, Any]:
    """What one model said, with its masks."""
    is_corrected = (model, turn) in room.corrected
    view = View.of(room.first.picture)
    return {
        "pieces": [{"text": piece.text, "target": piece.target} for piece in pieces_of(said.response.answer)],
        "targets": [
            {"phrase": group.phrase, "score": None if is_corrected else round(group.score, 4)}
            | mask_view(group.mask, view)
            for group in said.response.groups
        ],
        "seconds": round(said.response.seconds, 2),
        "is_cut": said.response.is_cut,
        "is_corrected": is_corrected,
    }


def mask_view(mask: np.ndarray, view: View) -> dict[str, Any]:
    """A mask's area in pixels of the picture, and in pixels of the view its tight box and a PNG of what is in the box.

    `box` and `png` are None for a mask that is empty, or too small to be seen at the view's size.
    """
    area = int(mask.sum())
    if mask.shape != (view.height, view.width):
        image = Image.fromarray(mask.astype(np.uint8) * 255).resize((view.width, view.height), Image.Resampling.BOX)
        mask = np.asarray(image) >= 128  # half of a pixel or more
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return {"area": area, "box": None, "png": None}
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    buffer = io.BytesIO()
    Image.fromarray(mask[top:bottom, left:right]).save(buffer, format="PNG")
    return {
        "area": area,
        "box": [left, top, right, bottom],
        "png": base64.b64encode(buffer.getvalue()).decode("ascii"),
    }


def _about(room: Room, model: int, said: Said, turn: int) -> list[dict[str, Any]]:
    """What the masks that a question speaks of are called, and where they come from; None: not an answer's."""
    names = [mask_name(mask) for mask in said.masks]
    found: dict[str, dict[str, Any]] = {}
    for source in range(turn) if names else ():
        for source_model in room.talks:
            targets = room.targets(source_model, source)
            for name, target in room.own_targets(source_model, source).items():
                found[name] = {"phrase": targets[target][0], "model": source_model, "turn": source, "target": target}
    return [found.get(name, {"phrase": "", "model": model, "turn": None, "target": None}) for name in names]
