"""What every text of a language model must be before it is stored: tidy, short enough, English, free of markers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

MAX_QUESTION_WORDS = 40  # assumed; PRIST's questions have 5 to 19, those of step 2-1 are longer
MAX_ANSWER_WORDS = 60  # assumed; PRIST's answers have at most 27
MIN_LATIN_SHARE = 0.8  # of the letters; a sign in another script may be quoted (PRIST quotes one)
MIN_FUNCTION_WORD_SHARE = 0.15  # of the words; PRIST's dialogues have 0.29 and more (measured on 405 of its test file)
_LEAST_WORDS_TO_JUDGE = 8  # fewer words may hold no function word at all

# A marker of ours or of a language model, and anything that looks like a slot.
_MARKER = re.compile(r"\[/?[A-Z_]+\]|</?[a-z_]+>|<\|[^|<>]*\|>|\{[^{}]*\}", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ufffd\ud800-\udfff]")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_ARTICLE = re.compile(r"^(?:the|an?) (?=\S)", re.IGNORECASE)
_FUNCTION_WORD_LIST = """
    a an the this that these those it its they them their there here he she his her we us you me my i your one
    is are was were be been being has have had do does did can could may might must should will would let
    of in on at by for from with without to into onto over under above below behind between near beside about as than
    and or but not no nor so if what which who where when why how whose
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_LIST.split())
_GENERIC = frozenset(
    {"object", "thing", "item", "area", "region", "part", "picture", "image", "photo", "scene", "segment", "mask"}
)


class ModelAnswer(BaseModel):
    """What a language model is asked for; every field is required, so that servers with strict schemas take it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def tidy(text: str) -> str:
    """The text with single blanks, none at its ends."""
    return " ".join(text.split())


def noun_phrase(text: str) -> str:
    """A phrase as regions have it: tidy, without its article and full stop."""
    return _ARTICLE.sub("", tidy(tidy(text).rstrip(".")), count=1)


def check_text(text: str, *, what: str, max_words: int) -> None:
    """Refuses a text that cannot be stored.

    Args:
        text: as the model wrote it.
        what: names it in the message ("the answer of turn 2").
        max_words: separated by blanks.

    Raises:
        ValueError: it is empty, too long, or holds a marker or a character that is not text.
    """
    clean = tidy(text)
    if not clean:
        raise ValueError(f"{what} is empty; write it out")
    if (sign := _UNPRINTABLE.search(clean)) is not None:
        raise ValueError(f"{what} holds the character {sign.group()!r}, which is no text; leave it out")
    if (marker := _MARKER.search(clean)) is not None:
        raise ValueError(f"{what} holds {marker.group()!r}; write plain text without markers, tags or slots")
    if len(clean.split()) > max_words:
        raise ValueError(f"{what} has {len(clean.split())} words; at most {max_words} are allowed")


def check_question(text: str, *, what: str) -> None:
    """Refuses what is no question of a usable length.

    Raises:
        ValueError: as `check_text`, or it does not end with a question mark.
    """
    check_text(text, what=what, max_words=MAX_QUESTION_WORDS)
    if not tidy(text).endswith("?"):
        raise ValueError(f'{what} does not end with "?": {tidy(text)!r}; ask a question')


def check_english(texts: Mapping[str, str]) -> None:
    """Refuses texts that are plainly in another language: each by its script, all by how few function words they have.

    Args:
        texts: what it is in words ("answer 2") -> text.

    Raises:
        ValueError: they are.
    """
    for what, text in texts.items():
        letters = [letter for letter in text if letter.isalpha()]
        if sum(letter.isascii() for letter in letters) < MIN_LATIN_SHARE * len(letters):
            raise ValueError(f"{what} is not in English; write English")
    words = all_words(" ".join(texts.values()))
    known = sum(word in _FUNCTION_WORDS for word in words)
    if len(words) >= _LEAST_WORDS_TO_JUDGE and known < MIN_FUNCTION_WORD_SHARE * len(words):
        raise ValueError(f"{', '.join(texts)}: not in English sentences; write English")


def all_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return [word.lower() for word in _WORD.findall(text)]


def content_words(text: str) -> frozenset[str]:
    """Words that tell what is meant, in lower case and without a plural s; "object" and "part" tell nothing."""
    return frozenset(
        stem for word in all_words(text) if word not in _FUNCTION_WORDS and (stem := _stem(word)) not in _GENERIC
    )


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
