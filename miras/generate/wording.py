"""The sentences of PRIST dialogues: for every kind of question and answer several wordings.

Slots in braces are filled by `miras.generate.paths`; `{target}` is the slot of the stored answer and stays.
"""

from __future__ import annotations

from miras.generate.view import Extreme, Relation

Forms = tuple[str, ...]

# --- the scene as a whole
OVERVIEW_QUESTIONS: Forms = (
    "What can be seen in this picture?",
    "What does this picture show?",
    "Can you describe what is in this picture?",
    "Which things do you notice in this picture?",
    "What is there to see in this scene?",
    "Could you first tell me what is here?",
    "What catches your eye in this picture?",
)
OVERVIEW_COUNT_QUESTIONS: Forms = (
    "How many things do you count in this picture?",
    "How many things or objects can be seen here?",
    "Can you count the things in this picture?",
)
OVERVIEW_COUNT_ANSWERS: Forms = (
    "There are {count} things: {inventory}.",
    "I count {count} things here: {inventory}.",
    "In all there are {count} things, namely {inventory}.",
)
OVERVIEW_ANSWERS: Forms = (
    "The picture shows {inventory}.",
    "I can see {inventory}.",
    "It shows {inventory}.",
    "Here I see {inventory}.",
    "You can see {inventory}.",
)

# --- first clue: what something is good for (clause) or what it is called (noun)
USE_ONE: Forms = (
    "Which object in this picture {clause}?",
    "What in this picture {clause}?",
    "Which of the things shown here {clause}?",
    "Can you find the one thing here that {clause}?",
    "Looking around the scene, what {clause}?",
    "What do you see that {clause}?",
    "If you look around, which thing {clause}?",
    "I need something that {clause}; what is there?",
)
USE_SEVERAL: Forms = (
    "Which objects in this picture {clause}?",
    "What things here {clause}?",
    "How many things in this picture {clause}?",
    "Which of the objects shown {clause}?",
    "Which things do you see that {clause}?",
    "I am looking for things that {clause}; which are they?",
    "How many objects do you find that {clause}?",
)
USE_ONE_ANSWERS: Forms = (
    "The {name} {clause}.",
    "That is the {name}, {place}.",
    "I would say the {name}, {place}.",
    "The {name} {place} {clause}.",
    "It must be the {name}.",
    "Only the {name} {clause}.",
)
NOUN_ONE: Forms = (
    "Is there {noun_a} in this picture?",
    "Do you see {noun_a} anywhere in the picture?",
    "Where in the picture is the {noun}?",
    "Can you find the {noun} in this picture?",
    "Where do you see the {noun} in this scene?",
    "Could you tell me where the {noun} is?",
    "I am looking for the {noun}; where is it?",
)
NOUN_ONE_ANSWERS: Forms = (
    "The {name} is {place}.",
    "There is the {name}, {place}.",
    "I can see the {name} {place}.",
    "You can find the {name} {place}.",
    "I find the {name} {place}.",
)
NOUN_SEVERAL: Forms = (
    "How many {nouns} are there in this picture?",
    "How many {nouns} do you see here?",
    "Which {nouns} can you find in this picture?",
    "Can you tell me about the {nouns} in this picture?",
    "What {nouns} does this picture show?",
)
SEVERAL_ANSWERS: Forms = (
    "I find {inventory}.",
    "That could be said of {inventory}.",
    "The picture shows {inventory}.",
    "I can see {inventory} here.",
    "{count} things come into question: {inventory}.",
)
COUNT_ANSWERS_ALIKE: Forms = (
    "There are {inventory}.",
    "I count {inventory}.",
    "I can see {inventory} here.",
)
COUNT_ANSWERS: Forms = (
    "There are {count}: {inventory}.",
    "I count {count} of them, {inventory}.",
    "I see {count}, namely {inventory}.",
    "{count} in all: {inventory}.",
)

