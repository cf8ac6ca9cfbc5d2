"""PRIST step 1: a language model lists what is visible, tied to the regions that have been outlined.

Source: PRIST paper, section 3.2.1. The record is the annotated teacher's. An element without a region gets the id of
the region that it becomes when a dialogue leads to it; people outline that one later.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.dialogue.records import Picture, Region
from miras.generate.elements import Element, PictureElements, list_elements
from miras.generate.view import Thing, View, view_of
from miras.generate.written.inventory import DESCRIPTION
from miras.generate.written.prompts import render
from miras.generate.written.texts import ModelAnswer, check_english, check_text, content_words, noun_phrase, tidy
from miras.llm.records import Prompt

MAX_REGIONS = 40  # shown to the model; a longer list is a sample, as nobody talks about two hundred things
LEAST_ELEMENTS, MOST_ELEMENTS = 3, 12  # asked for; the paper's prompt asks for at least 3
MAX_ELEMENTS = 30  # taken
MAX_PHRASE_WORDS = 13  # of PRIST's foci
MAX_DESCRIPTION_WORDS = 80  # assumed: two long sentences
MAX_FACT_WORDS = 30  # assumed: of a position, or of what a sign says


class Attribute(ModelAnswer):
    """One thing that can be stated by looking."""

    name: str
    value: str


class VisibleElement(ModelAnswer):
    """Something to be seen in the picture."""

    name: str
    """Its class."""
    phrase: str
    """Fits this element and nothing else in the picture; without article."""
    description: str
    """What one sees of it, in one or two sentences."""
    attributes: list[Attribute]
    position: str
    """Where it is in the picture."""
    region: str | None
    """Label of the outlined region that it is; null where it is none of them."""


class VisibleElements(ModelAnswer):
    """All elements of the picture."""

    elements: list[VisibleElement]


@dataclass(frozen=True)
class ShownRegion:
    """An outlined region, as the prompt lists it."""

    label: str
    element: Element
    """What the annotation says of it."""
    box: str
    """Its extent in words."""

    @property
    def phrase(self) -> str:
        return self.element.caption

    @property
    def name(self) -> str:
        return self.element.name


@dataclass(frozen=True)
class ShownPicture:
    """A picture as its prompts show it; without masks, as many are held at a time."""

    image_id: str
    path: Path
    regions: tuple[ShownRegion, ...]
    phrases: frozenset[str]
    """Of all its regions in lower case, also of those that are not shown."""


def show(picture: Picture, regions: Iterable[Region], *, folder: Path, seed: int) -> ShownPicture:
    """What the prompts show of a picture.

    Args:
        picture: to be talked about.
        regions: all of its regions. Listed are those that a dialogue may lead to: with a mask of some size and a
            phrase of their own; of more than `MAX_REGIONS` a sample.
        folder: of the picture files.
        seed: of the sample.
    """
    regions = tuple(regions)
    view = view_of(regions)
    elements = {element.region_id: element for element in list_elements(view, picture.image_id).elements}
    things = [thing for thing in view.things if view.is_target(thing)]
    if len(things) > MAX_REGIONS:
        chosen = random.Random(f"{seed}/written/regions/{picture.image_id}").sample(range(len(things)), MAX_REGIONS)
        things = [things[position] for position in sorted(chosen)]
    shown = [
        ShownRegion(label=f"r{number}", element=elements[thing.region_id], box=box_in_words(view, thing))
        for number, thing in enumerate(things, 1)
    ]
    return ShownPicture(
        image_id=picture.image_id,
        path=folder / picture.file_name,
        regions=tuple(shown),
        phrases=frozenset(region.phrase.casefold() for region in regions if region.phrase),
    )


def box_in_words(view: View, thing: Thing) -> str:
    """The extent of a thing in per cent of its picture: "x 12 to 40, y 5 to 33"; y grows downwards."""
    x0, y0, x1, y1 = thing.box
    across = f"x {round(100 * x0 / view.width)} to {round(100 * x1 / view.width)}"
    return f"{across}, y {round(100 * y0 / view.height)} to {round(100 * y1 / view.height)}"


def elements_prompt(picture: ShownPicture) -> Prompt:
    """Asks for the elements of a picture."""
    labels = {region.element.region_id: region.label for region in picture.regions}
    regions = [
        {
            "label": region.label,
            "phrase": region.phrase,
            "name": region.name,
            "box": region.box,
            "whole": labels.get(region.element.part_of or ""),
        }
        for region in picture.regions
    ]

    def check(answer: Any) -> None:
        check_elements(answer, picture)

    texts = render("elements", regions=regions, least=LEAST_ELEMENTS, most=MOST_ELEMENTS)
    return Prompt(
        name="prist/elements",
        key=picture.image_id,
        system=texts.system,
        text=texts.text,
        answer=VisibleElements,
        picture=picture.path,
        check=check,
    )


def check_elements(answer: VisibleElements, picture: ShownPicture) -> None:
    """Refuses elements that cannot be told apart, or that name regions which were not shown.

    Raises:
        ValueError: with a sentence for the model.
    """
    if not 1 <= len(answer.elements) <= MAX_ELEMENTS:
        raise ValueError(f"{len(answer.elements)} elements are listed; expected 1 to {MAX_ELEMENTS}")
    for number, element in enumerate(answer.elements, 1):
        _check_texts(element, f"element {number}")
    check_english({f"the description of element {n}": each.description for n, each in enumerate(answer.elements, 1)})
    known = [region.label for region in picture.regions]
    named = [element.region for element in answer.elements if element.region is not None]
    if unknown := [label for label in named if label not in known]:
        raise ValueError(f"there is no region {unknown[0]!r}; the regions are: {', '.join(known) or 'none, use null'}")
    if len(set(named)) < len(named):
        raise ValueError("two elements have the same region; a region is one element")
    _check_phrases_differ(answer.elements, set(picture.phrases))


def _check_texts(element: VisibleElement, what: str) -> None:
    check_text(element.name, what=f"the name of {what}", max_words=MAX_PHRASE_WORDS)
    check_text(noun_phrase(element.phrase), what=f"the phrase of {what}", max_words=MAX_PHRASE_WORDS)
    if element.region is None and not content_words(element.phrase):
        raise ValueError(f"the phrase of {what} is {tidy(element.phrase)!r}, which names nothing")
    check_text(element.description, what=f"the description of {what}", max_words=MAX_DESCRIPTION_WORDS)
    check_text(element.position, what=f"the position of {what}", max_words=MAX_FACT_WORDS)
    for attribute in element.attributes:
        check_text(attribute.name, what=f"the name of an attribute of {what}", max_words=MAX_PHRASE_WORDS)
        check_text(attribute.value, what=f"the {attribute.name} of {what}", max_words=MAX_FACT_WORDS)


def _check_phrases_differ(elements: Sequence[VisibleElement], taken: set[str]) -> None:
    """The phrase of an element that is a region is not looked at: the region's own replaces it."""
    for element in elements:
        phrase = noun_phrase(element.phrase).casefold()
        if element.region is None and phrase in taken:
            raise ValueError(
                f"the phrase {phrase!r} fits two elements, or a region that is not named; "
                "add what tells them apart, or name the region"
            )
        if element.region is None:
            taken.add(phrase)


