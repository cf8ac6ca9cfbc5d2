"""One-turn questions asked again in other wordings: how much a score depends on the sentence around the phrase.

SegLLM (table 7) asks with templates of its own, of LISA and of SESAME, and averages. The sentences are ours; alike are
their traits: LISA's questions name the thing and then ask for a mask in a sentence of its own, SESAME's ask whether it
is there, since it may not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miras.dialogue.records import Dialogue
from miras.evaluate.config import TemplateFamily
from miras.sources.told import pick

FAMILIES: dict[TemplateFamily, tuple[str, ...]] = {
    "lisa": (
        "What is {noun} in this picture? Please answer with its segmentation mask.",
        "{noun}: what is that here? Output the mask.",
        "Can you segment {noun} in this picture? Respond with a mask.",
    ),
    "sesame": (
        "Is there {noun} in this picture? If so, segment it.",
        "Do you see {noun} here? Please give the mask if it is there.",
        "Can {noun} be found in the picture? Segment it, or say that it is not there.",
    ),
}


def reworded(dialogues: Sequence[Dialogue], family: TemplateFamily) -> Iterator[Dialogue]:
    """The one-turn dialogues with a focus, asked with a template of the family; ids stay, and so do the answers."""
    for dialogue in dialogues:
        (turn,) = dialogue.turns
        if dialogue.focus:
            form = pick(FAMILIES[family], f"{family}/{dialogue.dialogue_id}")
            asked = turn.model_copy(update={"question": _capitalised(form.replace("{noun}", f"the {dialogue.focus}"))})
            yield dialogue.model_copy(update={"turns": (asked,)})


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
