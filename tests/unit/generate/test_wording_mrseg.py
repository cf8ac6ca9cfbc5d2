"""The two sets of sentences: enough patterns, none in both, and sentences that agree with their nouns."""

import re
from itertools import pairwise

import pytest

from miras.dialogue.records import TARGET_SLOT, Region
from miras.generate.config import Wording
from miras.generate.wording_mrseg import QUERY_TYPES, WORDS, QueryType, patterns
from tests.unit.generate.conftest import with_phrases
from tests.unit.generate.test_mrseg import WORDINGS, two_mugs, write


@pytest.mark.parametrize("query_type", QUERY_TYPES)
def test_there_are_enough_patterns_and_none_is_in_both_sets(query_type: QueryType) -> None:
    train, held_out = (patterns(query_type, WORDS[name]) for name in WORDINGS)
    assert len(set(train)) == len(train) >= 100
    assert len(set(held_out)) == len(held_out) >= 50
    assert not {pattern.lower() for pattern in train} & {pattern.lower() for pattern in held_out}


@pytest.mark.parametrize(
    "field",
    [
        "requests",
        "every",
        "either",
        "relational",
        "hierarchical",
        "other",
        "same",
        "again",
        "links",
        "earlier",
        "interactional",
        "interactional_open",
        "attribute",
        "defined",
    ],
)
def test_the_sets_share_no_form(field: str) -> None:
    train, held_out = (getattr(WORDS[name], field) for name in WORDINGS)
    assert not set(train) & set(held_out)


def test_there_are_enough_forms_for_hard_pairs() -> None:
    for field in ("other", "same"):
        assert len(set(getattr(WORDS["train"], field))) >= 10
        assert len(set(getattr(WORDS["held_out"], field))) >= 5


def test_held_out_dialogues_use_no_sentence_of_the_training_set(box) -> None:
    """Whole questions with their nouns cut out: the wording alone decides."""

    def frames(wording: Wording) -> set[str]:
        dialogues = [d for seed in range(150) for d in write(two_mugs(box), count=2, seed=seed, wording=wording)]
        return {re.sub(r"\b(the|all|any|one of) .*", "", t.question) for d in dialogues for t in d.turns} - {""}

    train, held_out = frames("train"), frames("held_out")
    assert len(train) > 50
    assert len(held_out) > 30
    assert {frame for frame in train & held_out if len(frame.split()) > 1} == set()


def world(box, whole: str, part: str) -> list[Region]:
    """Two things of a class, each with two parts, and a clock."""
    return with_phrases(
        [
            box("a", whole, (2, 45, 35, 95)),
            box("a.1", part, (5, 50, 15, 70), parent="a"),
            box("b", whole, (60, 45, 95, 95)),
            box("b.1", part, (65, 50, 75, 70), parent="b"),
            box("clock", "clock", (45, 2, 60, 20)),
        ]
    )


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize(
    ("whole", "part"), [("mug", "handle"), ("scissors", "blades"), ("grass", "hair"), ("umbrella", "edge")]
)
def test_sentences_agree_with_singular_plural_uncounted_and_vowel_initial_names(
    box, wording: Wording, whole: str, part: str
) -> None:
    plural_names = "|".join(("scissors", "blades"))
    knowledge = {whole: frozenset({part}), "clock": frozenset({"hands", "ear"}), "car": frozenset({"wheels"})}
    seen = 0
    for seed in range(60):
        for dialogue in write(world(box, whole, part), count=3, pairs=1, seed=seed, wording=wording, parts=knowledge):
            for text in (text for turn in dialogue.turns for text in (turn.question, turn.answer)):
                seen += 1
                assert text[0].isupper(), text
                assert text[-1] in ".?", text
                assert "{" not in text.replace(TARGET_SLOT, ""), text
                assert not re.search(r"\s\s|\s[.,;?!]|[.,;]{2}", text), text
                assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
                assert not re.search(r"grasses|hairs|scissorses|bladess", text), text
                assert not re.search(rf"\b(?:every|each|a|an|this|that) (?:{plural_names})\b", text), text
                assert not re.search(rf"\bis the (?:[a-z]+ )?(?:{plural_names})\b", text), text
                assert not any(one == two for one, two in pairwise(text.lower().split())), text
    assert seen > 300
