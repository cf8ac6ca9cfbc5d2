"""Picture files of users: found without leaving their folders, decoded with care, turned upright and RGB.

Does not read annotations; `coco` and `labelme` do.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from miras.dialogue.records import Region
from miras.errors import DataError
from miras.sources.records import SourcePicture

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
SUFFIX_OF_STORED_FORMAT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}  # MPO: a JPEG with further frames
ORIENTATION_TAG = 0x0112  # EXIF; 1 means upright
MAX_NAME_BYTES = 255  # of one file name on Linux; longer paths in annotations are not known to occur
MAX_STEM_CHARACTERS = 80  # assumed: leaves room for suffixes in every file system

# What Pillow raises on damaged files: nothing else came in 24 000 altered JPEG, PNG, GIF, TIFF, BMP and WebP.
_DECODING_FAILS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


@dataclass(frozen=True)
class UprightPicture:
    """A decoded picture with the bytes to store for it."""

    pixels: Image.Image
    """Upright, mode RGB."""
    content: bytes
    """The file's own bytes where they are upright RGB in JPEG or PNG, else a PNG of `pixels`."""
    suffix: str
    """.jpg or .png, by what `content` is, whatever the file was called."""
    is_turned: bool
    """Whether an EXIF orientation was applied, so that the file's own axes differ from those of `pixels`."""


@dataclass(frozen=True, kw_only=True)
class FilePicture(SourcePicture):
    """A source picture that comes from a file, with the bytes to store."""

    content: bytes
    suffix: str

    @classmethod
    def of(
        cls,
        picture: UprightPicture,
        *,
        image_id: str,
        origin: str,
        regions: Sequence[Region],
        licence: str = "",
        absent: Sequence[str] = (),
    ) -> FilePicture:
        """A decoded file with what is known about it."""
        return cls(
            image_id=image_id,
            pixels=picture.pixels,
            origin=origin,
            regions=tuple(regions),
            licence=licence,
            absent=tuple(absent),
            content=picture.content,
            suffix=picture.suffix,
        )


def open_picture(path: Path, *, max_megapixels: int) -> Image.Image:
    """The picture in a file, upright, mode RGB.

    Raises:
        DataError: the file is missing, empty, no picture, damaged or too large.
    """
    return load_picture(path, max_megapixels=max_megapixels).pixels


def load_picture(path: Path, *, max_megapixels: int) -> UprightPicture:
    """As `open_picture`, with the bytes to store."""
    return upright_picture(read_content(path), where=printable(path), max_megapixels=max_megapixels)


