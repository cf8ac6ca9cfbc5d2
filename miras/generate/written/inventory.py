"""The elements of a picture as the prompts of the later steps list them."""

from __future__ import annotations

from dataclasses import dataclass

from miras.generate.elements import Element, PictureElements

DESCRIPTION = "description"  # the attribute that holds an element's sentences
_RELATIONS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


@dataclass(frozen=True)
class ListedElement:
    """One line of the list."""

    label: str
    phrase: str
    name: str
    position: str
    whole: str | None
    """Label of the element that it is part of."""
    description: str
    facts: tuple[tuple[str, str], ...]
    """The other attributes, in the order in which they were stated."""
    relations: tuple[tuple[str, tuple[str, ...]], ...]
    """Where it stands ("to the left of"), and the labels of the elements that it stands so to."""


def label_of(position: int) -> str:
    """What the prompts call the element at this position: "e1" is the first."""
    return f"e{position + 1}"


def listing(elements: PictureElements) -> tuple[ListedElement, ...]:
    """One line for each element, in their order."""
    labels = {element.region_id: label_of(position) for position, element in enumerate(elements.elements)}
    return tuple(_line(element, labels) for element in elements.elements)


def _line(element: Element, labels: dict[str, str]) -> ListedElement:
    return ListedElement(
        label=labels[element.region_id],
        phrase=element.caption,
        name=element.name,
        position=element.position,
        whole=labels.get(element.part_of or ""),
        description=element.attributes.get(DESCRIPTION, ""),
        facts=tuple((name, value) for name, value in element.attributes.items() if name != DESCRIPTION),
        relations=tuple(
            (_RELATIONS[relation], tuple(labels[other] for other in others))
            for relation, others in element.relations.items()
        ),
    )
