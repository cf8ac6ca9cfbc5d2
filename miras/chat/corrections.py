"""Answers that people put right, as samples that the data factory reads: the way from use back to data.

    corrections/
      source.yaml       the section for `ingest.sources`
      conversations/    <dialogue>.json: one MRSeg record (miras.sources.mrseg_markers)
      pictures/         <hash of the picture>.png
      masks.json        COCO: the masks that the records name, by the phrase of each

A sample is a dialogue up to the last answer that was put right; saving it again takes its place. MRSeg's form holds
masks in every turn, references to earlier masks and masks that are pointed at; PRIST's has room for one, at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from miras.chat.pieces import Piece, pieces_of
from miras.chat.rooms import Corrected, Room
from miras.dialogue.masks import area_px, box_xyxy_px, decode, encode
from miras.dialogue.records import TARGET_SLOT, Dialogue, Picture, Region, Turn
from miras.dialogue.rendering import plain_text
from miras.errors import DataError
from miras.files import disk_errors, finished_file, write_json
from miras.model.talk import mask_name
from miras.sources.annotations import category_name
from miras.sources.mrseg_export import record_of
from miras.sources.mrseg_markers import rounds_of, turns_of
from miras.sources.told import UNNAMED, checked_text

DATASET = "chat"  # what markers call masks.json
MASKS = "masks.json"
_HASH_CHARACTERS = 20
_SPACE_BEFORE_STOP = re.compile(r" +([.,;:!?])")
_WORD = re.compile(r"\w")


@dataclass
class _Sample:
    """A dialogue on its way into the files."""

    key: str
    """Of the dialogue and the model that answered it; the same at every saving."""
    revision: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of this saving, so that the masks of the one before stay true until its record is replaced."""
    regions: list[Region] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def add_region(self, phrase: str, mask: np.ndarray) -> Region:
        """A new region; a mask that is pointed at has its own, so that no reader takes it for an earlier target."""
        annotation = f"{self.key}-{self.revision}-{len(self.regions)}"
        region = Region(
            region_id=annotation,
            image_id=self.key,
            phrase=phrase,
            mask=encode(mask),
            attributes={"dataset": DATASET, "annotation": annotation},
        )
        self.regions.append(region)
        return region