# --- telling clues: which of several
WHICH_CATEGORY_ONE: Forms = (
    "Which of them is {noun_a}?",
    "Is there {noun_a} among them?",
    "Which one of these is {noun_a}?",
    "Can you pick out the {noun} among them?",
    "Where among these is the {noun}?",
    "Which of these would you call {noun_a}?",
)
WHICH_CATEGORY_SEVERAL: Forms = (
    "Which of them are {nouns}?",
    "Which ones among these are {nouns}?",
    "How many of these are {nouns}?",
    "How many {nouns} are there among them?",
)
WHICH_COLOUR_ONE: Forms = (
    "Which of {group} is {colour}?",
    "Which one of {group} is {colour}?",
    "Which of {group} do you see in {colour}?",
    "Can you pick out the {colour} one of {group}?",
    "Where is the {colour} one of {group}?",
    "If you compare {group}, which one is {colour}?",
    "Which of {group} has the colour {colour}?",
)
WHICH_COLOUR_SEVERAL: Forms = (
    "Which of {group} are {colour}?",
    "How many of {group} are {colour}?",
    "Which ones of {group} have the colour {colour}?",
    "Can you pick out the {colour} ones of {group}?",
)
WHICH_TEXT: Forms = (
    'Which of {group} says "{text}"?',
    'Which one of {group} carries the text "{text}"?',
    'On which of {group} can you read "{text}"?',
    'Can you find "{text}" written on one of {group}?',
    'Which of {group} has "{text}" written on it?',
    'Where do you read "{text}" among {group}?',
)
WHICH_EXTREME: Forms = (
    "Which of {group} {extreme}?",
    "Which one of {group} {extreme}?",
    "If you compare {group}, which one {extreme}?",
    "Comparing {group}, which {extreme}?",
    "Can you tell which of {group} {extreme}?",
    "Out of {group}, which one {extreme}?",
)
EXTREME_OF_TWO: dict[Extreme, Forms] = {
    "left": ("is further left in the picture", "is more to the left in the picture"),
    "right": ("is further right in the picture", "is more to the right in the picture"),
    "top": ("is higher up in the picture", "is nearer to the upper edge"),
    "bottom": ("is lower down in the picture", "is nearer to the lower edge"),
    "large": ("looks larger", "takes up more of the picture", "is the bigger one"),
    "small": ("looks smaller", "takes up less of the picture", "is the tinier one"),
}
EXTREME_OF_MANY: dict[Extreme, Forms] = {
    "left": ("is furthest left in the picture", "is nearest to the left edge"),
    "right": ("is furthest right in the picture", "is nearest to the right edge"),
    "top": ("is highest up in the picture", "is nearest to the upper edge"),
    "bottom": ("is lowest down in the picture", "is nearest to the lower edge"),
    "large": ("looks largest", "takes up the most of the picture", "is the biggest one"),
    "small": ("looks smallest", "takes up the least of the picture", "is the tiniest one"),
}
WHICH_RELATED_ONE: Forms = (
    "Which of {group} is {relation} the {anchor}?",
    "Which one of {group} do you see {relation} the {anchor}?",
    "Looking at {group}, which one is {relation} the {anchor}?",
    "Can you tell which of {group} is {relation} the {anchor}?",
)
WHICH_RELATED_SEVERAL: Forms = (
    "Which of {group} are {relation} the {anchor}?",
    "Which ones of {group} do you see {relation} the {anchor}?",
    "How many of {group} are {relation} the {anchor}?",
    "Looking at {group}, which ones are {relation} the {anchor}?",
)
RELATIONS_IN_WORDS: dict[Relation, Forms] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "higher up than"),
    "below": ("below", "lower down than"),
}
WHICH_ONE_ANSWERS: Forms = (
    "It is the {name}.",
    "That is the {name}, {place}.",
    "The {name} is the one, {place}.",
    "It must be the {name} {place}.",
    "That would be the {name}.",
    "The one you mean is the {name} {place}.",
    "I would point to the {name}, {place}.",
)
WHICH_SEVERAL_ANSWERS: Forms = (
    "That leaves {definite}.",
    "Those are {definite}.",
    "It holds for {definite}.",
    "I would say {definite}.",
)

