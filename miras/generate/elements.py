"""PRIST step 1: the elements visible in a picture, with their attributes and how they stand to each other.

Source: PRIST paper, section 3.2.1 and figure 7a; the relations are SegLLM's spatial ones, for clear cases.
"""

from __future__ import annotations

from miras.dialogue.records import Frozen
from miras.generate.view import RELATIONS, Thing, View, place, stands


class Element(Frozen):
    """Something visible that a dialogue can lead to."""

    region_id: str
    name: str
    """Its class."""
    caption: str
    """Phrase that identifies it; "" where none does."""
    attributes: dict[str, str]
    """colour and text, as the source states them."""
    position: str
    """Where in the picture."""
    part_of: str | None
    """Region id of its whole."""
    relations: dict[str, tuple[str, ...]]
    """left, right, above, below -> region ids of the objects that it clearly is left of, ...; none for parts."""


class PictureElements(Frozen):
    """All elements of one picture."""

    image_id: str
    elements: tuple[Element, ...]


def list_elements(view: View, image_id: str) -> PictureElements:
    """The elements of a picture, objects and parts, in the order of its regions."""
    return PictureElements.model_construct(
        image_id=image_id, elements=tuple(_element(view, thing) for thing in view.things)
    )


def _element(view: View, thing: Thing) -> Element:
    stated = {"colour": thing.colour, "text": thing.text}
    return Element.model_construct(
        region_id=thing.region_id,
        name=thing.category,
        caption=thing.phrase,
        attributes={key: value for key, value in stated.items() if value},
        position=place(view, thing),
        part_of=thing.whole.region_id if thing.whole else None,
        relations={} if thing.whole else _relations(view, thing),
    )


def _relations(view: View, thing: Thing) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for other in view.objects:
        for relation in RELATIONS:
            if other is not thing and stands(view, thing, relation, other):
                found.setdefault(relation, []).append(other.region_id)
    return {relation: tuple(others) for relation, others in found.items()}
