"""Section `card` of params.yaml."""

from __future__ import annotations

from pydantic import Field

from miras.config import Section


class CardConfig(Section):
    """How the data set is called and what its card shows."""

    name: str = Field(min_length=1)
    """Name of the data set, for people."""
    licence: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    """Of the texts and masks, as Hugging Face spells it ("cc-by-4.0"); "other" where none of its names fits, "unknown"
    where none was chosen. The pictures keep their own, which the card lists."""
    languages: list[str] = Field(min_length=1)
    """Of the dialogues, as ISO 639-1 codes."""
    contact: str = ""
    """Whom to ask, or where; "" leaves the line out."""
    num_examples: int = Field(ge=0)
    """Random dialogues in the gallery."""
    num_cloud_words: int = Field(ge=1)
    """Most frequent words of the foci in the word cloud (200 in the PRIST paper)."""
    seed: int
    """Another seed draws other examples and lays the word cloud out anew."""
