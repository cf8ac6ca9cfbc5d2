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

INSIDE_PERSON_BY_NAME: Forms = (
    "Does this {noun} have {part_a}?",
    "Do you see {part_a} with this {noun}?",
    "Looking at the {noun}, do you see {part_a}?",
)
INSIDE_PERSON_SEVERAL: Forms = (
    "How many {nouns} does this {whole} have?",
    "Can you see the {nouns} of this {whole}?",
)

# --- what people can do
WHO_ONE: Forms = (
    "Who in this picture {clause}?",
    "Do you see anybody here who {clause}?",
    "Is there anybody in this picture who {clause}?",
    "Looking around the scene, who {clause}?",
)
WHO_SEVERAL: Forms = (
    "Who are those in this picture who {clause}?",
    "How many people in this picture {clause}?",
    "Do you see anybody here who {clause}?",
    "I am looking for all those who {clause}; which are they?",
)

# --- several of a kind that are left of more of them
SOME_LEFT_ANSWERS: Forms = (
    "That leaves {count} of them.",
    "It holds for {count} of them.",
    "I would say {count} of them.",
)

# --- several things of a class of which there may be more than are outlined
OPEN_ENDED_ANSWERS: Forms = (
    "I can see several of them.",
    "There are several here.",
    "Several can be seen in this picture.",
)

# --- several things of a class that the question names
NOUN_SEVERAL_ANSWERS: Forms = (
    "I find {inventory}.",
    "The picture shows {inventory}.",
    "I can see {inventory} here.",
)
