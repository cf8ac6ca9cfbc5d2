"""What LVIS and PACO say of the classes in a picture: which are surely not there, of which not all are outlined.

Their annotators looked at each picture for a few classes only; its record lists those that they did not find, and
those of which they did not outline every object. Nothing is known of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from miras.sources.instances import OpenPicture


def not_all_outlined(item: OpenPicture) -> list[int | str]:
    """Ids of the categories of which the picture may show more than is outlined."""
    return _listed(item, "not_exhaustive_category_ids")


def absent_names(item: OpenPicture, names: Mapping[Any, str | None]) -> tuple[str, ...]:
    """Names that nothing in the picture has.

    A category that is listed as not found may share its name with one that is annotated, or not all outlined: there
    may be no mouse (animal), yet a mouse (computer equipment).

    Args:
        item: the picture.
        names: by category id; None: left out, or not to be asked for.
    """
    annotated = [record.get("category_id") for record in item.annotations if isinstance(record, dict)]
    shown = _names_of([*annotated, *not_all_outlined(item)], names)
    not_found = _names_of(_listed(item, "neg_category_ids"), names)
    return tuple(name for name in not_found if name not in shown)


def _listed(item: OpenPicture, key: str) -> list[int | str]:
    ids = item.record.get(key)
    return [value for value in ids if isinstance(value, int | str)] if isinstance(ids, list) else []


def _names_of(ids: Collection[object], names: Mapping[Any, str | None]) -> dict[str, None]:
    """In order, each once."""
    found = (names.get(key) for key in ids if isinstance(key, int | str))
    return {name: None for name in found if name is not None}