def picture_elements(answer: VisibleElements, picture: ShownPicture) -> PictureElements:
    """The checked answer as a record; where an element is an outlined region, the annotation goes first."""
    regions = {region.label: region.element for region in picture.regions}
    found = [
        _annotated(visible, regions[visible.region])
        if visible.region is not None
        else _new(visible, f"{picture.image_id}-focus{number}")
        for number, visible in enumerate(answer.elements)
    ]
    known = {element.region_id for element in found}
    return PictureElements(
        image_id=picture.image_id, elements=tuple(_with_relations_to(element, known) for element in found)
    )


def _facts(visible: VisibleElement) -> dict[str, str]:
    stated = {tidy(attribute.name).lower(): tidy(attribute.value) for attribute in visible.attributes}
    return {**stated, DESCRIPTION: tidy(visible.description)}


def _annotated(visible: VisibleElement, element: Element) -> Element:
    return element.model_copy(update={"attributes": {**_facts(visible), **element.attributes}})


def _new(visible: VisibleElement, region_id: str) -> Element:
    return Element(
        region_id=region_id,
        name=tidy(visible.name),
        caption=noun_phrase(visible.phrase),
        attributes=_facts(visible),
        position=tidy(visible.position),
        part_of=None,
        relations={},
    )


def _with_relations_to(element: Element, known: set[str]) -> Element:
    kept = {name: tuple(other for other in others if other in known) for name, others in element.relations.items()}
    return element.model_copy(update={"relations": {name: others for name, others in kept.items() if others}})
