"""A picture as part of a request."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from miras.errors import DataError

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


@dataclass(frozen=True)
class PictureFacts:
    """What a request has to know about a picture without holding it."""

    sha256: str
    media_type: str
    width: int
    height: int


def picture_facts(path: Path) -> PictureFacts:
    """Hash, kind and size in pixels of a picture file; read once while the file does not change.

    Raises:
        DataError: it is missing, or no picture that servers take.
    """
    try:
        status = path.stat()
        return _facts(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DataError(f"{path}: the picture cannot be read: {error.strerror or error}. Put it back.") from None


@lru_cache(maxsize=4096)  # a few prompts in a row are about the same picture
def _facts(path: Path, changed_ns: int, size: int) -> PictureFacts:
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=list(MEDIA_TYPES)) as picture:
            kind, width, height = picture.format, picture.width, picture.height
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ValueError, SyntaxError):
        expected = ", ".join(MEDIA_TYPES)
        raise DataError(f"{path}: not a picture that servers take ({expected}). Save it as one of these.") from None
    assert kind is not None
    return PictureFacts(hashlib.sha256(content).hexdigest(), MEDIA_TYPES[kind], width, height)


def data_url(path: Path, facts: PictureFacts) -> str:
    """The whole file as an address that holds it in base64.

    Raises:
        DataError: it is gone, or another one than the facts are about: its answer would be kept for the wrong picture.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the picture cannot be read: {error.strerror or error}. Put it back.") from None
    if hashlib.sha256(content).hexdigest() != facts.sha256:
        raise DataError(f"{path}: the picture was replaced while it was asked about. Run the same command again.")
    return f"data:{facts.media_type};base64,{base64.b64encode(content).decode('ascii')}"