class CorrectionFolder:
    """Where the samples lie; several servers may write into one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, room: Room, model: int, *, answered_by: str) -> Path:
        """Writes the dialogue up to its last corrected answer; returns the record's path.

        Killed in the middle, it leaves the sample as it was or as it is to be.

        Args:
            room: the dialogue, with at least one corrected answer of the model.
            model: which of its models.
            answered_by: name of the model, kept in the record.

        Raises:
            DataError: a text or name cannot be a sample's: empty, or it holds signs that only miras may write.
            DiskFullError: there is no space.
        """
        sample = _sample(room, model)
        content, picture_name = _stored_picture(room.talks[model].picture)
        record = _record(sample, picture_name) | {"miras": _history(room, model, answered_by)}
        path = self.folder / "conversations" / f"{sample.key}.json"
        with disk_errors(self.folder), self._locked():
            picture = self.folder / "pictures" / picture_name
            if not picture.exists():
                with finished_file(picture) as aside:
                    aside.write_bytes(content)
            known = self._annotations()
            new = [_annotation(region, picture_name) for region in sample.regions]
            self._write_annotations([*known, *new])
            write_json(path, [record])
            others = [item for item in known if not str(item["id"]).startswith(f"{sample.key}-")]
            if len(others) != len(known):
                self._write_annotations([*others, *new])
            self._write_source()
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _annotations(self) -> list[dict[str, Any]]:
        """Of masks.json, each with the name of its picture and its phrase."""
        path = self.folder / MASKS
        if not path.exists():
            return []
        try:
            content = json.loads(path.read_bytes())
            pictures = {item["id"]: item["file_name"] for item in content["images"]}
            phrases = {item["id"]: item["name"] for item in content["categories"]}
            return [
                item | {"image_id": pictures[item["image_id"]], "category_id": phrases[item["category_id"]]}
                for item in content["annotations"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: not as miras wrote it ({type(error).__name__}: {error}). Move the folder {self.folder} away; "
                "a new one is begun."
            ) from None

    def _write_annotations(self, annotations: Sequence[dict[str, Any]]) -> None:
        pictures = {name: number for number, name in enumerate(sorted({item["image_id"] for item in annotations}), 1)}
        phrases = {name: number for number, name in enumerate(sorted({item["category_id"] for item in annotations}), 1)}
        numbered = [
            item | {"image_id": pictures[item["image_id"]], "category_id": phrases[item["category_id"]]}
            for item in annotations
        ]
        content = {
            "images": [{"id": number, "file_name": name} for name, number in pictures.items()],
            "categories": [{"id": number, "name": name} for name, number in phrases.items()],
            "annotations": numbered,
        }
        with finished_file(self.folder / MASKS) as aside:
            aside.write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    def _write_source(self) -> None:
        section = {
            "corrections": {
                "reader": "mrseg",
                "conversations": str(self.folder / "conversations"),
                "pictures": str(self.folder / "pictures"),
                "masks": {DATASET: {"form": "coco", "path": str(self.folder / MASKS)}},
            }
        }
        with finished_file(self.folder / "source.yaml") as aside, aside.open("w", encoding="utf-8") as file:
            file.write("# Put this under ingest.sources of params.yaml to train on these dialogues.\n")
            YAML().dump(section, file)


def corrected_answer(text: str, targets: Sequence[tuple[str, np.ndarray]], sources: Sequence[int | None]) -> Corrected:
    """An answer as a person put it right.

    Args:
        text: as a person reads it; it names each target, in their order.
        targets: phrase and boolean mask (H, W) of each.
        sources: which of the answer's targets before each was made of; None: of none.

    Raises:
        DataError: a phrase or mask is empty, or the text does not name a target.
    """
    text = _SPACE_BEFORE_STOP.sub(r"\1", " ".join(text.split()))
    checked_text(text, what="the answer")
    pieces: list[str] = []
    place = 0
    phrases = []
    for number, (raw, mask) in enumerate(targets, 1):
        if not raw.strip():
            raise DataError(f"Mask {number} has no name. Give it the words that the answer calls it by.")
        if not mask.any():
            raise DataError(f"The mask of “{raw.strip()}” is empty. Draw it, or remove it from the answer.")
        phrase = _phrase(raw)
        found = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)").search(text, place)
        if found is None:
            raise DataError(
                f"The answer does not name “{phrase}”{' after the one before it' if number > 1 else ''}. Every mask "
                "needs its name in the text, in the order of the masks."
            )
        pieces.append(text[place : found.start()])
        place = found.end()
        phrases.append(phrase)
    pieces.append(text[place:])
    return Corrected(TARGET_SLOT.join(pieces), tuple(phrases), tuple(mask for _, mask in targets), tuple(sources))


def _phrase(raw: str) -> str:
    """A name as every reader gives it back: COCO's separators are blanks."""
    try:
        return category_name(raw.replace(":", " "))
    except DataError as error:
        raise DataError(f"A mask's name cannot be used: {error}.") from None


def _sample(room: Room, model: int) -> _Sample:
    """The dialogue up to its last corrected answer."""
    sample = _Sample(key=f"{room.room_id}m{model}")
    last = max(turn for at, turn in room.corrected if at == model)
    spoken: list[dict[str, Region]] = []  # per turn: name of a mask -> the region it stands for
    for turn, said in enumerate(room.talks[model].state.said[: last + 1]):
        pieces = pieces_of(said.response.answer)
        answer, targets = _answer(sample, pieces, [mask for _, mask in room.targets(model, turn)])
        refers_to, points_at = _references(sample, said.masks, spoken)
        spoken.append({name: targets[at] for name, at in room.own_targets(model, turn).items()})
        sample.turns.append(
            Turn(
                question=_SPACE_BEFORE_STOP.sub(r"\1", checked_text(said.question, what=f"question {turn + 1}")),
                answer=answer,
                targets=tuple(region.region_id for region in targets.values()),
                names=tuple(region.phrase for region in targets.values()),
                refers_to=refers_to,
                points_at=points_at,
            )
        )
    return sample


