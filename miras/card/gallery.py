"""Random dialogues with their masks drawn: which ones, and what a page shows of them."""

from __future__ import annotations

import base64
import hashlib
import heapq
import io
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from miras.card.shelf import RecordShelf
from miras.dialogue.records import SPLITS, TARGET_SLOT, Dialogue, Frozen, Picture, Region, Split, Turn
from miras.dialogue.rendering import render_answer, split_groups
from miras.errors import DataError
from miras.evaluate.overlays import TRUTH_RGB, overlay
from miras.files import read_records
from miras.paths import Paths

PANEL_PX = 480
POINTED_AT_RGB = (37, 99, 235)
KINDS_SHOWN = ("prist", "mrseg", "referring", "semantic")  # those with masks


class Example(Frozen):
    """A dialogue of the gallery."""

    split: Split
    dialogue: Dialogue


class Piece(Frozen):
    """A part of an answer."""

    text: str
    is_phrase: bool
    """Whether it names a target."""


class ShownTurn(Frozen):
    """A turn as pages show it; pictures are `data:` addresses, "" where there is none."""

    question: str
    pointed_at: str
    """What the person points at together with the question, in words."""
    pointed_at_drawn: str
    """The same on the picture, blue."""
    answer: tuple[Piece, ...]
    drawn: str
    """The picture with the masks of the targets, green."""
    alt: str
    """What that shows, in words."""
    is_without_mask: bool
    """Whether it has targets that nobody has drawn."""


class ShownDialogue(Frozen):
    """A dialogue as pages show it."""

    dialogue_id: str
    title: str
    kind: str
    split: Split
    source: str
    turns: tuple[ShownTurn, ...]


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
            entry = (-_place(dialogue.dialogue_id, seed), dialogue.dialogue_id, Example(split=split, dialogue=dialogue))
            if len(heap) < count:
                heapq.heappush(heap, entry)
            elif entry[0] > heap[0][0]:
                heapq.heapreplace(heap, entry)
    queues = [sorted(heap, key=lambda entry: -entry[0]) for heap in heaps.values()]
    dealt = [queue[place][2] for place in range(count) for queue in queues if place < len(queue)]
    return dealt[:count]


def shown(
    examples: Sequence[Example], paths: Paths, *, pictures: RecordShelf[Picture], regions: RecordShelf[Region]
) -> Iterator[ShownDialogue]:
    """What pages show of each example.

    Raises:
        DataError: a picture file cannot be opened.
    """
    for example in examples:
        dialogue = example.dialogue
        picture = pictures[dialogue.image_id]
        ground = _opened(paths, picture, dialogue)
        found = {key: regions[key] for turn in dialogue.turns for key in (*turn.targets, *turn.points_at)}
        yield ShownDialogue(
            dialogue_id=dialogue.dialogue_id,
            title=dialogue.focus or ", ".join(dict.fromkeys(region.phrase for region in found.values())),
            kind=dialogue.kind,
            split=example.split,
            source=picture.source,
            turns=tuple(_turn(turn, found, ground) for turn in dialogue.turns),
        )


def answer_pieces(answer: str) -> tuple[Piece, ...]:
    """A rendered answer in pieces: phrases with a mask, and the text around them."""
    text, phrases = split_groups(answer)
    pieces = []
    for number, part in enumerate(text.split(TARGET_SLOT)):
        if number:
            pieces.append(Piece(text=phrases[number - 1], is_phrase=True))
        pieces.append(Piece(text=part, is_phrase=False))
    return tuple(piece for piece in pieces if piece.text)


def data_uri(picture: Image.Image) -> str:
    """The picture as an address that holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _opened(paths: Paths, picture: Picture, dialogue: Dialogue) -> Image.Image:
    file = paths.pictures / picture.file_name
    try:
        with Image.open(file) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise DataError(
            f"{file}: the picture of {dialogue.dialogue_id} cannot be opened: {error}. Run the stage ingest again "
            "(`dvc repro ingest`)."
        ) from None


def _turn(turn: Turn, regions: Mapping[str, Region], ground: Image.Image) -> ShownTurn:
    phrases = {key: region.phrase for key, region in regions.items()}
    drawn = _drawn(turn.targets, regions, ground, colour=TRUTH_RGB)
    names = ", ".join(turn.names or [phrases[key] for key in turn.targets])
    return ShownTurn(
        question=turn.question,
        pointed_at=", ".join(phrases[key] for key in turn.points_at),
        pointed_at_drawn=_drawn(turn.points_at, regions, ground, colour=POINTED_AT_RGB),
        answer=answer_pieces(render_answer(turn, phrases)),
        drawn=drawn,
        alt=f"the picture with the mask of {names}",
        is_without_mask=bool(turn.targets) and not drawn,
    )


def _drawn(
    region_ids: Sequence[str], regions: Mapping[str, Region], ground: Image.Image, *, colour: tuple[int, int, int]
) -> str:
    masks = [mask for key in region_ids if (mask := regions[key].mask) is not None]
    return data_uri(overlay(ground, masks, colour=colour, side_px=PANEL_PX)) if masks else ""


def _place(dialogue_id: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{dialogue_id}".encode()).digest()[:8], "big")
