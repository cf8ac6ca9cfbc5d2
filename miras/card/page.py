"""The texts of the card and the gallery page, filled into their templates."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel
from ruamel.yaml import YAML

from miras.annotate.config import AnnotateConfig
from miras.card.config import CardConfig
from miras.card.gallery import ShownDialogue
from miras.card.papers import size_shares_percent, table_2, table_8
from miras.card.section import environment, section
from miras.card.statistics import NOT_STATED, DataStatistics
from miras.config import Section
from miras.generate.config import GenerateConfig
from miras.quality.config import CheckConfig, SplitConfig
from miras.quality.glossary import KIND_TEXTS, WORDS

if TYPE_CHECKING:
    from miras.card.figures import Drawn

# Hugging Face's size categories: each reaches up to its number.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
# What is told of the settings: neither folders of this machine nor names of people's groups belong into a card.
_PRIVATE = {"folder", "groups", "sam", "recorded", "ledger", "word_list"}
_LONGEST_ALT = 900


@dataclass(frozen=True)
class CardFacts:
    """All that the card is written from."""

    card: CardConfig
    found: DataStatistics
    figures: Sequence[Drawn]
    num_examples: int
    generate: GenerateConfig
    annotate: AnnotateConfig
    check: CheckConfig
    split: SplitConfig
    version: str


def render_gallery(name: str, figures: str, examples: Sequence[ShownDialogue]) -> str:
    """The gallery page: opens offline.

    Args:
        name: of the data set.
        figures: one line of its numbers.
        examples: at least one.
    """
    values = {"name": name, "number": len(examples), "section": section(figures, examples)}
    return environment().get_template("gallery.html.j2").render(values)


def render_card(facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter."""
    found = facts.found
    sections: list[tuple[str, Section]] = [
        ("generate", facts.generate),
        ("annotate", facts.annotate),
        ("check", facts.check),
        ("split", facts.split),
    ]
    context = {
        "front_matter": front_matter(facts),
        "card": facts.card,
        "found": found,
        "whole": found.whole,
        "kinds": found.along("kind"),
        "splits": found.along("split"),
        "sources": found.along("source"),
        "kind_texts": KIND_TEXTS,
        "words": WORDS,
        "teacher": _teacher(facts.generate),
        "people": _people(facts.annotate),
        "agreement_rows": [("all", found.agreement.get("all", {})), *found.agreement.get("groups", {}).items()],
        "settings": [(name, settings_rows(section)) for name, section in sections],
        "size_shares": size_shares_percent,
        "figures": facts.figures,
        "num_examples": facts.num_examples,
        "table_2": table_2(found),
        "table_8": table_8(found, name=facts.card.name),
        "limits": limits(facts),
        "version": facts.version,
    }
    markdown = environment().overlay(autoescape=False)
    markdown.filters |= {"cell": _cell, "sign": {"+": "✓", "-": "–", "": ""}.__getitem__, "alt": _alt}
    return markdown.get_template("README.md.j2").render(context)


def front_matter(facts: CardFacts) -> str:
    """The card's metadata as YAML, by Hugging Face's names."""
    whole = facts.found.whole
    tasks = ["image-segmentation"] if whole.masks.area_px.count else []
    if "vqa" in whole.kinds or whole.turns > whole.turns_with_target:
        tasks.append("visual-question-answering")
    if "caption" in whole.kinds:
        tasks.append("image-to-text")
    values = {
        "pretty_name": facts.card.name,
        "license": facts.card.licence,
        "language": list(facts.card.languages),
        "size_categories": [size_category(whole.dialogues)],
        "task_categories": tasks,
        "tags": ["reasoning-segmentation", "multi-turn-dialogue", "referring-segmentation"],
    }
    written = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(values, written)
    return written.getvalue()


def size_category(count: int) -> str:
    """Hugging Face's word for this many rows."""
    return next((name for limit, name in _SIZES if count < limit), "n>100M")


def settings_rows(section: Section) -> list[dict[str, str]]:
    """Name, value and meaning of each setting that may be told."""
    rows = []
    for name, field in type(section).model_fields.items():
        if name in _PRIVATE:
            continue
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            value = value.model_dump(exclude=_PRIVATE)
        rows.append({"name": name, "value": json.dumps(value), "meaning": field.description or ""})
    return rows


def limits(facts: CardFacts) -> list[str]:
    """What a user of the data should know before using it, as far as the numbers tell."""
    found, whole = facts.found, facts.found.whole
    known = []
    if facts.generate.teacher == "annotated":
        known.append(
            "Most texts are written from annotations by rules: their wording is more uniform than people's, and they "
            "say nothing that the annotations do not hold."
        )
    else:
        known.append(
            "The PRIST dialogues are written by a language model that sees the picture: they may hold its mistakes "
            "and its view of the world."
        )
    if facts.annotate.mode == "off":
        known.append("No person has read these dialogues or drawn masks for them; they passed automatic checks only.")
    if whole.targets_without_mask:
        known.append(
            f"{whole.targets_without_mask:,} of {whole.targets:,} targets have no mask: their source has texts only."
        )
    if unstated := found.licences.get(NOT_STATED):
        known.append(
            f"The sources state no licence for {unstated:,} of {whole.pictures:,} pictures: find out before you pass "
            "them on."
        )
    silent = found.pictures_ingested - whole.pictures
    if silent > 0:
        known.append(f"{silent:,} of {found.pictures_ingested:,} pictures that were read have no dialogue.")
    prist = found.part("kind", "prist")
    if prist is None:
        known.append("There are no PRIST dialogues: nothing here leads to a mask over several turns of reasoning.")
    known.append(
        "Pictures that look nearly the same are in one split, as far as they are copies in another size, light or "
        "compression; crops, mirrored and turned copies are not recognised."
    )
    return known


def _teacher(generate: GenerateConfig) -> str:
    if generate.model is None:
        return (
            "All dialogues were written from the pictures' annotations (regions, their parts, attributes and "
            "relations) by the rules of miras, without a language model; dialogues that a source came with were kept."
        )
    model = generate.model
    temperature = "the server's own temperature" if model.temperature is None else f"temperature {model.temperature:g}"
    return (
        f"The PRIST dialogues were written by the language model `{model.model}` ({temperature}) in three steps: what "
        "is to be seen, a hard question for each chosen thing with a tree of smaller ones, and a dialogue along each "
        "path of the tree. All other dialogues were written from the annotations by the rules of miras; dialogues that "
        "a source came with were kept."
    )


def _people(annotate: AnnotateConfig) -> str:
    if annotate.mode == "off":
        return "No people took part: masks are the sources' own, dialogues are as written."
    return "People were asked to draw masks; no sample was drawn by two groups, so that no agreement is known."


def _cell(text: str) -> str:
    """The text in one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _alt(text: str) -> str:
    """The text between the brackets of a Markdown picture."""
    plain = " ".join(text.split()).replace("[", "(").replace("]", ")")
    return plain if len(plain) <= _LONGEST_ALT else plain[: _LONGEST_ALT - 1] + "…"
