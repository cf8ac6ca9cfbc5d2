"""What the checks need to know of a dialogue's texts: empty, long, untidy, or holding what only the renderer writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from miras.dialogue.records import TARGET_SLOT, Dialogue, Turn
from miras.dialogue.rendering import MARKERS

# Our markers in any case, and the special tokens that language models and other data sets use.
_MARKER = re.compile(
    "|".join(re.escape(marker) for marker in MARKERS)
    + r"|\[(?:REF|CLS|SEP|PAD|MASK|UNK|INST|/INST)\]"
    + r"|</?(?:s|p|seg|obj|ref|unk|pad|mask|box|img|im_start|im_end)>|<\|[^|<>]*\|>",
    re.IGNORECASE,
)
_SLOT_LIKE = re.compile(r"\{[^{}]*\}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\ufffd]")


def text_features(dialogue: Dialogue) -> dict[str, Any]:
    """Columns of a row about its texts; null where there is no problem."""
    told = texts(dialogue)
    return {
        "turn_pattern": "".join(
            letter
            for turn in dialogue.turns
            for letter, text in (("q", turn.question), ("a", turn.answer))
            if text.strip()
        ),
        "turns": len(dialogue.turns),
        "longest_text_words": max((len(text.split()) for text in told), default=0),
        "untidy_text": listed(_untidy_texts(dialogue.turns)),
        "typed_markers": typed_markers(told, slots_allowed=True) or typed_markers(names(dialogue), slots_allowed=False),
        "slots_in_questions": sum(turn.question.count(TARGET_SLOT) for turn in dialogue.turns),
        "slot_mismatch": listed(_slot_mismatches(dialogue.turns)),
        "wrong_references": listed(_wrong_references(dialogue.turns)),
        "speaks_of_no_mask": _mrseg_without_mask(dialogue),
    }


def texts(dialogue: Dialogue) -> list[str]:
    """Its questions and answers, in order."""
    return [text for turn in dialogue.turns for text in (turn.question, turn.answer)]


def names(dialogue: Dialogue) -> list[str]:
    """Its focus, and what answers call targets where not by the regions' own phrases."""
    return [dialogue.focus, *(name for turn in dialogue.turns for name in turn.names)]


def _mrseg_without_mask(dialogue: Dialogue) -> str | None:
    """The only question of an MRSeg dialogue, where it is about no mask: then it is an ordinary query."""
    is_query = dialogue.kind == "mrseg" and len(dialogue.turns) == 1
    about = any(turn.refers_to or turn.points_at for turn in dialogue.turns)
    return dialogue.turns[0].question if is_query and not about else None


def _untidy_texts(turns: Sequence[Turn]) -> Iterator[str]:
    for number, turn in enumerate(turns, 1):
        for name, text in (("question", turn.question), ("answer", turn.answer)):
            if text.strip() and text != text.strip():
                yield f"{name} {number} begins or ends with a blank"
            if _CONTROL.search(text.strip()):
                yield f"{name} {number} holds a control or replacement character"


def typed_markers(texts: Sequence[str], *, slots_allowed: bool) -> str | None:
    """Markers that nobody may type, and braces that are no slot."""
    found: Counter[str] = Counter()
    for text in texts:
        if "[" in text or "<" in text:
            found.update(_MARKER.findall(text))
        if "{" in text:
            slots = _SLOT_LIKE.findall(text)
            found.update(slot for slot in slots if not (slots_allowed and slot == TARGET_SLOT))
    return ", ".join(sorted(found)) or None


def _slot_mismatches(turns: Sequence[Turn]) -> Iterator[str]:
    for number, turn in enumerate(turns, 1):
        slots = turn.answer.count(TARGET_SLOT)
        if slots != len(turn.targets):
            yield f"answer {number} holds {TARGET_SLOT} {slots} times and names {len(turn.targets)} targets"
        if turn.names and len(turn.names) != len(turn.targets):
            yield f"answer {number} has {len(turn.names)} names for {len(turn.targets)} targets"


def _wrong_references(turns: Sequence[Turn]) -> Iterator[str]:
    for index, turn in enumerate(turns):
        for earlier in turn.refers_to:
            if not 0 <= earlier < index:
                yield f"turn {index + 1} refers to turn {earlier + 1}, which is not before it"
            elif not turns[earlier].targets:
                yield f"turn {index + 1} refers to turn {earlier + 1}, which has no mask"


def listed(problems: Iterable[str]) -> str | None:
    """The problems in one text; None where there are none."""
    return "; ".join(problems) or None
