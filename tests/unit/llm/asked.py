"""Prompts and settings that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.records import Prompt


class Colour(BaseModel):
    """The answer."""

    model_config = ConfigDict(extra="forbid")

    name: str
    share: float = 0.5


GOOD = '{"name": "red", "share": 0.25}'


def prompt(
    number: int = 0, *, picture: Path | None = None, check: Callable[[Any], None] | None = None, text: str = ""
) -> Prompt:
    asked = text or f"question {number}"
    return Prompt("test/colour", f"image-{number}", "Name colours.", asked, Colour, picture=picture, check=check)


def model(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "test-model",
        "temperature": 0.0,
        "seed": 1,
        "max_answer_tokens": 50,
        "max_repairs": 2,
        "schema_support": "json_schema",
    }
    return ModelConfig(**(values | changes))


def service(url: str, **changes: Any) -> ServiceConfig:
    values: dict[str, Any] = {"base_url": url, "api_key_variable": "", "concurrency": 8, "timeout_s": 10.0}
    return ServiceConfig(**(values | changes))
