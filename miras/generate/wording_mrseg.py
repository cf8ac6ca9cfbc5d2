"""The sentences of MRSeg dialogues, in two sets that share no sentence pattern: one to train on, one held out.

A question is a request with what it asks for in its place: `Words.requests` have the slot {what}, which the noun
phrase of a query type fills (`patterns` lists them whole). {is_are} and {them} agree with it. Answers are the same
in both sets: a model writes its own. `{target}` is the slot of the stored answer and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from miras.generate import wording
from miras.generate.config import Wording
from miras.generate.language import is_plural, sentence
from miras.generate.names import is_person
from miras.generate.relations import SpatialRelation
from miras.generate.wording import Forms

QueryType = Literal[
    "direct", "relational", "hierarchical", "interactional", "attribute", "semantic", "contrastive", "same"
]
QUERY_TYPES: tuple[QueryType, ...] = get_args(QueryType)


Pronouns = dict[str, str]


@dataclass(frozen=True)
class Words:
    """One of the two sets."""

    commands: Forms
    """Requests in which {what} may be any noun phrase: "all mugs", "either of the two mugs"."""
    requests: Forms
    """The commands and others."""
    relational: Forms
    """{noun}, {relation} and {reference}: what stands in a relation to an earlier mask."""
    hierarchical: Forms
    """{part} and {reference}: a part of an earlier target."""
    interactional: Forms
    """{noun}, {reference} and {clause}: what an earlier target does something with ("that it is holding")."""
    interactional_open: Forms
    """{asks}: the same without the class ("is it holding")."""
    attribute: Forms
    """{noun} and {clause}: a thing by what is stated of it ("made of wood")."""
    attribute_clauses: dict[str, Forms]
    """Name of an attribute -> {clause} with {value}; "" has {name}, too, and fits any."""
    defined: Forms
    """{definition}: a thing by the definition of its class."""
    every: Forms
    """{nouns}: all of a class."""
    either: Forms
    """{nouns}: one of two, whichever."""
    again: Forms
    """Begin a command that repeats an earlier one."""
    relations: dict[SpatialRelation, Forms]
    relations_in_picture: dict[SpatialRelation, Forms]
    """The same where things have a left and right of their own."""
    latest: Forms
    """What the latest mask shows, without naming it: {them}, {that_one} and {this_one} agree with it."""
    earlier: Forms
    """What the answer {ordinal} showed, without naming it: {object} and {thing} are people's class."""
    other: Forms
    """The other one of two: {noun} is the class or "one"."""
    same: Forms
    """The same one: {noun} is the class or "one"."""
    links: Forms
    """Tie a question to the turn before."""


def patterns(query_type: QueryType, words: Words) -> Forms:
    """Every sentence pattern for a type of question."""
    match query_type:
        case "contrastive":
            return words.other
        case "same":
            return words.same
        case "semantic":
            return _filled(words.commands, words.every)
        case "interactional":
            return (*_filled(words.requests, words.interactional), *words.interactional_open)
        case "attribute":
            clauses = dict.fromkeys(clause for forms in words.attribute_clauses.values() for clause in forms)
            phrases = [form.replace("{clause}", clause) for form in words.attribute for clause in clauses]
            return _filled(words.requests, (*phrases, *words.defined))
        case "hierarchical":
            return _filled(words.requests, (*words.hierarchical, ITS_PART))
        case "relational":
            return _filled(words.requests, words.relational)
        case "direct":
            return _filled(words.requests, (DIRECT,))


def _filled(requests: Forms, phrases: Sequence[str]) -> Forms:
    return tuple(request.replace("{what}", phrase) for phrase in phrases for request in requests)


def _commands(frames: Sequence[str], verbs: Sequence[str]) -> Forms:
    return tuple(sentence(frame.replace("{verb}", verb)) for verb in verbs for frame in frames)


DIRECT = "the {noun}"
IT = "{them}"
ITS_PART = "{its} {part}"
ALL_UNCOUNTED = "all the {noun}"  # "all grasses" would be something else
ONE: Pronouns = {"them": "it", "that_one": "that one", "this_one": "this one", "its": "its"}
SEVERAL: Pronouns = {"them": "them", "that_one": "those", "this_one": "these", "its": "their"}


def pronouns(noun: str) -> Pronouns:
    """What stands for a noun: of people one does not say "it"."""
    if is_person(noun):
        return {"them": f"this {noun}", "that_one": f"that {noun}", "this_one": f"this {noun}", "its": f"this {noun}'s"}
    return SEVERAL if is_plural(noun) else ONE


