"""The tables that can be reproduced: one YAML file each in `tables/`."""

from __future__ import annotations

import difflib
from importlib.resources import as_file, files
from pathlib import Path

from miras.config import parse_sections, read_yaml
from miras.errors import ConfigError
from miras.reproduce.records import PaperTable


def names() -> list[str]:
    """Every table, by paper and number."""
    found = (file.name for file in (files("miras.reproduce") / "tables").iterdir())
    return sorted((name.removesuffix(".yaml") for name in found if name.endswith(".yaml")), key=_by_number)


def read(name: str) -> PaperTable:
    """A table by its name, such as "miras-6".

    Raises:
        ConfigError: there is no such table (the message names the nearest), or its file has mistakes.
    """
    if name not in names():
        nearest = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise ConfigError(f"There is no table {name!r}; {hint}known: {', '.join(names())}.")
    with as_file(files("miras.reproduce") / "tables" / f"{name}.yaml") as file:
        return read_file(file)


def read_file(file: Path) -> PaperTable:
    """A table from a file.

    Raises:
        ConfigError: the file has mistakes.
    """
    table: PaperTable = parse_sections({"table": read_yaml(file)}, {"table": PaperTable}, source=str(file))["table"]
    return table


def _by_number(name: str) -> tuple[str, int]:
    paper, _, number = name.rpartition("-")
    return paper, int(number)