def _answer(sample: _Sample, pieces: Sequence[Piece], masks: Sequence[np.ndarray]) -> tuple[str, dict[int, Region]]:
    """An answer with slots, and its regions by number of the target; one that covers nothing stays as words."""
    text, targets = "", dict[int, Region]()
    for piece in pieces:
        if piece.target is None or not masks[piece.target].any():
            text += piece.text.replace(TARGET_SLOT, "")
            continue
        if not piece.text.strip():
            raise DataError(
                "An answer before has a mask without a name; put that answer right first (pencil beside it)."
            )
        targets[piece.target] = sample.add_region(_phrase(piece.text), masks[piece.target])
        text += TARGET_SLOT
    return _SPACE_BEFORE_STOP.sub(r"\1", " ".join(text.split())), targets


def _references(
    sample: _Sample, masks: Sequence[np.ndarray], spoken: Sequence[dict[str, Region]]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Earlier turns whose targets are all spoken of, and regions of the masks that are left."""
    waiting = {mask_name(mask): mask for mask in masks}
    refers_to = []
    for turn in reversed(range(len(spoken))):
        here = {name: region.region_id for name, region in spoken[turn].items()}
        if here and set(here.values()) == {here[name] for name in waiting if name in here}:
            refers_to.append(turn)
            waiting = {name: mask for name, mask in waiting.items() if name not in here}
    known = {name: region for regions in spoken for name, region in regions.items()}
    points_at = []
    for name, mask in waiting.items():
        region = known.get(name)  # as it is now, where it was put right since
        now = mask if region is None or region.mask is None else decode(region.mask)
        points_at.append(sample.add_region(UNNAMED if region is None else region.phrase, now).region_id)
    return tuple(sorted(refers_to)), tuple(points_at)


def _record(sample: _Sample, picture_name: str) -> dict[str, Any]:
    """The MRSeg record, read again to see that nothing of it is lost.

    Raises:
        DataError: its reader would not give the same back.
    """
    dialogue = Dialogue(dialogue_id=sample.key, image_id=sample.key, kind="mrseg", focus="", turns=tuple(sample.turns))
    regions = {region.region_id: region for region in sample.regions}
    # Of a picture only the name of its file is looked at.
    picture = Picture(image_id=sample.key, file_name=picture_name, height=1, width=1, sha256="")
    record = record_of(dialogue, regions, {sample.key: picture}, None)
    for number, (ours, read) in enumerate(zip(sample.turns, turns_of(rounds_of(record, key="")), strict=True), 1):
        has_words = _WORD.search(ours.answer.replace(TARGET_SLOT, "")) is not None  # else the reader adds some
        is_same = ours.question == read.question and (ours.answer == read.answer or not has_words)
        targets = tuple(name.annotation for name in read.targets)
        pointed_at = tuple(name.annotation for name in read.points_at)
        if not is_same or (targets, read.refers_to, pointed_at) != (ours.targets, ours.refers_to, ours.points_at):
            raise DataError(
                f"Turn {number} cannot be saved without loss: its text holds signs that the form of the data set uses "
                "(such as [NAME:...]). Take them out."
            )
    return record


def _history(room: Room, model: int, answered_by: str) -> dict[str, Any]:
    """What the record keeps besides: who answered, which answers were put right, and what stood there before."""
    return {
        "answered_by": answered_by,
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "corrected": {
            str(turn): plain_text(response.answer)
            for (at, turn), response in sorted(room.corrected.items(), key=lambda item: item[0])
            if at == model
        },
    }


def _annotation(region: Region, picture_name: str) -> dict[str, Any]:
    """In COCO's form, with names where masks.json has numbers."""
    assert region.mask is not None
    left, top, right, bottom = box_xyxy_px(region.mask)
    return {
        "id": region.region_id,
        "image_id": picture_name,
        "category_id": region.phrase,
        "segmentation": {"size": list(region.mask.size), "counts": region.mask.counts},
        "area": area_px(region.mask),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }


def _stored_picture(picture: Image.Image) -> tuple[bytes, str]:
    """The file's content and name: the same picture has the same."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    content = buffer.getvalue()
    return content, f"{hashlib.sha256(content).hexdigest()[:_HASH_CHARACTERS]}.png"
