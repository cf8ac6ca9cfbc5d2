"""What the readers of data sets with words have in common: checked texts, one-turn dialogues, what is kept beside them.

The public data sets give a phrase and a mask, seldom an answer; answers are then our own sentences, the same at every
reading: which one is drawn from the dialogue's id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from miras.dialogue.records import TARGET_SLOT, Dialogue, DialogueKind, Rejected, Turn
from miras.dialogue.rendering import MARKERS
from miras.errors import DataError
from miras.generate.language import listed
from miras.generate.wording import Forms
from miras.generate.wording_queries import REFERRING_ANSWERS, REFERRING_QUESTIONS
from miras.sources.coco import check_size
from miras.sources.limits import ReadLimits
from miras.sources.pictures import UprightPicture, find_picture, load_picture, printable

UNNAMED = "thing asked for"  # what an answer calls a target that its data set has no word for

# For descriptions that bear no "the": "two people", "everything on the table", "his hat".
_WITHOUT_ARTICLE_QUESTIONS: Forms = (
    "Please segment this: {noun}.",
    "Mark the following in the picture: {noun}.",
    'What does "{noun}" mean here? Please show the mask.',
    'Find what fits "{noun}" and segment it.',
    "I am looking for this: {noun}. Can you outline it?",
)
_SEVERAL_ANSWERS: Forms = (
    "There are several: {slots}.",
    "I have marked each of them: {slots}.",
    "Sure, here they are: {slots}.",
    "These fit: {slots}.",
)
_NOTHING_ANSWERS: Forms = (
    "Nothing in this picture fits that description.",
    "I cannot find anything like that here.",
    "There is no such thing in this picture.",
    "I have looked for it, but it is not in the picture.",
)
_NO_THE_BEFORE = re.compile(
    r"(?:this|that|these|those|all|both|every\w*|each|any\w*|some\w*|no|none|his|her|its|their|my|our|your|one|two|three"
    r"|four|five|six|seven|eight|nine|ten|he|she|it|they|i|you|what|which|where|who|only|other|another|\d\S*)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.IGNORECASE)


class RejectedDialogue(Rejected):
    """A text of the source left out; its picture and its regions stay."""


def pick(forms: Sequence[str], key: str) -> str:
    """One of the forms, the same for the same key."""
    return forms[int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % len(forms)]


def checked_text(raw: object, *, what: str) -> str:
    """A source's text without outer blanks; inner line breaks stay.

    Args:
        what: its name for messages, such as 'the text under "value"'.

    Raises:
        DataError: not text, empty, not valid Unicode, or holding a marker of the model.
    """
    if not isinstance(raw, str):
        raise DataError(f"{what} is {printable(repr(raw))[:60]}; expected text")
    text = raw.strip()
    if not text:
        raise DataError(f"{what} is empty")
    if text != printable(text):
        raise DataError(f"{what} is not valid Unicode: {printable(text)[:60]!r}. Save the file as UTF-8")
    for marker in (*MARKERS, TARGET_SLOT):
        if marker in text:
            raise DataError(f"{what} holds {marker}, which only the renderer may write: {text[:60]!r}")
    return text


def noun_phrase(text: str) -> str:
    """A description as a phrase: in one line, without article before and full stop behind."""
    return _ARTICLE.sub("", " ".join(text.split()).rstrip(" .,;")) or text


def question_for(phrase: str, *, key: str) -> str:
    """A request to segment what the phrase describes.

    Args:
        phrase: without article, as `noun_phrase` gives it.
        key: the same key gives the same sentence.
    """
    forms = _WITHOUT_ARTICLE_QUESTIONS if _NO_THE_BEFORE.match(phrase) else REFERRING_QUESTIONS
    return pick(forms, f"question/{key}").replace("{noun}", phrase)


def answer_with(num_targets: int, *, key: str) -> str:
    """A sentence of ours with a slot per target; with none it says that there is no such thing."""
    if num_targets == 0:
        return pick(_NOTHING_ANSWERS, f"answer/{key}")
    if num_targets == 1:
        return pick(REFERRING_ANSWERS, f"answer/{key}")
    slots = listed([f"the {TARGET_SLOT}"] * num_targets)
    return pick(_SEVERAL_ANSWERS, f"answer/{key}").replace("{slots}", slots)


def one_turn(dialogue_id: str, image_id: str, turn: Turn, *, kind: DialogueKind, focus: str = "") -> Dialogue:
    """A dialogue of this turn alone."""
    return Dialogue(dialogue_id=dialogue_id, image_id=image_id, kind=kind, focus=focus, turns=(turn,))


def named_picture(
    name: object, *, folder: Path, root: Path, limits: ReadLimits, height: object = None, width: object = None
) -> UprightPicture:
    """The picture with this file name.

    Args:
        folder: of the pictures.
        root: the folder of the annotations.
        height: as the annotations state it, pixels; None: they do not.
        width: the same.

    Raises:
        DataError: there is no such picture, it cannot be read, or it has another size.
    """
    path = find_picture(name, folders=[folder], root=root)
    picture = load_picture(path, max_megapixels=limits.max_megapixels)
    check_size(picture, height=height, width=width, name=path.name)
    return picture


def licence_names(records: object) -> dict[object, str]:
    """COCO's list of licences: id -> its address, or its name where there is none."""
    licences = [item for item in records if isinstance(item, dict)] if isinstance(records, list) else []
    return {
        item["id"]: str(item.get("url") or item.get("name") or "")
        for item in licences
        if isinstance(item.get("id"), int | str)
    }


def licence_of(record: dict[str, Any], names: dict[object, str]) -> str:
    """What a COCO picture record states under "license", looked up; "" where it states none that is known."""
    key = record.get("license")
    return names.get(key, "") if isinstance(key, int | str) else ""
