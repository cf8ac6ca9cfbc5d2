"""Words that must not get into training: e-mail addresses, telephone numbers, and a list of the user's own.

This finds patterns, it does not understand: a name or an insult that is not in the list passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from miras.errors import ConfigError

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"(?<![\w.])(?:\+|00)?\(?\d[\d ()./-]{6,}\d(?!\w)")
_PHONE_DIGITS = range(9, 16)  # fewer are years, prices and sizes; 15 is the longest number (ITU-T E.164)


@dataclass(frozen=True)
class WordList:
    """What to look for."""

    emails: bool
    phones: bool
    patterns: tuple[re.Pattern[str], ...]
    """Whole words, in any case."""

    def found_in(self, texts: Iterable[str]) -> list[str]:
        """Every unwanted piece of text as it stands there, each once, in order."""
        return list(dict.fromkeys(found for text in texts for found in self._found(text)))

    def _found(self, text: str) -> Iterable[str]:
        if self.emails and "@" in text:
            yield from _EMAIL.findall(text)
        if self.phones:
            yield from (match for match in _PHONE.findall(text) if _digits(match) in _PHONE_DIGITS)
        for pattern in self.patterns:
            yield from (match.group() for match in pattern.finditer(text))


def read_word_list(path: str, *, emails: bool, phones: bool) -> WordList:
    """The built-in patterns that are asked for and those of a file.

    The file has one regular expression per line, which has to match whole words; empty lines and lines that begin
    with # are comments.

    Raises:
        ConfigError: the file is missing, not UTF-8, or a line is no regular expression or matches the empty text.
    """
    return WordList(emails=emails, phones=phones, patterns=_patterns(Path(path)))


def _patterns(path: Path) -> tuple[re.Pattern[str], ...]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        raise ConfigError(
            f"{path}: {reason}. Name a text file with one pattern per line in params.yaml: check.word_list."
        ) from None
    return tuple(_whole_words(line.strip(), f"{path}:{number}") for number, line in _stated(lines))


def _stated(lines: Sequence[str]) -> Iterable[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#"))


def _whole_words(pattern: str, where: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)
        re.compile(pattern)  # a bracket too many could close the group above
    except re.error as error:
        raise ConfigError(
            f"{where}: {pattern!r} is no regular expression ({error}). Put a \\ before signs that stand for themselves."
        ) from None
    if compiled.search("") or re.compile(pattern).fullmatch(""):
        raise ConfigError(f"{where}: {pattern!r} matches the empty text, so it would refuse everything. Ask for more.")
    return compiled


def _digits(text: str) -> int:
    return sum(character.isdigit() for character in text)
