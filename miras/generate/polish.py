"""A language model puts MRSeg turns into more natural words, in two passes (SegLLM, A.5).

The first pass rewrites a turn, the second one judges whether it still means the same; only then the new words are
kept. Whatever must survive is checked before either: slots, quoted names, words of place, names of things, and how
the question speaks of earlier masks. A turn that fails keeps the words it had, and is told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from miras.dialogue.records import TARGET_SLOT, Dialogue, Rejected, Turn
from miras.generate.wording_mrseg import QUERY_TYPES, WORDS, patterns
from miras.generate.written.records import advice
from miras.generate.written.texts import ModelAnswer, all_words, check_english, check_text, tidy
from miras.llm.asking import LanguageModel
from miras.llm.records import Answered, Prompt, Unanswered
from miras.sources.pictures import printable

MAX_WORDS = 40  # of a question or an answer
BATCH = 5_000  # dialogues asked about at a time: few enough to hold, and large files for a batch service

_QUOTED = re.compile(r'"[^"]*"')
_SLOT = re.compile(r"\{[^{}]*\}")
_PLACE_LIST = """
    left right above below upper lower top bottom leftmost rightmost topmost lowest middle higher under over beneath
    between overlapping intersecting inside behind front up down
"""
_PLACES = frozenset(_PLACE_LIST.split())
_ORDINAL_LIST = "first second third fourth fifth sixth seventh eighth"
_ORDINALS = frozenset(_ORDINAL_LIST.split())
_POINTING = frozenset({"it", "its", "them", "their", "that", "this", "these", "those", "one", "what"})
_OTHER = frozenset({"other", "another", "remaining", "counterpart"})
_SAME = frozenset({"same", "again", "once", "very", "exact", "repeat"})


class RewrittenTurn(ModelAnswer):
    """A turn in other words."""

    question: str
    answer: str


class Comparison(ModelAnswer):
    """Whether two turns mean the same."""

    difference: str
    """What differs in meaning, in one sentence; "none" where nothing does."""
    is_same: bool


class UnpolishedTurn(Rejected):
    """A turn that keeps its words because the new ones were refused, or never came."""


@dataclass(frozen=True)
class _Place:
    """A turn on its way."""

    dialogue: int
    turn: int
    old: Turn
    new: RewrittenTurn | None = None


def polish(
    dialogues: Iterable[Dialogue],
    *,
    model: LanguageModel,
    counts: Counter[str],
    tell: Callable[[UnpolishedTurn], None],
) -> Iterator[Dialogue]:
    """The dialogues in their order; turns of MRSeg dialogues in better words where the model finds some.

    Turns in which a person points at a thing stay as they are: both ways round a hard pair must read the same.

    Args:
        dialogues: read some thousand ahead.
        model: answers the prompts.
        counts: filled while reading: "turns" = "polished" + "unchanged" (the model wrote the same) + "other meaning"
            + "unanswered".
        tell: is given each turn that was to be polished and was not, with the reason.

    Raises:
        MirasError: of the model, such as a spent budget; answers paid for are in its cache.
    """
    rest = iter(dialogues)
    while batch := list(islice(rest, BATCH)):
        places = [
            _Place(number, index, turn)
            for number, dialogue in enumerate(batch)
            if dialogue.kind == "mrseg"
            for index, turn in enumerate(dialogue.turns)
            if not turn.points_at
        ]
        counts["turns"] += len(places)
        rewritten = _rewrite(batch, places, model, counts, tell)
        turns = [list(dialogue.turns) for dialogue in batch]
        for place in _judge(batch, rewritten, model, counts, tell):
            assert place.new is not None
            texts = {"question": tidy(place.new.question), "answer": tidy(place.new.answer)}
            turns[place.dialogue][place.turn] = place.old.model_copy(update=texts)
        for dialogue, new_turns in zip(batch, turns, strict=True):
            yield dialogue.model_copy(update={"turns": tuple(new_turns)})


def _rewrite(
    batch: Sequence[Dialogue],
    places: Sequence[_Place],
    model: LanguageModel,
    counts: Counter[str],
    tell: Callable[[UnpolishedTurn], None],
) -> list[_Place]:
    """First pass: the turns that were given other words."""
    found = []
    prompts = (rewrite_prompt(_key(batch, place), place.old) for place in places)
    for place, outcome in zip(places, model.ask(prompts), strict=True):
        if isinstance(outcome, Unanswered):
            counts["unanswered"] += 1
            tell(_untouched(outcome))
            continue
        new = outcome.value
        assert isinstance(new, RewrittenTurn)
        if (tidy(new.question), tidy(new.answer)) == (place.old.question, place.old.answer):
            counts["unchanged"] += 1
        else:
            found.append(_Place(place.dialogue, place.turn, place.old, new))
    return found


def _judge(
    batch: Sequence[Dialogue],
    places: Sequence[_Place],
    model: LanguageModel,
    counts: Counter[str],
    tell: Callable[[UnpolishedTurn], None],
) -> Iterator[_Place]:
    """Second pass: the turns that still mean the same."""
    prompts = (comparison_prompt(_key(batch, place), place.old, place.new) for place in places if place.new)
    for place, outcome in zip(places, model.ask(prompts), strict=True):
        if isinstance(outcome, Unanswered):
            counts["unanswered"] += 1
            tell(_untouched(outcome))
            continue
        assert isinstance(outcome, Answered)
        assert isinstance(outcome.value, Comparison)
        if outcome.value.is_same:
            counts["polished"] += 1
            yield place
        else:
            counts["other meaning"] += 1
            assert place.new is not None
            reason = (
                f"{place.new.question!r} does not mean {place.old.question!r}: {outcome.value.difference}. "
                "The turn keeps its words; nothing is to be done"
            )
            tell(_unpolished(outcome.prompt, reason))


def rewrite_prompt(key: str, turn: Turn) -> Prompt:
    """The prompt of the first pass; its check refuses an answer in which something was lost."""
    system, text = _render(
        "polish", question=turn.question, answer=turn.answer, kept=names_in(turn.question), max_words=MAX_WORDS
    )
    return Prompt(
        name="mrseg/polish",
        key=key,
        system=system,
        text=text,
        answer=RewrittenTurn,
        check=lambda answer: check_rewritten(turn, answer),
    )


def comparison_prompt(key: str, turn: Turn, new: RewrittenTurn) -> Prompt:
    """The prompt of the second pass."""
    system, text = _render(
        "same_meaning",
        question=turn.question,
        answer=turn.answer,
        new_question=tidy(new.question),
        new_answer=tidy(new.answer),
    )
    return Prompt(name="mrseg/same_meaning", key=key, system=system, text=text, answer=Comparison)


def check_rewritten(turn: Turn, new: RewrittenTurn) -> None:
    """Refuses new words in which something is lost, added or exchanged.

    Raises:
        ValueError: what, with a sentence for the model.
    """
    if new.answer.count(TARGET_SLOT) != len(turn.targets) or TARGET_SLOT in new.question:
        raise ValueError(f"the answer must hold {TARGET_SLOT} {len(turn.targets)} times, the question never")
    plain = {"the question": new.question, "the answer": new.answer.replace(TARGET_SLOT, "thing")}
    for what, text in plain.items():
        check_text(text, what=what, max_words=MAX_WORDS)
    check_english(plain)
    for what, old, text in (("question", turn.question, new.question), ("answer", turn.answer, new.answer)):
        _check_kept(what, old, tidy(text))
    _check_pointing(turn, tidy(new.question))


def _check_kept(what: str, old: str, new: str) -> None:
    quoted, still_quoted = _QUOTED.findall(old), _QUOTED.findall(new)
    if sorted(quoted) != sorted(still_quoted):
        raise ValueError(f"the {what} must quote {', '.join(quoted) or 'nothing'}, and nothing else")
    for kind, words in (("words of place", _PLACES), ("numbers of answers", _ORDINALS)):
        before, after = (sorted(word for word in all_words(text) if word in words) for text in (old, new))
        if before != after:
            raise ValueError(f"the {what} must keep its {kind} ({', '.join(before) or 'none'}); it has {after}")
    missing = set(names_in(old)) - set(all_words(new))
    if missing:
        raise ValueError(f"the {what} must keep the words {', '.join(sorted(missing))}")


def _check_pointing(turn: Turn, question: str) -> None:
    for kind, words in (("another one", _OTHER), ("the same one", _SAME)):
        if _has(turn.question, words) != _has(question, words):
            raise ValueError(f"the question must speak of {kind} just as before: {turn.question!r}")
    if turn.refers_to and _has(turn.question, _POINTING) and not _has(question, _POINTING):
        raise ValueError(f"the question must go on pointing at an earlier answer, as in {turn.question!r}")


def _has(text: str, words: frozenset[str]) -> bool:
    return not words.isdisjoint(all_words(text))


def names_in(text: str) -> tuple[str, ...]:
    """The words of a text of ours that are no part of any sentence pattern: what things are called, sorted."""
    words = set(all_words(_QUOTED.sub("", text.replace(TARGET_SLOT, ""))))
    return tuple(sorted(words - _pattern_words() - _PLACES - _ORDINALS))


@cache
def _pattern_words() -> frozenset[str]:
    found: set[str] = set(_POINTING | _OTHER | _SAME)
    for words in WORDS.values():
        texts = [pattern for query_type in QUERY_TYPES for pattern in patterns(query_type, words)]
        texts += [*words.links, *words.earlier, *words.latest, *words.again, *words.either, *words.every]
        texts += [form for forms in (*words.relations.values(), *words.relations_in_picture.values()) for form in forms]
        found.update(word for text in texts for word in all_words(_SLOT.sub(" ", text)))
    return frozenset(found | _ANSWER_WORDS)


_ANSWER_WORD_LIST = """
    sure i have marked this mask shows you can see here covers found of course segmented in picture mean there is are no
    cannot any nothing to be seen has on looked but visible only one all masks show these them
"""
_ANSWER_WORDS = frozenset(_ANSWER_WORD_LIST.split())


def _key(batch: Sequence[Dialogue], place: _Place) -> str:
    return f"{batch[place.dialogue].dialogue_id}/{place.turn}"


def _untouched(outcome: Unanswered) -> UnpolishedTurn:
    return _unpolished(
        outcome.prompt,
        f"{outcome.reason}: {outcome.detail}; the turn keeps its words; {advice(outcome.reason)}",
    )


def _unpolished(prompt: Prompt, reason: str) -> UnpolishedTurn:
    return UnpolishedTurn(where=printable(f"{prompt.key}: {prompt.name}"), reason=printable(reason))


def _render(name: str, **values: Any) -> tuple[str, str]:
    """System message and text; the same values give the same bytes, which the response cache relies on."""
    template = _environment().get_template(f"{name}.md.j2")
    parts = {key: "".join(block(template.new_context(values))) for key, block in template.blocks.items()}
    return parts["system"].strip(), parts["text"].strip()


@cache
def _environment() -> Environment:
    """Text for a language model needs no HTML escapes."""
    return Environment(
        loader=PackageLoader("miras.generate", "prompts"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