# --- a part of it
PART_BY_USE: Forms = (
    "Which part of it {clause}?",
    "Which of its parts {clause}?",
    "What part of the {noun} {clause}?",
    "Looking at the {noun}, which part {clause}?",
    "Which piece of this {noun} {clause}?",
    "Thinking of the {noun}, what part of it {clause}?",
    "If you look at it closely, which part {clause}?",
)
PART_BY_USE_ANSWERS: Forms = (
    "The {name} {clause}.",
    "It is the {part} that {clause}: the {name}.",
    "The {part} {clause}, so you mean the {name}.",
    "That is the {name}, {side} of the {noun}.",
    "One would need the {part} for that: the {name}, {place}.",
    "I would say the {name}, because the {part} {clause}.",
)
PART_BY_NAME: Forms = (
    "Does it have {part_a}?",
    "Can you see the {part} of this {noun}?",
    "Where on the {noun} {is_are} the {part}?",
    "Can you find the {part} of this {noun}?",
    "Where {is_are} the {part} of this {noun}?",
    "Looking at the {noun}, where {is_are} its {part}?",
)
PART_BY_NAME_ANSWERS: Forms = (
    "The {name} {is_are} {side} of it.",
    "I see the {name}, {side} of the {noun}.",
    "There you can see the {name}, {place}.",
    "The {name} {is_are} {place}.",
)
PARTS_SEVERAL: Forms = (
    "How many {nouns} does it have?",
    "How many {nouns} can you see on it?",
    "Can you see the {nouns} of this {whole}?",
)