_TRAIN_COMMANDS = _commands(
    (
        "{verb} {what}.",
        "please {verb} {what}.",
        "{verb} {what}, please.",
        "can you {verb} {what}?",
        "could you {verb} {what}?",
        "could you please {verb} {what}?",
        "would you please {verb} {what}?",
        "I would like you to {verb} {what}.",
        "I want you to {verb} {what}.",
        "be so kind as to {verb} {what}.",
    ),
    ("segment", "mark", "outline", "highlight", "pick out", "point out", "draw a mask over", "trace", "colour in"),
)
_HELD_OUT_COMMANDS = _commands(
    (
        "kindly {verb} {what}.",
        "help me {verb} {what}.",
        "try to {verb} {what}.",
        "I need you to {verb} {what}.",
        "are you able to {verb} {what}?",
        "it would be great if you could {verb} {what}.",
        "your task is to {verb} {what}.",
    ),
    ("delineate", "select", "cut out", "isolate", "mask", "shade", "draw the contour of"),
)
_RELATIONS: dict[SpatialRelation, Forms] = {
    "left": wording.RELATIONS_IN_WORDS["left"],
    "right": wording.RELATIONS_IN_WORDS["right"],
    "above": wording.RELATIONS_IN_WORDS["above"],
    "below": wording.RELATIONS_IN_WORDS["below"],
    "above left": ("above and to the left of", "to the upper left of"),
    "above right": ("above and to the right of", "to the upper right of"),
    "below left": ("below and to the left of", "to the lower left of"),
    "below right": ("below and to the right of", "to the lower right of"),
    "overlap": ("overlapping", "overlapping with"),
}
_HELD_OUT_RELATIONS: dict[SpatialRelation, Forms] = {
    "left": ("on the left-hand side of", "further left than"),
    "right": ("on the right-hand side of", "further right than"),
    "above": ("over", "further up than"),
    "below": ("beneath", "further down than"),
    "above left": ("up and to the left of", "to the top left of"),
    "above right": ("up and to the right of", "to the top right of"),
    "below left": ("down and to the left of", "to the bottom left of"),
    "below right": ("down and to the right of", "to the bottom right of"),
    "overlap": ("intersecting", "intersecting with"),
}


def _in_picture(table: dict[SpatialRelation, Forms], more: str, joint: str) -> dict[SpatialRelation, Forms]:
    """The relations with left and right said to be the picture's: "further left in the picture than"."""
    sides: dict[SpatialRelation, Forms] = {
        "left": (f"{more} left in the picture than",),
        "right": (f"{more} right in the picture than",),
    }
    for side in ("left", "right"):
        for height, words in (("above", "higher up"), ("below", "lower down")):
            relation = cast(SpatialRelation, f"{height} {side}")
            sides[relation] = (f"{words} {joint} {more} {side} in the picture than",)
    return table | sides


