"""Stated predicates become clauses and questions, or nothing."""

import pytest

from miras.generate.predicates import read_predicate


@pytest.mark.parametrize(
    ("text", "clause", "asks"),
    [
        ("wearing", "is wearing", "is the man wearing"),
        ("on", "is on", "is the man on"),
        ("in front of", "is in front of", "is the man in front of"),
        ("sitting on", "is sitting on", "is the man sitting on"),
        ("covered by", "is covered by", "is the man covered by"),
        ("has", "has", "does the man have"),
        ("holds", "holds", "does the man hold"),
        ("is riding", "is riding", "is the man riding"),
        ("carries", "carries", "does the man carry"),
        ("hung on", "is hung on", "is the man hung on"),
    ],
)
def test_a_predicate_makes_a_clause_and_a_question(text: str, clause: str, asks: str) -> None:
    predicate = read_predicate(text)
    assert predicate is not None
    assert predicate.clause(is_many=False) == clause
    assert predicate.asks("the man", is_many=False) == asks


def test_several_subjects_have_the_plural_of_the_verb() -> None:
    has, on = read_predicate("has"), read_predicate("on")
    assert has is not None
    assert on is not None
    assert has.clause(is_many=True) == "have"
    assert on.clause(is_many=True) == "are on"
    assert has.asks("the men", is_many=True) == "do the men have"


@pytest.mark.parametrize("text", ["", "of", "is", "and", "glass", "man's", "1 of 2", "on the very far other side of"])
def test_what_makes_no_sentence_is_left_out(text: str) -> None:
    assert read_predicate(text) is None
