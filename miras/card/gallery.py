"""Random dialogues with their masks drawn, as one page that opens offline."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from miras.card.shelf import RecordShelf
from miras.dialogue.records import SPLITS, Dialogue, Picture, Region, Turn
from miras.dialogue.rendering import render_answer
from miras.errors import DataError
from miras.evaluate.overlays import TRUTH_RGB, overlay
from miras.evaluate.report import answer_pieces, data_uri
from miras.files import read_records
from miras.paths import Paths

PANEL_PX = 420
KINDS_SHOWN = ("prist", "mrseg", "referring", "semantic")  # those with masks


@dataclass(frozen=True)
class Example:
    """A dialogue of the gallery."""

    split: str
    dialogue: Dialogue


def draw_examples(paths: Paths, *, count: int, seed: int) -> list[Example]:
    """Random dialogues with a target, the kinds by turns, PRIST first; the same seed and data give the same ones.

    A dialogue that is drawn stays drawn when others are added, unless one of them has a smaller hash.
    """
    if not count:
        return []
    heaps: dict[str, list[tuple[int, str, Example]]] = {kind: [] for kind in KINDS_SHOWN}
    for split in SPLITS:
        for dialogue in read_records(paths.split_dialogues(split), Dialogue):
            heap = heaps.get(dialogue.kind)
            if heap is None or not any(turn.targets for turn in dialogue.turns):
                continue
            entry = (-_place(dialogue.dialogue_id, seed), dialogue.dialogue_id, Example(split, dialogue))
            if len(heap) < count:
                heapq.heappush(heap, entry)
            elif entry[0] > heap[0][0]:
                heapq.heapreplace(heap, entry)
    queues = [sorted(heap, key=lambda entry: -entry[0]) for heap in heaps.values()]
    dealt = [queue[place][2] for place in range(count) for queue in queues if place < len(queue)]
    return dealt[:count]


def cards(
    examples: list[Example], paths: Paths, *, pictures: RecordShelf[Picture], regions: RecordShelf[Region]
) -> Iterator[dict[str, Any]]:
    """What the page shows of each example: its turns, each with its picture where it has a mask."""
    for example in examples:
        dialogue = example.dialogue
        picture = pictures[dialogue.image_id]
        try:
            with Image.open(paths.pictures / picture.file_name) as opened:
                ground = opened.convert("RGB")
        except OSError as error:
            raise DataError(
                f"{paths.pictures / picture.file_name}: the picture of {dialogue.dialogue_id} cannot be opened: "
                f"{error}. Run the stage ingest again (`dvc repro ingest`)."
            ) from None
        found = {key: regions[key] for turn in dialogue.turns for key in (*turn.targets, *turn.points_at)}
        yield {
            "dialogue_id": dialogue.dialogue_id,
            "title": dialogue.focus or ", ".join(dict.fromkeys(region.phrase for region in found.values())),
            "pills": [dialogue.kind, example.split, *([picture.source] if picture.source else [])],
            "turns": [_turn(turn, found, ground) for turn in dialogue.turns],
        }


def _turn(turn: Turn, regions: dict[str, Region], ground: Image.Image) -> dict[str, Any]:
    phrases = {key: region.phrase for key, region in regions.items()}
    answer = render_answer(turn, phrases)
    masks = [mask for key in turn.targets if (mask := regions[key].mask) is not None]
    names = ", ".join(turn.names or [phrases[key] for key in turn.targets])
    drawn = data_uri(overlay(ground, masks, colour=TRUTH_RGB, side_px=PANEL_PX)) if masks else ""
    return {
        "question": turn.question,
        "pointed_at": ", ".join(phrases[key] for key in turn.points_at),
        "answer": answer_pieces(answer),
        "drawn": drawn,
        "alt": f"the picture with the mask of {names}",
        "without_mask": bool(turn.targets) and not masks,
    }


def _place(dialogue_id: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{dialogue_id}".encode()).digest()[:8], "big")
