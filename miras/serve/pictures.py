"""Pictures inside requests. The server opens no files and no addresses."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from miras.errors import DataError
from miras.serve.refusals import RefusedError
from miras.sources.pictures import FORMATS, upright_picture

_DATA_ADDRESS = re.compile(r"data:[\w.+/;=-]{0,100};base64,", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class SentPicture:
    """A decoded picture."""

    pixels: Image.Image
    """Upright RGB."""
    name: str
    """Hash of the file's bytes."""


def bytes_of(address: str, *, where: str) -> bytes:
    """The file inside a `data:` address.

    Raises:
        RefusedError: any other address, a path, or damaged base64.
    """
    found = _DATA_ADDRESS.match(address)
    if found is None:
        raise RefusedError(
            "cannot_be_taken",
            f"{where}: this server opens no files and no addresses. Send the picture itself: data:image/png;base64,...",
            where=where,
        )
    try:
        return base64.b64decode(address[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        message = f"{where}: what follows `base64,` is not base64, or is cut off."
        raise RefusedError("cannot_be_taken", message, where=where) from None


def decoded(content: bytes, *, where: str, max_megapixels: int) -> SentPicture:
    """The picture in a file's bytes.

    Raises:
        RefusedError: not a picture, damaged, or too many pixels (known from its header).
    """
    try:
        if _pixels(content) > max_megapixels * 1_000_000:
            message = f"{where}: the picture has more than {max_megapixels} megapixels. Scale it down."
            raise RefusedError("too_large", message, where=where)
        pixels = upright_picture(content, where=where, max_megapixels=max_megapixels).pixels
    except DataError as error:
        raise RefusedError("cannot_be_taken", str(error), where=where) from None
    return SentPicture(pixels, hashlib.sha256(content).hexdigest())


def _pixels(content: bytes) -> int:
    """Of the header; 0 where it cannot be read, which decoding will say better."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                return opened.width * opened.height
        except Image.DecompressionBombError:
            return 10**12
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError):
            return 0
