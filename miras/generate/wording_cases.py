"""Sentences of PRIST dialogues for cases that the ones in `wording` do not fit."""

from __future__ import annotations

from miras.generate.view import Relation
from miras.generate.wording import RELATIONS_IN_WORDS, Forms

# --- where things have a left and right of their own
RELATIONS_IN_PICTURE: dict[Relation, Forms] = {
    **RELATIONS_IN_WORDS,
    "left": ("further left in the picture than", "more to the left in the picture than"),
    "right": ("further right in the picture than", "more to the right in the picture than"),
}
ACROSS_IN_PICTURE_QUESTIONS: Forms = (
    "In the picture, is it further left or further right than the {anchor}?",
    "Is it further left or right in the picture than the {anchor}?",
    "Seen in the picture, is it left or right of the {anchor}?",
)

# --- what lies within something but is no part of it: a person on an airplane
INSIDE_BY_NAME: Forms = (
    "Can you see {part_a} on this {noun}?",
    "Is there {part_a} on the {noun}?",
    "Looking at the {noun}, do you see {part_a}?",
)
INSIDE_SEVERAL: Forms = (
    "How many {nouns} can you see on it?",
    "How many {nouns} do you see on this {whole}?",
    "Can you see any {nouns} on the {whole}?",
)

# --- several things of a class that the question names
NOUN_SEVERAL_ANSWERS: Forms = (
    "I find {inventory}.",
    "The picture shows {inventory}.",
    "I can see {inventory} here.",
)