_OTHER_HELD_OUT = _filled(_HELD_OUT_COMMANDS, ("the other {noun}", "the remaining {noun}"))
_SAME_HELD_OUT = _filled(_HELD_OUT_COMMANDS, ("this exact {noun} a second time", "this {noun} as before"))
WORDS: dict[Wording, Words] = {
    "train": Words(
        commands=_TRAIN_COMMANDS,
        requests=(
            *_TRAIN_COMMANDS,
            "Where {is_are} {what}? Please mark {them}.",
            "Where {is_are} {what}? Show {them} with a mask.",
            "Show me where {what} {is_are}.",
            "Find {what} and segment {them}.",
            "Can you find {what} and outline {them}?",
            "Look for {what} and mark {them}.",
            "Which pixels belong to {what}?",
            "Which pixels show {what}?",
            "Give me a mask of {what}.",
            "I need a mask of {what}.",
            "I would like to have a mask of {what}.",
            "Please give me the segmentation of {what}.",
            "Please make a mask that covers {what}.",
            "Point to {what} with a mask.",
            "I am looking for {what}; please mark {them}.",
            "I am interested in {what}. Segment {them}.",
        ),
        relational=(
            "the {noun} {relation} {reference}",
            "the {noun} that {is_are} {relation} {reference}",
            "the {noun} you see {relation} {reference}",
        ),
        hierarchical=("the {part} of {reference}",),
        interactional=("the {noun} that {reference} {clause}",),
        interactional_open=(
            "What {asks}? Please segment {them}.",
            "What {asks}? Mark {them}, please.",
            "What {asks}? Show {them} with a mask.",
            "Can you tell what {reference} {clause}? Please outline {them}.",
            "Segment what {reference} {clause}.",
            "Please highlight what {reference} {clause}.",
        ),
        attribute=("the {noun} {clause}", "the {noun} here {clause}"),
        attribute_clauses={
            "": ("whose {name} is {value}",),
            "transparency": ("that is {value}",),
            "material": ("made of {value}", "that is made of {value}"),
            "colour": ("that is {value}", "in {value}"),
            "text": ('that says "{value}"', 'with the text "{value}"'),
        },
        defined=('what a dictionary describes as "{definition}"', 'the thing that is described as "{definition}"'),
        every=("all {nouns}", "all the {nouns}", "all {nouns} in the picture"),
        either=("one of the two {nouns}", "any one of the {nouns}", "either of the two {nouns}"),
        again=("Once more,", "Again,", "One more time,"),
        relations=_RELATIONS,
        relations_in_picture=_in_picture(_RELATIONS, "further", "and"),
        latest=(IT, IT, "{that_one}", "what you have just marked"),
        earlier=(
            "the {object} from your {ordinal} answer",
            "the {thing} in your {ordinal} answer",
            "what you marked in your {ordinal} answer",
        ),
        other=(
            *_filled(_TRAIN_COMMANDS, ("the other {noun}",)),
            "Now the other {noun}, please.",
            "Not this {noun} but the other one, please.",
            "There is another {noun}. Segment that one.",
            "There is another {noun}. Please mark that one.",
            "I mean the other {noun}; please mark it.",
            "Where is the other {noun}? Show it with a mask.",
            "Where is the other {noun}? Please mark it.",
            "Give me a mask of the other {noun}.",
            "I need a mask of the other {noun}.",
            "Show me where the other {noun} is.",
            "Which pixels belong to the other {noun}?",
            "Leave this {noun} and segment the other one.",
        ),
        same=(
            *_filled(_TRAIN_COMMANDS, ("the same {noun} again",)),
            "Once more the same {noun}, please.",
            "This {noun} and no other one, please.",
            "Stay with this {noun} and segment it.",
            "Could you highlight this very {noun} for me?",
            "Can you outline this same {noun} again?",
            "I mean this {noun}; please mark it.",
            "Where is this same {noun}? Show it with a mask.",
            "Give me a mask of the same {noun}.",
            "I need a mask of this very {noun}.",
            "Show me where this same {noun} is.",
            "Which pixels belong to this {noun}?",
            "Keep to the same {noun} and mark it again.",
        ),
        links=wording.LINKS,
    ),
    "held_out": Words(
        commands=_HELD_OUT_COMMANDS,
        requests=(
            *_HELD_OUT_COMMANDS,
            "Produce a binary mask for {what}.",
            "Return the region covered by {what}.",
            "Display the exact shape of {what}.",
            "What area of the image is taken up by {what}?",
            "Let me see the silhouette of {what}.",
            "What I am after is a mask for {what}.",
            "Detect {what}.",
            "Extract {what} from the image.",
        ),
        relational=(
            "the {noun} which {is_are} {relation} {reference}",
            "the {noun} to be found {relation} {reference}",
            "the {noun} seen {relation} {reference}",
        ),
        hierarchical=("the {part} belonging to {reference}",),
        interactional=("the {noun} which {reference} {clause}",),
        interactional_open=(
            "Which thing {asks}? Isolate {them}.",
            "Tell me which thing {reference} {clause}, and delineate {them}.",
            "Cut out whatever {reference} {clause}.",
            "Kindly select whatever {reference} {clause}.",
        ),
        attribute=("the only {noun} {clause}", "that {noun} {clause}"),
        attribute_clauses={
            "": ("with {value} for its {name}",),
            "transparency": ("which looks {value}",),
            "material": ("consisting of {value}", "with {value} for a material"),
            "colour": ("which has the colour {value}", "coloured {value}"),
            "text": ('on which one reads "{value}"', 'lettered "{value}"'),
        },
        defined=('what is defined as "{definition}"', 'the item that fits the definition "{definition}"'),
        every=("each and every one of the {nouns}", "the whole set of {nouns}", "any {nouns} there may be"),
        either=("just one of the {nouns}, no matter which", "whichever of the two {nouns} you like"),
        again=("A second time,", "As before,"),
        relations=_HELD_OUT_RELATIONS,
        relations_in_picture=_in_picture(_HELD_OUT_RELATIONS, "more to the", "and also"),
        latest=(IT, IT, "{this_one}", "your latest find"),
        earlier=(
            "the result of your {ordinal} reply",
            "the {object} in your {ordinal} response",
            "what your {ordinal} reply showed",
        ),
        other=(
            *_OTHER_HELD_OUT,
            "Try the other {noun} instead.",
            "I was thinking of the other {noun}; isolate that one.",
            "Select the {noun} that is not this one.",
            "Help me find the remaining {noun}.",
            "Swap this {noun} for the other one.",
            "This {noun} has a counterpart; isolate the counterpart.",
        ),
        same=(
            *_SAME_HELD_OUT,
            "Repeat the mask of this {noun}.",
            "I was thinking of this very {noun}; isolate it.",
            "Return to this {noun} and select it.",
            "Help me find this exact {noun}.",
            "Do not swap this {noun} for another one; select it.",
            "Kindly delineate this {noun}, that is, no other one.",
        ),
        links=("After that,", "Well,", "Right,", "Also,", "Thank you;", "Continuing,"),
    ),
}

# --- answers; none has to agree with the number of its target
ANSWERS: Forms = (
    "Sure, the {target}.",
    "I have marked the {target}.",
    "This mask shows the {target}.",
    "You can see the {target} here.",
    "The mask covers the {target}.",
    "Found: the {target}.",
    "Of course: the {target}.",
    "I have segmented the {target}.",
    "Marked in the picture: the {target}.",
    "You mean the {target}.",
)
NOTHING_THERE: Forms = (
    "There {is_are} no {noun} {relation} {reference}.",
    "I cannot see any {noun} {relation} {reference}.",
    "There is nothing to mark: no {noun} {relation} {reference} can be seen.",
)
NO_SUCH_PART: Forms = (
    "The {whole} {has} no {part}.",
    "There {is_are} no {part} on the {whole}.",
    "I cannot see any {part} on the {whole}.",
    "There is nothing to mark: the {whole} {has} no {part}.",
)
