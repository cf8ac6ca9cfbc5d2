"""The sentences of one-turn dialogues: for every kind of question and answer several wordings.

Slots in braces are filled by `miras.generate.queries`; `{target}` is the slot of the stored answer and stays.
"""

from __future__ import annotations

from miras.generate.wording import Forms

SEMANTIC_QUESTIONS: Forms = (
    "Segment every {noun}.",
    "Please mark all {nouns} in this picture.",
    "Can you segment the {nouns}?",
    "Show me every {noun} in the picture.",
    "Give me the masks of all {nouns}.",
    "Find and segment each {noun} here.",
    "Could you outline every {noun}?",
    "Where do you see {nouns}? Please segment them.",
    "Mark each {noun} that you can see.",
    "I need a mask for every {noun}.",
)
SEMANTIC_ANSWERS_ONE: Forms = (
    "There is one: the {slots}.",
    "Here is the only one, the {slots}.",
    "I found the {slots}.",
    "Sure, the {slots}.",
    "The mask shows the {slots}.",
    "Only the {slots}.",
)
SEMANTIC_ANSWERS_SEVERAL: Forms = (
    "There are {count}: the {slots}.",
    "Here are all of them: the {slots}.",
    "I found {count}, the {slots}.",
    "Sure, the {slots}.",
    "The masks show the {slots}.",
    "These are the {slots}.",
)
SEMANTIC_ANSWERS_UNCOUNTED: Forms = (
    "You see the {slots} here.",
    "I have marked the {slots}.",
    "I found the {slots}.",
    "Sure, the {slots}.",
    "The mask shows the {slots}.",
    "The mask covers the {slots}.",
)  # where nobody knows how many there are, or one does not count them
SEMANTIC_QUESTIONS_UNCOUNTED: Forms = (
    "Segment all the {noun}.",
    "Please mark all the {noun} in this picture.",
    "Can you segment the {noun}?",
    "Show me the {noun} in the picture.",
    "Give me a mask of all the {noun}.",
    "Find and segment the {noun} here.",
    "Could you outline any {noun} in the picture?",
    "Where do you see {noun}? Please segment it.",
    "Mark all the {noun} that you can see.",
    "I need a mask for all the {noun}.",
)
ABSENT_ANSWERS: Forms = (
    "There {is_are} no {noun} in this picture.",
    "I cannot see any {noun} here.",
    "This picture shows no {noun}.",
    "No {noun} {is_are} visible in the picture.",
    "I looked, but there {is_are} no {noun}.",
    "There is nothing to mark: the picture has no {noun}.",
)
REFERRING_QUESTIONS: Forms = (
    "Can you segment the {noun}?",
    "Please mark the {noun}.",
    "Where is the {noun}? Please show its mask.",
    "Segment the {noun} in this picture.",
    "Could you outline the {noun} for me?",
    "Show me the {noun}, please.",
    "I would like a mask of the {noun}.",
    "Find the {noun} and segment it.",
    "Point to the {noun} with a mask.",
    "Please give me the mask of the {noun}.",
    "Which pixels belong to the {noun}?",
    "Highlight the {noun} in the picture.",
)
REFERRING_ANSWERS: Forms = (
    "Here is the {target}.",
    "Sure, the {target}.",
    "This mask shows the {target}.",
    "I have marked the {target}.",
    "You can see the {target} here.",
    "The mask covers the {target}.",
    "That must be the {target}.",
    "Found: the {target}.",
    "Of course: the {target}.",
    "I have segmented the {target}.",
)
VQA_COLOUR: Forms = (
    "What colour is the {noun}?",
    "Which colour does the {noun} have?",
    "In what colour is the {noun} painted?",
    "Can you tell me the colour of the {noun}?",
)
VQA_COLOUR_ANSWERS: Forms = ("It is {colour}.", "{colour}.", "The {noun} is {colour}.", "Its colour is {colour}.")
VQA_COUNT: Forms = (
    "How many {nouns} are there?",
    "How many {nouns} do you see in this picture?",
    "Can you count the {nouns}?",
    "What is the number of {nouns} here?",
)
VQA_COUNT_ANSWERS: Forms = ("{count}.", "There {is_are} {count}.", "I can see {count}.", "I count {count}.")
VQA_EXISTS: Forms = (
    "Is there {noun_a} in this picture?",
    "Can you see {noun_a} here?",
    "Does the picture show {noun_a}?",
    "Do you see {noun_a} anywhere?",
)
VQA_EXISTS_YES: Forms = ("Yes, there is.", "Yes, {place}.", "Yes.", "Yes, I can see it {place}.")
VQA_EXISTS_YES_UNCOUNTED: Forms = ("Yes, I can.", "Yes, {place}.", "Yes.", "Yes, mostly {place}.")
VQA_EXISTS_NO: Forms = ("No, there {is_are} none.", "No, I cannot see any.", "No.", "No, there {is_are} no {noun}.")
VQA_RELATION: Forms = (
    "Is the {noun} {relation} the {anchor}?",
    "Would you say that the {noun} is {relation} the {anchor}?",
    "Tell me, is the {noun} {relation} the {anchor}?",
    "Looking at both, is the {noun} {relation} the {anchor}?",
)
VQA_RELATION_YES: Forms = ("Yes, it is.", "Yes, it is {relation} the {anchor}.", "Yes.")
VQA_RELATION_NO: Forms = ("No, it is not.", "No, it is {opposite} the {anchor}.", "No.")
VQA_TEXT: Forms = (
    "What is written on the {noun}?",
    "Which letters are on the {noun}?",
    "What does the {noun} say?",
    "Can you read the text on the {noun}?",
)
VQA_TEXT_ANSWERS: Forms = ('It says "{text}".', '"{text}".', 'The {noun} says "{text}".', 'I can read "{text}".')
VQA_PLACE: Forms = (
    "Where in the picture {is_are} the {noun}?",
    "In which area of the picture {is_are} the {noun}?",
    "Where can I find the {noun}?",
    "Can you say where the {noun} {is_are}?",
)
VQA_PLACE_ANSWERS: Forms = ("{it} {is_are} {place}.", "The {noun} {is_are} {place}.", "You can find {them} {place}.")
VQA_NEAREST: Forms = (
    "What is closest to the {noun}?",
    "Which thing is nearest to the {noun}?",
    "What do you see next to the {noun}?",
    "What is the nearest neighbour of the {noun}?",
)
VQA_NEAREST_ANSWERS: Forms = (
    "The {other}.",
    "It is the {other}.",
    "The {other} is closest.",
    "Next to it is the {other}.",
)
VQA_PART: Forms = (
    "Which part of the {noun} {clause}?",
    "What part of the {noun} {clause}?",
    "Looking at the {noun}, which part {clause}?",
)
VQA_PART_ANSWERS: Forms = ("The {part}.", "Its {part}.", "That is the {part}.", "It is the {part} of the {noun}.")
VQA_USE_ANSWERS: Forms = ("The {name}.", "It is the {name}.", "That would be the {name}, {place}.")
CAPTION_QUESTIONS: Forms = (
    "Describe this picture.",
    "What does the picture show?",
    "Please give a short caption.",
    "Can you describe the scene?",
    "What is in this picture?",
    "Tell me what you see here.",
    "Write a sentence about this picture.",
    "Summarise what can be seen.",
)
CAPTION_ANSWERS: Forms = (
    "The picture shows {inventory}.",
    "It shows {inventory}.",
    "{inventory} can be seen.",
    "I see {inventory}.",
    "In this picture you can see {inventory}.",
)
CAPTION_DETAILS: Forms = (
    "The {first} is {first_place}, the {last} {last_place}.",
    "{first_place_begin} there is the {first}, {last_place} the {last}.",
    "You find the {first} {first_place} and the {last} {last_place}.",
)
CAPTION_DETAILS_SAME_PLACE: Forms = (
    "The {first} and the {last} are both {first_place}.",
    "{first_place_begin} there are the {first} and the {last}.",
)
