"""Strict, frozen configuration: the base class of every section of params.yaml and its loader.

All mistakes in a file are reported at once, each with its key, what was found and the nearest known key.
YAML is read as DVC reads it (YAML 1.2 by ruamel: `1e-4` is a number).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML, YAMLError

from miras.errors import ConfigError

PRESETS = Path("presets")
"""Whole parameter files, each of which can take the place of params.yaml."""


class Section(BaseModel):
    """One section of a parameter file: unknown keys and wrong types are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing (the message names the nearest), is not YAML, or is not a mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_what_may_be_meant(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a YAML file.") from None
    return parse_yaml(content, source=str(path))


def parse_yaml(content: bytes, *, source: str) -> dict[str, Any]:
    """The mapping in a YAML text, encoded in UTF-8; `source` is its name in messages.

    Raises:
        ConfigError: the text is not YAML, or is not a mapping.
    """
    try:
        loaded = YAML(typ="safe").load(content.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{source}: expected sections with keys, found {type(loaded).__name__}.")
    return loaded


def _what_may_be_meant(path: Path) -> str:
    """The end of the message about a missing file: a network laid over a preset is no file, else the nearest name."""
    if path.suffix != ".yaml" and "+" in path.name:
        return f": a network over a preset is none. `python -m tasks.preset {path.name}` makes both into params.yaml."
    known = {file.stem: file for folder in (PRESETS, path.parent) for file in sorted(folder.glob("*.yaml"))}
    stem = path.name.removesuffix(".yaml")
    nearest = difflib.get_close_matches(stem, list(known), n=1)
    hint = f"; did you mean {known[nearest[0]]}?" if nearest else "."
    return f"{hint} Run from the folder that holds it."


def parse_sections(values: Mapping[str, Any], sections: Mapping[str, type[Section]], *, source: str) -> dict[str, Any]:
    """Each named section, parsed; `values` must hold exactly these sections.

    Args:
        values: the content of a parameter file.
        sections: section name -> its class.
        source: file name for messages.

    Raises:
        ConfigError: with one line per mistake, over all sections.
    """
    problems = [
        f"{source}: {name}: unknown section{_did_you_mean(name, sections)}" for name in values if name not in sections
    ]
    parsed: dict[str, Any] = {}
    for name, section in sections.items():
        if name not in values:
            problems.append(f"{source}: {name}: this section is missing")
            continue
        try:
            parsed[name] = section.model_validate(values[name])
        except ValidationError as error:
            problems += [f"{source}: {_explain(name, section, item)}" for item in error.errors()]
    if problems:
        raise ConfigError("\n".join(problems))
    return parsed


def _did_you_mean(key: str, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else f"; known: {', '.join(known)}"


def _explain(name: str, section: type[Section], item: ErrorDetails) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join([name, *path])
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_did_you_mean(path[-1], _fields_at(section, path[:-1]))}"
    if item["type"] == "missing":
        return f"{where}: this key is missing"
    return f"{where}: {item['msg']} (found {item['input']!r})"


def _fields_at(section: type[BaseModel], path: list[str]) -> Mapping[str, Any]:
    """Fields of the model that `path` leads to, following nested models, mappings and unions told by a tag."""
    models = [section]
    for part in path:
        fields = {name: field for model in models for name, field in model.model_fields.items()}
        if part in fields:
            models = list(_models_in(fields[part].annotation)) or models
        else:  # the tag of one of them, else the key of a mapping
            models = [model for model in models if part in _tags(model)] or models
    return {name: field for model in models for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _tags(model: type[BaseModel]) -> list[Any]:
    """What a union would tell the model by."""
    return [tag for field in model.model_fields.values() for tag in get_args(field.annotation)]
