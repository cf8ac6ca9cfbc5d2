"""Reading an answer out of what a model wrote, and saying what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ValidationError

from miras.llm.records import PlainText, Prompt

MAX_PROBLEMS = 8  # named to the model at once
_FENCED = re.compile(r"```[A-Za-z]*[ \t]*\r?\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Faulty:
    """What keeps a text from being an answer."""

    reason: Literal["malformed", "off_schema", "wrong"]
    message: str
    """For the model, and for the quarantine."""


def read_answer(prompt: Prompt, text: str) -> BaseModel | Faulty:
    """The answer in a text, or what is wrong with it.

    Only what cannot change the meaning is mended: a fence or sentences around one JSON object, and the thoughts that
    some models write first. A part of a broken object is never taken for the whole.
    """
    if prompt.answer is PlainText:
        return _plain_text(prompt, text)
    found: Faulty | None = None
    for candidate in _candidates(text):
        value = _parse(prompt, candidate)
        if not isinstance(value, Faulty):
            return value
        if found is None or (found.reason == "malformed" and value.reason != "malformed"):
            found = value
    assert found is not None
    return found


def _candidates(text: str) -> list[str]:
    """Texts that may be the one JSON object, the surest first."""
    said = text.rpartition("</think>")[2].strip().removeprefix("\ufeff")
    found = [said]
    fenced = _FENCED.findall(said)
    if len(fenced) == 1:
        found.append(fenced[0].strip())
    first, last = said.find("{"), said.rfind("}")
    if 0 <= first < last:
        found.append(said[first : last + 1])
    return list(dict.fromkeys(found))


def _plain_text(prompt: Prompt, text: str) -> BaseModel | Faulty:
    said = text.rpartition("</think>")[2].strip()
    return _checked(prompt, PlainText(text=said)) if said else Faulty("malformed", "it is empty.")


def _parse(prompt: Prompt, text: str) -> BaseModel | Faulty:
    try:
        value = prompt.answer.model_validate_json(text)
    except ValidationError as error:
        return _explain(error)
    return _checked(prompt, value)


def _checked(prompt: Prompt, value: BaseModel) -> BaseModel | Faulty:
    if prompt.check is not None:
        try:
            prompt.check(value)
        except ValueError as error:
            return Faulty("wrong", str(error))
    return value


def _explain(error: ValidationError) -> Faulty:
    problems = error.errors(include_url=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        return Faulty("malformed", f"it is not valid JSON ({problems[0]['msg']}).")
    named = []
    for problem in problems[:MAX_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"]) or "the object"
        named.append(f"{where}: {problem['msg']}")
    more = len(problems) - len(named)
    return Faulty("off_schema", "; ".join(named) + (f"; and {more} more." if more else "."))
