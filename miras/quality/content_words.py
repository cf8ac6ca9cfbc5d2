"""The words of English text that carry its matter, cut to rough stems so that "labels" meets "label"."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_FUNCTION_WORDS = """a an the and or but if then than so nor not no yes any some all each every both either
    neither other another such same of in on at to for from with without by as into onto over under about near
    between next up down off out is are was were be been being am do does did have has had can could may might will
    would shall should must it its this that these those there here he she they him his her their them i you we us
    me my your our one ones what which who whom whose when where why how also just more most very too only own let
    now again still while whether"""
_EMPTY_WORDS = frozenset(_FUNCTION_WORDS.split())
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""))
_SHORTEST_STEM = 3


def words_of(text: str) -> list[str]:
    """The words in order, lower case, a possessive 's left out."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [word.removesuffix("'s").removesuffix("’s") for word in found]


def content_stems(text: str) -> frozenset[str]:
    """Stems of the words that are neither articles, pronouns, prepositions, auxiliaries nor question words."""
    return frozenset(stem(word) for word in words_of(text) if word not in _EMPTY_WORDS)


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """A lower-case word without its ending; rough, but the same for most forms of one word."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM and not word.endswith("ss"):
            word = word[: len(word) - len(ending)] + instead
            break
    word = word.removesuffix("e") if len(word) > _SHORTEST_STEM + 1 else word
    is_doubled = len(word) > _SHORTEST_STEM + 1 and word[-1] == word[-2]
    return word[:-1] if is_doubled else word
