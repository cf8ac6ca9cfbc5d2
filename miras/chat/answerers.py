"""The models that answer on the page, and what the page says about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miras.errors import ConfigError
from miras.pretrained import DESCRIPTION, ExportDescription, Miras, read_description
from miras.registry_address import PREFIX, fetch

MAX_MODELS = 2  # side by side on one page
SHORT_HASH = 12
UNKNOWN = "unknown"  # what an export does not say of itself


@dataclass(frozen=True)
class Answerer:
    """A model that is open."""

    name: str
    """What the page calls it: the registry's address, or the last part of the directory's."""
    notice: dict[str, str]
    """What the page says about it: name of a fact -> the fact."""
    model: Miras
    can_refer: bool
    """Whether a question may speak of masks."""


def open_answerers(addresses: Sequence[str], *, device: str) -> list[Answerer]:
    """The models at these directories or registry addresses.

    Raises:
        ConfigError: none or too many of them, or an address that is none.
        DataError: a directory holds no sound export.
        ServiceUnavailableError: the registry does not answer.
    """
    if not 1 <= len(addresses) <= MAX_MODELS:
        raise ConfigError(f"model: {len(addresses)} given; the page shows one, or {MAX_MODELS} side by side.")
    return [_open(address, device=device) for address in addresses]


def _open(address: str, *, device: str) -> Answerer:
    folder = fetch(address, holds=DESCRIPTION) if address.startswith(PREFIX) else Path(address)
    model = Miras.from_pretrained(folder, device=device)
    model.name = address
    description = read_description(folder)
    name = address if address.startswith(PREFIX) else folder.resolve().name
    return Answerer(name, _notice(address, folder, description), model, description.network.mask_memory != "off")


def _notice(address: str, folder: Path, description: ExportDescription) -> dict[str, str]:
    """What can be said of a model in a few lines; a registered one has a version, the last number of its folder."""
    source = description.source
    weights, lineage = _mapping(source, "weights"), _mapping(source, "lineage")
    version = next((part for part in reversed(folder.parts) if part.isdecimal()), "")
    facts: dict[str, Any] = {
        "model": address,
        "version": version if address.startswith(PREFIX) else "",
        "weights": next(iter(weights.values()), UNKNOWN),
        "data": source.get("data") or lineage.get("data") or UNKNOWN,
        "commit": lineage.get("commit") or UNKNOWN,
        "backbones": source.get("backbones_fingerprint") or UNKNOWN,
        "mask memory": description.network.mask_memory,
        "miras": description.versions.get("miras", ""),
    }
    return {name: _short(str(value)) for name, value in facts.items() if value}


def _mapping(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of what an export says of its origin; exports of other versions may say it otherwise or not at all."""
    found = source.get(name)
    return found if isinstance(found, Mapping) else {}


def _short(text: str) -> str:
    is_hash = len(text) >= 40 and set(text) <= set("0123456789abcdef")
    return text[:SHORT_HASH] if is_hash else text