# --- staying with what was found
PLACE_QUESTIONS: Forms = (
    "Where in the picture {is_are} {it}?",
    "In which area of the picture {is_are} {it}?",
    "Whereabouts in the picture can you see {them}?",
    "In which corner or side of the picture {is_are} {it}?",
    "Where would I have to look to find {them}?",
    "Can you say where in the picture {it} {is_are}?",
)
PLACE_ANSWERS: Forms = (
    "The {name} {is_are} {place}.",
    "You can see the {name} {place}.",
    "Look {place} to find the {name}.",
    "I see the {name} {place}.",
)
COLOUR_QUESTIONS: Forms = (
    "What colour is it?",
    "Which colour does it have?",
    "In what colour is it painted?",
    "How would you describe its colour?",
)
COLOUR_ANSWERS: Forms = (
    "Its colour is {colour}, as the {name} shows.",
    "It is {colour}; I mean the {name}.",
    "The colour of the {name} is {colour}.",
    "I see {colour} on the {name}.",
)
TEXT_QUESTIONS: Forms = (
    "What is written on it?",
    "Which letters can you read on it?",
    "Can you read what it says?",
    "Is there any text on it, and which?",
)
TEXT_ANSWERS: Forms = (
    'It says "{text}", as the {name} shows.',
    'The {name} carries the text "{text}".',
    'You can read "{text}" on the {name}.',
)
SIZE_QUESTIONS: Forms = (
    "How large is it compared with the rest?",
    "How does its size compare with the others?",
    "Is it large or small among the things here?",
    "Does its size stand out in this picture?",
)
SIZE_ANSWERS: Forms = (
    "The {name} is the {size} thing in the picture.",
    "Of all things here the {name} is the {size}.",
    "Nothing here is as {plain_size} as the {name}.",
)
ACROSS_QUESTIONS: Forms = (
    "Is it to the left or to the right of the {anchor}?",
    "On which side of the {anchor} is it, left or right?",
    "Do I find it left or right of the {anchor}?",
    "Seen from the {anchor}, is it to the left or right?",
)
DOWN_QUESTIONS: Forms = (
    "Is it above or below the {anchor}?",
    "Is it higher up or lower down than the {anchor}?",
    "Do I find it above or below the {anchor}?",
    "Compared with the {anchor}, is it higher up or lower down?",
)
SIDE_OF_ANSWERS: Forms = (
    "The {name} is {relation} the {anchor}.",
    "You can see the {name} {relation} the {anchor}.",
    "I find the {name} {relation} the {anchor}.",
    "Seen in the picture, the {name} is {relation} the {anchor}.",
)
PARTS_QUESTIONS: Forms = (
    "Which parts of it can you see?",
    "What parts does it consist of?",
    "Which of its parts are visible here?",
    "Can you name the parts of it?",
)
PARTS_ANSWERS: Forms = (
    "The {name} shows its {parts}.",
    "I can see the {parts} of the {name}.",
    "On the {name} you can see the {parts}.",
    "There are the {parts} on the {name}.",
)
SIDE_QUESTIONS: Forms = (
    "Where on the {noun} {is_are} {it}?",
    "At which place of the {noun} do you see {them}?",
    "On which side of the {noun} {is_are} {it}?",
    "Can you tell where on the {noun} {it} {is_are}?",
)
SIDE_ANSWERS: Forms = (
    "The {name} {is_are} {side}.",
    "You can see the {name} {side} of it.",
    "Look {side} of it for the {name}.",
)
PURPOSE_QUESTIONS: Forms = (
    "What {is_are} {it} good for here?",
    "Why does the {noun} need {them}?",
    "What would you say {it} {is_are} for?",
    "What {is_are} {it} there for?",
)
PURPOSE_ANSWERS: Forms = (
    "The {name} {clause}.",
    "Without the {name} something would be missing: the {part} {clause}.",
    "You ask about the {name}: the {part} {clause}.",
    "I think that the {name} {clause}.",
)
RECAP_QUESTIONS: Forms = (
    "So what exactly are we talking about?",
    "Which thing have we arrived at by now?",
    "What have we singled out by now?",
    "To sum up, what is it that I am after?",
    "How would you name it in a few words?",
    "Putting all this together, what do I mean?",
    "What do all these questions lead to?",
    "Can you name in full what we found?",
)
RECAP_ANSWERS: Forms = (
    "We are talking about the {name}.",
    "We have arrived at the {name}, {place}.",
    "You mean the {name}, which can be seen {place}.",
    "All of this leads to the {name} {place}.",
    "Everything fits the {name}, {place}.",
    "In a few words: the {name}.",
)
LINKS: Forms = ("And", "Now,", "Then", "Next,", "Good,", "Fine,", "All right,", "Thanks,")

# --- the request; none says anything about what it asks for
REQUESTS: Forms = (
    "Please segment what we have been talking about.",
    "Now mark the thing that all these questions lead to.",
    "Can you outline what this conversation is about?",
    "Please give me the mask of what we arrived at.",
    "Segment the subject of our conversation, please.",
    "Could you highlight what we have singled out?",
    "Show me exactly which pixels belong to it.",
    "Use this conversation to produce the matching segmentation.",
    "Please provide a segmentation that supports these answers.",
    "Point it out in the picture with a mask.",
    "Based on all of the above, segment the target.",
    "Please draw a mask over what was meant.",
    "Now create the mask that fits our dialogue.",
    "Turn the result of this dialogue into a mask.",
    "Can you segment it for me now?",
)
REQUEST_ANSWERS: Forms = (
    "Here you see the {target}.",
    "Certainly, here is the mask: the {target}.",
    "I have segmented the {target}.",
    "The mask covers the {target}.",
    "Sure, the {target}.",
    "All of this leads to the {target}.",
    "We were talking about the {target}.",
    "Marked in the picture: the {target}.",
    "The segmentation shows the {target}.",
    "This conversation was about the {target}.",
    "The answers describe the {target}.",
    "I have outlined the {target}.",
    "What you mean must be the {target}.",
    "As our dialogue says, the {target}.",
)
