"""Unwanted words are found and named; patterns that cannot work are refused with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.errors import ConfigError
from miras.quality.word_list import read_word_list
from tests.unit.quality.good_records import NO_WORDS

CONTACTS = read_word_list(str(NO_WORDS), emails=True, phones=True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to a.b+c@mail.example.org.", ["a.b+c@mail.example.org"]),
        ("Call +49 (30) 1234-5678 now", ["+49 (30) 1234-5678"]),
        ("Call 0301234567", ["0301234567"]),
        ("In 2010, 27 of 304 cost 1999", []),
        ("@home at 10-12", []),
        ("from 2010-2012", []),
        ("version 1.2.3", []),
        ("a 1234567890123456789012 serial", []),
        ("", []),
    ],
)
def test_contacts_are_found_and_years_are_not(text: str, found: list[str]) -> None:
    assert CONTACTS.found_in([text]) == found


def test_what_is_switched_off_is_not_looked_for() -> None:
    words = read_word_list(str(NO_WORDS), emails=False, phones=False)
    assert words.found_in(["a@b.org", "+49 30 1234567"]) == []


def test_a_list_matches_whole_words_in_any_case_once_each(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# not these\n\nidiots?\nProject X\n", "utf-8")
    words = read_word_list(str(path), emails=False, phones=False)
    assert words.found_in(["An IDIOT and an IDIOT", "idiotic", "project x is it"]) == ["IDIOT", "project x"]


@pytest.mark.parametrize(
    ("line", "message"), [("a(b", "no regular expression"), ("a)|(b", "no regular expression"), ("x*", "empty text")]
)
def test_a_pattern_that_cannot_work_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(f"good\n{line}\n", "utf-8")
    with pytest.raises(ConfigError, match=rf"words\.txt:2: .*{message}"):
        read_word_list(str(path), emails=False, phones=False)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_list_that_is_missing_or_no_text_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"params\.yaml: check\.word_list"):
        read_word_list(str(path), emails=False, phones=False)
