"""What is measured of a dialogue's text. Lengths are of texts as people read them: phrases, no markers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from miras.dialogue.records import Dialogue
from miras.dialogue.rendering import plain_text, render_answer

# Measure -> width of its histogram's bins.
BIN_WIDTHS = {
    "turns_per_dialogue": 1,
    "words_per_dialogue": 10,
    "characters_per_dialogue": 50,
    "tokens_per_dialogue": 10,
    "words_per_question": 2,
    "words_per_answer": 2,
    "words_per_focus": 1,
}
_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"[^\W\d_](?:[\w'’-]*\w)?")
# Words of English that say little alone; the cloud leaves them out.
_FUNCTION_WORDS = """a an the this that these those of on in at to from with without by for and or as into onto over
    under above below beside between behind near next its it is are was were be being been his her their who which whose
    where what no not there here up down off out"""
_SAY_LITTLE = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True)
class Measured:
    """Lengths and words of one dialogue."""

    lengths: Mapping[str, list[int]]
    """Measure -> its values; words are parts between blanks, tokens words and punctuation signs."""
    words: frozenset[str]
    """In lower case, without punctuation."""
    reasoning_answers: tuple[str, ...]
    """Of a PRIST dialogue all answers but the last; of others none."""


def measure(dialogue: Dialogue, phrases: Mapping[str, str]) -> Measured:
    """The measures of a dialogue.

    Args:
        dialogue: any kind.
        phrases: id -> phrase of every region that it points at.
    """
    questions = [turn.question for turn in dialogue.turns]
    answers = [plain_text(render_answer(turn, phrases)) for turn in dialogue.turns]
    texts = [*questions, *answers]
    tokens = [_TOKEN.findall(text) for text in texts]
    lengths = {
        "turns_per_dialogue": [len(dialogue.turns)],
        "words_per_dialogue": [sum(len(text.split()) for text in texts)],
        "characters_per_dialogue": [sum(map(len, texts))],
        "tokens_per_dialogue": [sum(map(len, tokens))],
        "words_per_question": [len(text.split()) for text in questions],
        "words_per_answer": [len(text.split()) for text in answers],
        "words_per_focus": [len(dialogue.focus.split())] if dialogue.focus else [],
    }
    words = frozenset(token.lower() for found in tokens for token in found if token[0].isalnum())
    return Measured(lengths, words, tuple(answers[:-1]) if dialogue.kind == "prist" else ())


def content_words(focus: str) -> list[str]:
    """The words of a focus that mean something by themselves, in lower case; each once."""
    found = dict.fromkeys(word.lower() for word in _WORD.findall(focus))
    return [word for word in found if word not in _SAY_LITTLE and len(word) > 1]
