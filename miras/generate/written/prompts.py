"""The prompts: templates in the folder `prompts`, one per step, with the blocks `system` and `text`."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from miras.generate.written.records import Step


class PromptTexts(NamedTuple):
    """The two messages of a request."""

    system: str
    text: str


def render(step: Step, **values: Any) -> PromptTexts:
    """The prompt of a step; the same values give the same bytes, which the response cache relies on.

    Raises:
        jinja2.UndefinedError: a value that the template needs is missing.
    """
    template = _environment().get_template(f"{step}.md.j2")
    parts = {name: "".join(block(template.new_context(values))) for name, block in template.blocks.items()}
    return PromptTexts(system=parts["system"].strip(), text=parts["text"].strip())


@cache
def _environment() -> Environment:
    """Templates of this package; text for a language model needs no HTML escapes."""
    return Environment(
        loader=PackageLoader("miras.generate.written", "prompts"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