def read_content(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        DataError: there is no such file, or it may not be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{printable(path)}: no such file. Put the picture there or drop its record.") from None
    except PermissionError:
        raise DataError(f"{printable(path)}: may not be read. Give yourself read permission.") from None


def upright_picture(content: bytes, *, where: str, max_megapixels: int) -> UprightPicture:
    """A picture from the bytes of a file: upright by its EXIF orientation, RGB.

    Transparent pixels show white, as a viewer shows them; 16-bit samples keep their upper byte; of several
    frames the first is taken.

    Args:
        where: the file's name, for messages.

    Raises:
        DataError: as `decode_image`, or the samples are not 8-bit or 16-bit numbers.
    """
    image = decode_image(content, where=where, max_megapixels=max_megapixels)
    try:
        is_turned = image.getexif().get(ORIENTATION_TAG, 1) in range(2, 9)
        upright = ImageOps.exif_transpose(image)
    except _DECODING_FAILS as error:
        raise DataError(f"{where}: its EXIF data cannot be read ({error}). Save it without them.") from None
    suffix = SUFFIX_OF_STORED_FORMAT.get(image.format or "")
    if suffix and not is_turned and image.mode == "RGB" and not image.has_transparency_data:
        return UprightPicture(pixels=upright, content=content, suffix=suffix, is_turned=False)
    pixels = to_rgb(upright, where=where)
    return UprightPicture(pixels=pixels, content=encode_png(pixels), suffix=".png", is_turned=is_turned)


def decode_image(content: bytes, *, where: str, max_megapixels: int) -> Image.Image:
    """The image in these bytes, decoded fully but otherwise as stored (its mode, its axes).

    Raises:
        DataError: no bytes, not a picture, more than `max_megapixels` (found in the header, before
            decoding), or damaged.
    """
    if not content:
        raise DataError(f"{where}: the file is empty (0 bytes). Copy the picture again or drop its record.")
    too_large = DataError(
        f"{where}: more than {max_megapixels} megapixels, refused before decoding. Scale it down, or raise "
        "ingest.max_megapixels if it is what it claims to be."
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > max_megapixels * 1_000_000:
            raise too_large
        image.load()
    except Image.DecompressionBombError:
        raise too_large from None
    except UnidentifiedImageError:
        raise DataError(
            f"{where}: not a picture; it begins with {content[:16]!r}. Expected one of {', '.join(FORMATS)}."
        ) from None
    except _DECODING_FAILS as error:
        raise DataError(f"{where}: damaged or cut off ({error}). Copy the picture again.") from None
    return image


def encode_png(pixels: Image.Image) -> bytes:
    """A PNG file of the picture."""
    buffer = io.BytesIO()
    pixels.save(buffer, format="PNG")
    return buffer.getvalue()


def to_rgb(image: Image.Image, *, where: str) -> Image.Image:
    if image.mode == "F":
        raise DataError(f"{where}: samples are fractions (mode F). Save it with 8 bits per channel.")
    if image.mode.startswith("I"):
        sixteen_bit = np.asarray(image).clip(0, 65535).astype(np.uint16)
        image = Image.fromarray((sixteen_bit >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    try:
        return image.convert("RGB")
    except ValueError:
        raise DataError(f"{where}: colours in {image.mode} cannot become RGB. Save it as RGB.") from None


class ImageIds:
    """Gives each picture an id of [A-Za-z0-9._-]: its file stem, with a short hash where that needs it."""

    def __init__(self) -> None:
        self._taken: set[str] = set()  # in lower case: some file systems do not tell cases apart

    def allot(self, origin: str) -> str:
        """An id for the picture with this file name; the same names in the same order give the same ids."""
        stem = PureWindowsPath(origin).stem
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:MAX_STEM_CHARACTERS]
        hashed = f"{safe or 'picture'}-{hashlib.sha256(printable(origin).encode()).hexdigest()[:8]}"
        plain = [safe] if safe == stem else []
        numbered = (f"{hashed}-{number}" for number in itertools.count(2))
        candidates = itertools.chain(plain, [hashed], numbered)
        image_id = next(candidate for candidate in candidates if candidate.lower() not in self._taken)
        self._taken.add(image_id.lower())
        return image_id


def find_picture(name: object, *, folders: Sequence[Path], root: Path) -> Path:
    """The file an annotation names.

    The name is tried in each folder as it stands, then its last part alone, since annotations carry folders
    of the machine they were made on. Windows separators are understood.

    Args:
        folders: where to look, in this order.
        root: the folder of the annotations; nothing outside it and `folders` is ever looked at.

    Raises:
        DataError: no text, a name that climbs out, or no such file.
    """
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"expected the name of a picture file, found {name!r}")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise DataError(f"the picture's name has {len(name)} characters, too many for a file")
    windows_path = PureWindowsPath(name)
    relative = windows_path.name if windows_path.anchor else windows_path.as_posix()
    roots = [root, *folders]
    below = _below(relative, folders=folders, roots=roots)
    by_last_part = [folder / windows_path.name for folder in folders] if below else []
    for path in [*_below(name, folders=folders, roots=roots), *below, *by_last_part]:
        if path.is_file():
            return path
    if not below:
        raise DataError(
            f"the picture name {name!r} climbs out of its folder and is not followed. Name a file below "
            f"{root}, or set `pictures` of the source to the folder of the pictures"
        )
    looked_in = ", ".join(str(folder) for folder in folders)
    raise DataError(
        f"there is no picture {name!r} in {looked_in}. Put it there, or set `pictures` of the source to its folder"
    )


def picture_folder(name: str) -> Path | None:
    """The folder of a source's pictures; None where `name` is empty.

    Raises:
        DataError: there is no such folder.
    """
    if not name:
        return None
    folder = Path(name)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. Set `pictures` of the source (params.yaml: ingest.sources) to the folder of "
            "its pictures."
        )
    return folder


def _below(name: str, *, folders: Sequence[Path], roots: Sequence[Path]) -> list[Path]:
    """`name` within each folder, where that stays below one of `roots`."""
    allowed = [os.path.abspath(root) for root in roots]
    paths = [Path(os.path.abspath(folder / name)) for folder in folders]
    return [path for path in paths if any(path.is_relative_to(root) for root in allowed)]


def printable(text: object) -> str:
    """The text with what is no valid Unicode written out, so that it can be stored and printed."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
