"""Dialogues that say the same: normalised texts, three-word shingles, and who repeats whom.

Compared within one picture only. Across pictures templates repeat by design ("Segment the red mug."), so
there repeated texts are counted, never refused.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

from miras.dialogue.records import Dialogue
from miras.dialogue.rendering import plain_text, render_answer

SHINGLE_WORDS = 3
_WORD = re.compile(r"\w+")


def text_key(text: str) -> str:
    """The text as words in lower case with single blanks: what stays when typing differs."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def dialogue_key(dialogue: Dialogue, phrases: Mapping[str, str]) -> str:
    """Normalised text of all turns with the phrases of the targets written in.

    Args:
        dialogue: its turns are read in order.
        phrases: region id -> phrase; an unknown region is written as its id.
    """
    texts = []
    for turn in dialogue.turns:
        known = {region_id: phrases.get(region_id, region_id) for region_id in turn.targets}
        pointed = [phrases.get(region_id, region_id) for region_id in turn.points_at]
        texts += [*pointed, turn.question, plain_text(render_answer(turn, known))]
    return text_key(" ".join(texts))


def text_key_hash(key: str) -> int:
    """64 bits that stand for a normalised text."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def repeated_dialogues(dialogues: Sequence[Dialogue], keys: Sequence[str], *, similarity: float) -> dict[int, int]:
    """Row of each repetition -> row of the earlier dialogue it repeats. The first of a group stays.

    A dialogue repeats an earlier one of the same picture when their texts are equal, or when they have the
    same targets and their shingles are at least `similarity` alike (Jaccard). Dialogues without picture repeat each
    other when their texts are equal: there may be a million of them, too many to compare each with each.

    Args:
        dialogues: in the order of the table.
        keys: normalised text of each, from `dialogue_key`.
        similarity: in (0, 1].
    """
    rows_of_picture: dict[str, list[int]] = defaultdict(list)
    repeats: dict[int, int] = {}
    first_alone: dict[str, int] = {}
    for row, dialogue in enumerate(dialogues):
        if dialogue.image_id:
            rows_of_picture[dialogue.image_id].append(row)
        elif (first := first_alone.setdefault(keys[row], row)) != row:
            repeats[row] = first
    for rows in rows_of_picture.values():
        repeats |= _repeats_in_picture(rows, dialogues, keys, similarity=similarity)
    return repeats


def _repeats_in_picture(
    rows: Sequence[int], dialogues: Sequence[Dialogue], keys: Sequence[str], *, similarity: float
) -> dict[int, int]:
    repeats: dict[int, int] = {}
    first_with_key: dict[str, int] = {}
    kept_with_targets: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in rows:
        original = first_with_key.setdefault(keys[row], row)
        targets = tuple(region_id for turn in dialogues[row].turns for region_id in turn.targets)
        if original == row and similarity < 1:
            original = _first_alike(row, kept_with_targets[targets], keys, similarity=similarity)
        if original != row:
            repeats[row] = original
        else:
            kept_with_targets[targets].append(row)
    return repeats


def _first_alike(row: int, kept: Sequence[int], keys: Sequence[str], *, similarity: float) -> int:
    if not kept:
        return row
    own = _shingles(keys[row])
    return next((other for other in kept if _jaccard(own, _shingles(keys[other])) >= similarity), row)


def _shingles(key: str) -> set[tuple[str, ...]]:
    words = key.split()
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return {tuple(words[start : start + SHINGLE_WORDS]) for start in starts}


def _jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)
