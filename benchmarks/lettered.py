"""Pictures and questions that need high resolution: two things of a kind that differ in what is written on them.

Scenes in which some class shows two objects with different lettering, rendered larger than CLIP's input, so that the
low-resolution encoder cannot read what the high-resolution one can. Each object is asked for by its text ("reading",
answered by a mask; the answer names the class alone), and asked what it says ("telling", answered in words).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from miras.dialogue.records import Dialogue, DialogueKind, Region, Turn
from miras.generate.phrases import identify
from miras.sources import scenes
from miras.sources.limits import ReadLimits
from miras.sources.records import SourcePicture
from miras.sources.scenes import ScenesSource

SCENES_PER_PICTURE = 40  # rendered at most for each one that is kept; about one in seven is
READING = (
    'Please segment the {noun} that says "{text}".',
    'Which {noun} has "{text}" on it? Show me its mask.',
    'Mark the {noun} with "{text}" written on it.',
    'I am looking for the {noun} reading "{text}".',
    'Outline the {noun} labelled "{text}".',
    'Where is the {noun} with the letters "{text}"?',
)
READING_HELD_OUT = (
    'Could you cut out the {noun} on which one reads "{text}"?',
    'One {noun} bears "{text}"; give me its mask.',
    'Find the {noun} whose lettering is "{text}".',
)
TELLING = (
    "What is written on the {phrase}?",
    "What does the {phrase} say?",
    "Read me the lettering on the {phrase}.",
    "Which letters does the {phrase} show?",
)
TELLING_HELD_OUT = ("Tell me what one reads on the {phrase}.", "The {phrase} says something; what is it?")
ANSWER = "I have marked the {target}."


def read(source: ScenesSource, *, limits: ReadLimits) -> Iterator[SourcePicture]:
    """`source.count` lettered scenes with their questions in the wording to train on; a reader for stage `ingest`."""
    found = 0
    for picture in scenes.read(count=SCENES_PER_PICTURE * source.count, size_px=source.size_px, seed=source.seed):
        if found == min(source.count, limits.max_pictures):
            return
        questions = [q for kind in ("referring", "vqa") for q in ask(picture.regions, kind, is_held_out=False)]
        if questions:
            found += 1
            yield replace(picture, dialogues=tuple(questions))


def ask(regions: Iterable[Region], kind: DialogueKind, *, is_held_out: bool) -> list[Dialogue]:
    """One-turn dialogues about the lettered things of a picture that differ from another of their class.

    Args:
        regions: of the picture.
        kind: "referring" (reading) or "vqa" (telling).
        is_held_out: in which wording.
    """
    regions = list(regions)
    phrases = identify([region.model_copy(update={"attributes": _silent(region)}) for region in regions])
    dialogues = []
    for region in _lettered(regions):
        dice = random.Random(f"{region.region_id}/{kind}/{is_held_out}")
        text = region.attributes["text"]
        if kind == "referring":
            question = dice.choice(READING_HELD_OUT if is_held_out else READING).format(noun=region.category, text=text)
            turn = Turn(question=question, answer=ANSWER, targets=(region.region_id,), names=(region.category,))
        elif region.region_id in phrases:
            forms = TELLING_HELD_OUT if is_held_out else TELLING
            question = dice.choice(forms).format(phrase=phrases[region.region_id])
            turn = Turn(question=question, answer=f'It says "{text}".')
        else:
            continue
        dialogues.append(
            Dialogue(
                dialogue_id=f"{region.region_id}-{kind}-lettered",
                image_id=region.image_id,
                kind=kind,
                focus=region.category if turn.targets else "",
                turns=(turn,),
            )
        )
    return dialogues


def _lettered(regions: Iterable[Region]) -> list[Region]:
    """Objects whose text alone tells them from another object of their class."""
    groups: dict[str, list[Region]] = defaultdict(list)
    for region in regions:
        if region.parent_id is None and region.attributes.get("text"):
            groups[region.category].append(region)
    found = []
    for group in groups.values():
        texts = [region.attributes["text"] for region in group]
        found += [r for r in group if len(group) > 1 and texts.count(r.attributes["text"]) == 1]
    return found


def _silent(region: Region) -> dict[str, str]:
    """Attributes without the text, so that no phrase gives it away."""
    return {key: value for key, value in region.attributes.items() if key != "text"}
