"""Predicates of stated relations ("wearing", "sitting on", "has") as clauses and questions.

Source: SegLLM, section 4.1: interactional queries are made of the relationships of Visual Genome.
"""

from __future__ import annotations

from dataclasses import dataclass

_PREPOSITION_LIST = """
    on in at by near under over above below behind beside between against along around across inside outside into onto
    with without through beneath underneath atop upon beyond within toward towards next
"""
_PREPOSITIONS = frozenset(_PREPOSITION_LIST.split())
_STARTS_OF_PLACES = frozenset({"in front of", "on top of", "to the left of", "to the right of", "close to", "next to"})
_PARTICIPLE_LIST = """
    made held worn hung seen built sewn shown drawn written stuck hidden thrown ridden driven eaten cut put laid
    spread tied
"""
_PARTICIPLES = frozenset(_PARTICIPLE_LIST.split())
_VERBS = {
    "has": "have",
    "have": "have",
    "does": "do",
    "carries": "carry",
    "flies": "fly",
    "tries": "try",
    "watches": "watch",
    "touches": "touch",
    "catches": "catch",
    "reaches": "reach",
    "crosses": "cross",
    "passes": "pass",
    "dresses": "dress",
    "pushes": "push",
}  # finite -> bare; others drop their s
_NO_VERBS = frozenset({"is", "are", "was", "of", "and", "for", "from", "as", "like", "has a", "this", "it's", "its"})
_MAX_WORDS = 4


@dataclass(frozen=True)
class Predicate:
    """What a thing does with another one."""

    words: str
    """In lower case, as it follows "is" or stands for itself: "wearing", "on", "has"."""
    bare: str
    """Of a finite verb the form after "does" ("have"); "" where the words follow "is"."""

    def clause(self, *, is_many: bool) -> str:
        """After its subject: "is wearing", "has"; for several "are wearing", "have"."""
        if self.bare:
            return self.bare if is_many else self.words
        return f"{'are' if is_many else 'is'} {self.words}"

    def asks(self, subject: str, *, is_many: bool) -> str:
        """After "what": "is the man wearing", "does the man have"."""
        if self.bare:
            return f"{'do' if is_many else 'does'} {subject} {self.bare}"
        return f"{'are' if is_many else 'is'} {subject} {self.words}"


def read_predicate(text: str) -> Predicate | None:
    """A stated predicate as words that a sentence can be made of.

    Returns:
        None where we know no such sentence: a noun, "of", a long phrase, something that is not letters.
    """
    words = text.lower().split()
    if words and words[0] in ("is", "are"):
        words = words[1:]
    phrase = " ".join(words)
    if not words or len(words) > _MAX_WORDS or not phrase.replace(" ", "").isalpha() or words[0] in _NO_VERBS:
        return None
    if phrase in _STARTS_OF_PLACES or words[0] in _PREPOSITIONS or words[0] in _PARTICIPLES:
        return Predicate(phrase, "")
    if words[0].endswith(("ing", "ed")) and len(words[0]) > 4:
        return Predicate(phrase, "")
    if words[0] in _VERBS or (words[0].endswith("s") and not words[0].endswith("ss") and len(words[0]) > 3):
        bare = _VERBS.get(words[0], words[0][:-1])
        finite = "has" if words[0] == "have" else words[0]
        return Predicate(" ".join([finite, *words[1:]]), " ".join([bare, *words[1:]]))
    return None
