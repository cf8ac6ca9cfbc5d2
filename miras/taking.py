"""Masks and dialogues to take along: PNG, COCO run lengths, Labelme, a picture with the masks drawn.

What `miras predict` writes and what the chat page offers for download.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miras.dialogue.masks import area_px, box_xyxy_px, encode
from miras.files import finished_folder
from miras.open_dialogue import Answer, OpenDialogue

COLOURS = ((230, 60, 60), (40, 120, 220), (30, 160, 90), (240, 160, 30), (150, 80, 200), (20, 170, 180))
OPACITY = 0.5


def mask_png(mask: np.ndarray) -> bytes:
    """A boolean mask (H, W) as PNG: 255 in the mask, 0 elsewhere."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return buffer.getvalue()


def drawn(picture: Image.Image, masks: Sequence[np.ndarray], *, opacity: float = OPACITY) -> Image.Image:
    """The picture with each mask in a colour of its own."""
    pixels = np.asarray(picture.convert("RGB")).astype(np.float32)
    for number, mask in enumerate(masks):
        colour = np.array(COLOURS[number % len(COLOURS)], np.float32)
        pixels[mask] = (1 - opacity) * pixels[mask] + opacity * colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def coco(answers: Sequence[Answer], *, file_name: str, height: int, width: int) -> dict[str, Any]:
    """Every target of every answer as COCO instances; the category is its phrase."""
    phrases = list(dict.fromkeys(target.phrase for answer in answers for target in answer.targets))
    annotations: list[dict[str, Any]] = []
    for turn, answer in enumerate(answers):
        for target in answer.targets:
            code = encode(target.mask)
            left, top, right, bottom = box_xyxy_px(code)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 1,
                    "category_id": phrases.index(target.phrase) + 1,
                    "segmentation": {"size": list(code.size), "counts": code.counts},
                    "area": area_px(code),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                    "score": round(target.score, 4),
                    "turn": turn,
                }
            )
    return {
        "images": [{"id": 1, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": number, "name": phrase} for number, phrase in enumerate(phrases, 1)],
        "annotations": annotations,
    }


def spoken(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The dialogue as JSON: text, phrases, boxes, scores and run lengths of every answer."""
    return [
        {
            "question": answer.question,
            "answer": answer.text,
            "seconds": round(answer.seconds, 3),
            "is_cut": answer.is_cut,
            "targets": [
                {
                    "phrase": target.phrase,
                    "score": round(target.score, 4),
                    "box_xyxy": list(target.box),
                    "mask": encode(target.mask).model_dump(),
                }
                for target in answer.targets
            ],
        }
        for answer in answers
    ]


def write_dialogue(talk: OpenDialogue, into: Path, *, file_name: str) -> list[Path]:
    """Writes a dialogue as a folder: dialogue.json, coco.json, and per answer with masks a picture and PNG masks.

    Returns:
        What was written, in the order of the answers.
    """
    names: list[str] = []
    with finished_folder(into) as folder:
        for turn, answer in enumerate(talk.answers, 1):
            if not answer.targets:
                continue
            names.append(f"turn{turn}.png")
            drawn(talk.picture, [target.mask for target in answer.targets]).save(folder / names[-1])
            for number, target in enumerate(answer.targets, 1):
                names.append(f"turn{turn}-mask{number}.png")
                (folder / names[-1]).write_bytes(mask_png(target.mask))
        width, height = talk.picture.size
        found = coco(talk.answers, file_name=file_name, height=height, width=width)
        for name, value in (("dialogue.json", spoken(talk.answers)), ("coco.json", found)):
            (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
            names.append(name)
    return [into / name for name in names]


def data_address(content: bytes, kind: str) -> str:
    """Bytes inside a page: `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
