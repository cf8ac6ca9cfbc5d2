"""Dialogues as a text file that a person can correct in any editor, and back.

A line that begins with `Q2:` or `A2:` opens the question or the answer of turn 2; further lines belong to it.
Lines that begin with `#` are remarks. There is nothing to quote and nothing to indent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from miras.annotate.records import Change, Field
from miras.dialogue.records import TARGET_SLOT, Dialogue
from miras.dialogue.rendering import MARKERS
from miras.errors import DataError

Place = tuple[str, int, Field]  # dialogue id, turn from 0, question or answer

_INDENT = "    "  # of further lines, so that a line of the text itself is never taken for a head or a remark
_LINE_END = re.compile(r"\r\n|\r|\n")  # not str.splitlines: a form feed or U+2028 inside a text ends no line
_DIALOGUE = re.compile(r"== dialogue (\d+)\b")
_PART = re.compile(r"([QA])(\d+):")
_FIELDS: Mapping[str, Field] = {"Q": "question", "A": "answer"}
_LETTERS = {field: letter for letter, field in _FIELDS.items()}


def write_text(
    dialogues: Sequence[Dialogue], *, phrase: str, picture: str, remarks: Mapping[Place, Sequence[str]]
) -> str:
    """The text file of a sample.

    Args:
        phrase: what is to be drawn.
        picture: name of the picture file, for the head.
        remarks: what to say below a question or an answer.
    """
    lines = [
        f"# Picture: {picture}",
        f"# Draw: {_one_line(phrase)}",
        "# Correct the text below where it is wrong; leave it as it is where it is right.",
        f"# Keep the heads (== dialogue, Q1:, A1:) and each {TARGET_SLOT}: it stands for what is drawn.",
    ]
    for number, dialogue in enumerate(dialogues, 1):
        lines += ["", f"== dialogue {number}"]
        for place, text in _places(dialogue):
            lines.append(f"{_LETTERS[place[2]]}{place[1] + 1}: " + _plain(text).replace("\n", "\n" + _INDENT))
            lines += [f"# {_one_line(remark)}" for remark in remarks.get(place, ())]
    return "\n".join(lines) + "\n"


def read_changes(text: str, dialogues: Sequence[Dialogue]) -> tuple[Change, ...]:
    """What was corrected in a sample's text file.

    Args:
        text: of the file.
        dialogues: as they were handed out.

    Raises:
        DataError: a dialogue, question or answer is missing, there twice, unknown or empty, holds a marker of the
            model, or has lost or gained a `{target}`.
    """
    found = _parts(text)
    expected = {
        (number, place[1], place[2]): (place, _plain(before))
        for number, dialogue in enumerate(dialogues)
        for place, before in _places(dialogue)
    }
    for unknown in found.keys() - expected.keys():
        raise DataError(f"{_named(unknown)} was not handed out. Turns can be corrected, not added; take it out")
    changes = []
    for key, (place, before) in expected.items():
        if key not in found:
            raise DataError(f"{_named(key)} is missing. Write it again; turns can be corrected, not taken out")
        after = found[key]
        if after != before:
            _check(after, before, name=_named(key))
            dialogue_id, turn, field = place
            changes.append(Change(dialogue_id=dialogue_id, turn=turn, field=field, before=before, after=after))
    return tuple(changes)


def apply_changes(dialogue: Dialogue, changes: Sequence[Change]) -> Dialogue:
    """The dialogue with the corrections that speak of it."""
    turns = list(dialogue.turns)
    for change in changes:
        if change.dialogue_id == dialogue.dialogue_id:
            turns[change.turn] = turns[change.turn].model_copy(update={change.field: change.after})
    return dialogue.model_copy(update={"turns": tuple(turns)})


def _places(dialogue: Dialogue) -> list[tuple[Place, str]]:
    return [
        ((dialogue.dialogue_id, number, field), getattr(turn, field))
        for number, turn in enumerate(dialogue.turns)
        for field in _FIELDS.values()
    ]


def _parts(text: str) -> dict[tuple[int, int, Field], str]:
    """(dialogue, turn, field), counted from 0 -> its text."""
    parts: dict[tuple[int, int, Field], list[str]] = {}
    dialogue, current = -1, None
    for line in _LINE_END.split(text):
        if line.startswith("#"):
            continue
        if head := _DIALOGUE.match(line):
            dialogue, current = int(head[1]) - 1, None
        elif head := _PART.match(line):
            current = (dialogue, int(head[2]) - 1, _FIELDS[head[1]])
            if current in parts:
                raise DataError(f"{_named(current)} is there twice. Keep one of them")
            parts[current] = [line[head.end() :]]
        elif current is not None:
            parts[current].append(line.removeprefix(_INDENT))
        elif line.strip():
            raise DataError(
                f"the line {line.strip()[:60]!r} belongs to no question or answer. Put it behind Q1: or A1:"
            )
    return {key: "\n".join(lines).strip() for key, lines in parts.items()}


def _check(after: str, before: str, *, name: str) -> None:
    if not after:
        raise DataError(f"{name} is empty. Write what it should say")
    if after.count(TARGET_SLOT) != before.count(TARGET_SLOT):
        raise DataError(
            f"{name} has {after.count(TARGET_SLOT)} times {TARGET_SLOT}, handed out were "
            f"{before.count(TARGET_SLOT)}. It stands for what is drawn; put it where that is named"
        )
    if held := next((marker for marker in MARKERS if marker in after), None):
        raise DataError(f"{name} holds {held}, a marker of the model. Take it out")


def _named(key: tuple[int, int, Field]) -> str:
    dialogue, turn, field = key
    return f"{_LETTERS[field]}{turn + 1} of dialogue {dialogue + 1}"


def _plain(text: str) -> str:
    """The text as it comes back from a file: one kind of line end, no blanks around it."""
    return "\n".join(_LINE_END.split(text.strip()))


def _one_line(text: str) -> str:
    return " ".join(text.split())
