"""What every reader of a data set is told besides its own paths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadLimits:
    """How much is read, and what is left out."""

    max_pictures: int
    """For the progress bar; the caller stops reading."""
    max_megapixels: int
    """A picture of more is refused before it is decoded."""
    ignore_categories: tuple[str, ...]
    """Names of classes to leave out, spelled as in the data set; not counted as rejected."""
