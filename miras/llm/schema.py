"""The JSON schema of an answer, in the forms that servers take."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from miras.llm.config import ModelConfig
from miras.llm.records import PlainText


@lru_cache(maxsize=256)
def answer_schema(answer: type[BaseModel]) -> dict[str, Any]:
    """The schema as servers with guided output want it: closed objects whose keys are all required.

    Defaults are left out, and what stands beside a `$ref` is dropped: servers refuse both. The answer is validated by
    its own class anyway.
    """
    schema = answer.model_json_schema()
    closed = _closed(schema)
    assert isinstance(closed, dict)
    return closed


def is_strict(schema: Any) -> bool:
    """Whether a server can hold an answer to it exactly; objects with free keys cannot be."""
    if isinstance(schema, list):
        return all(is_strict(value) for value in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    return all(is_strict(value) for value in schema.values())


def response_format(answer: type[BaseModel], model: ModelConfig) -> dict[str, Any] | None:
    """`response_format` of the request; None where the server knows none, and for plain text."""
    if model.schema_support == "none" or answer is PlainText:
        return None
    if model.schema_support == "json_object":
        return {"type": "json_object"}
    schema = answer_schema(answer)
    named = {"name": answer.__name__[:64], "schema": schema, "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": named}


def schema_in_words(answer: type[BaseModel]) -> str:
    """What a server without schema support is told about the form of the answer."""
    schema = json.dumps(answer_schema(answer), ensure_ascii=False)
    return f"Answer with one JSON object and nothing else. It has to fit this JSON schema:\n{schema}"


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return {"$ref": value["$ref"]}
    result: dict[str, Any] = {}
    for key, item in value.items():
        if key in ("properties", "$defs"):  # their keys are names, not words of the schema
            result[key] = {name: _closed(each) for name, each in item.items()}
        elif key != "default":
            result[key] = item if key in ("enum", "const", "examples") else _closed(item)
    if "properties" in result:
        result["required"] = list(result["properties"])
        result.setdefault("additionalProperties", False)
    elif result.get("type") == "object":
        result.setdefault("additionalProperties", True)
    return result
