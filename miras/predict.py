"""What `miras predict` does: a dialogue from the shell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from miras.errors import ConfigError
from miras.open_dialogue import Answer, OpenDialogue

_REFERENCE = re.compile(r"(\d+):(\d+)")


def references(given: Sequence[str], *, count: int) -> dict[int, list[int]]:
    """Question -> earlier ones whose masks it speaks of, from texts such as "1:0".

    Raises:
        ConfigError: a text of another form, or one that points forward.
    """
    found: dict[int, list[int]] = {}
    for text in given:
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ConfigError(f"--refer {text!r}: write QUESTION:EARLIER, counted from 0, such as 1:0.")
        question, earlier = int(match[1]), int(match[2])
        if not earlier < question < count:
            raise ConfigError(f"--refer {text}: question {question} of {count} can refer to earlier ones only.")
        found.setdefault(question, []).append(earlier)
    return found


def check_output(out: Path | None) -> None:
    """Raises ConfigError where the folder holds something already."""
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: not an empty folder. Name a new one.")


def predict(talk: OpenDialogue, questions: Sequence[str], spoken_of: Mapping[int, Sequence[int]]) -> Iterator[Answer]:
    """The answers, one by one.

    Raises:
        DataError: before the first question, where one refers to a mask and the network has no memory of masks.
    """
    if spoken_of:
        talk.check_memory("--refer")
    for number, question in enumerate(questions):
        for earlier in spoken_of.get(number, ()):
            talk.refer(earlier)
        yield talk.ask(question)
