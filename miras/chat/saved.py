"""Saved dialogues that a browser hands in: looked at before they are opened, since anybody may have written them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from miras.dialogue.masks import decode, encode
from miras.dialogue.records import Rle
from miras.errors import DataError
from miras.open_dialogue import SAVED_SUFFIX, OpenDialogue
from miras.pretrained import Miras
from miras.sources.pictures import decode_image


def open_saved(content: bytes, model: Miras, *, max_megapixels: int, max_turns: int) -> OpenDialogue:
    """The dialogue in a file that `OpenDialogue.save` wrote, to go on with.

    Raises:
        DataError: it is none, damaged, or too large.
    """
    _check(content, max_megapixels=max_megapixels, max_turns=max_turns)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"saved{SAVED_SUFFIX}"
        path.write_bytes(content)
        try:
            return model.load_dialogue(path)
        except DataError as error:
            raise DataError(str(error).replace(f"{path}: ", "The file: ")) from None


def _check(content: bytes, *, max_megapixels: int, max_turns: int) -> None:
    """A picture of an allowed size, and run lengths that say what each pixel of it is."""
    try:
        saved = json.loads(content)
        picture = base64.b64decode(saved["picture"], validate=True)
        num_turns = len(saved["turns"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError("The file: no saved dialogue, or damaged. Choose a file that ends in .miras.json.") from None
    if num_turns > max_turns:
        raise DataError(f"The file: {num_turns} turns; at most {max_turns} are taken.")
    size = decode_image(picture, where="The file's picture", max_megapixels=max_megapixels).size
    for place in _run_lengths(saved["turns"]):
        try:
            code = Rle.model_validate(place)
            # A code of another length decodes to whatever lay in memory.
            is_sound = code.size == size[::-1] and encode(decode(code)) == code
        except (ValidationError, ValueError):
            is_sound = False
        if not is_sound:
            raise DataError("The file: a mask in it is damaged. Save the dialogue again.")


def _run_lengths(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "counts" in value:
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _run_lengths(item)
