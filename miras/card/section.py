"""The part of a page that shows the data set: a line of figures and random dialogues with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from miras.card.gallery import ShownDialogue
from miras.card.statistics import read_json_object
from miras.dialogue.masks import SIZE_CLASSES
from miras.dialogue.records import SPLITS
from miras.errors import DataError
from miras.files import read_records
from miras.paths import Paths
from miras.quality.glossary import KIND_TEXTS

STATISTICS, EXAMPLES = "statistics.json", "examples.jsonl"  # of the stage card


def data_set_section(paths: Paths, *, num_examples: int) -> Markup:
    """HTML for any page: `<section class="data-set">` with a style of its own, without a heading, pictures inside.

    The examples are the first ones of the card's gallery, so both show the same.

    Args:
        paths: the stage `card` must have run.
        num_examples: at most so many dialogues.

    Raises:
        DataError: the card's files are missing or broken.
    """
    folder = Path(paths.card)
    examples = list(islice(read_records(folder / EXAMPLES, ShownDialogue), num_examples))
    return section(figures_line(folder / STATISTICS), examples)


def section(figures: str, examples: Sequence[ShownDialogue]) -> Markup:
    """The section of these figures and examples."""
    kinds = {example.kind for example in examples}
    values = {
        "figures": figures,
        "examples": examples,
        "kinds": {kind: text for kind, text in KIND_TEXTS.items() if kind in kinds},
    }
    return Markup(environment().get_template("section.html.j2").render(values))


def figures_line(path: Path) -> str:
    """The headline numbers of a statistics.json in one sentence.

    Raises:
        DataError: it is missing, or they are not in it.
    """
    return line_of(read_json_object(path), source=path)


def line_of(found: dict[str, Any], *, source: Path) -> str:
    """The same of its content."""
    try:
        splits = " · ".join(f"{name} {found[f'dialogues_{name}']:,}" for name in SPLITS if f"dialogues_{name}" in found)
        sizes = ", ".join(f"{found[f'{name}_percent']:.0f} % {name}" for name in SIZE_CLASSES)
        masked = found["targets"] - found["targets_without_mask"]
        told = f"{masked:,} different masks ({sizes})" if masked else "no masks"
        return (
            f"{found['dialogues']:,} dialogues ({splits}) about {found['pictures']:,} pictures, "
            f"{found['turns']:,} turns, {told}."
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{source}: not the statistics of a data set ({type(error).__name__}: {error}). Run the stage card again "
            "(`dvc repro card`)."
        ) from None


def environment() -> Environment:
    """Jinja for this package's pages."""
    return Environment(
        loader=PackageLoader("miras.card"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
