"""Picture files: what is accepted, what is refused and why, how they are named and found."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miras.errors import DataError
from miras.sources.pictures import ImageIds, find_picture, load_picture, open_picture, upright_picture

LIMIT = {"max_megapixels": 1}


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def two_halves() -> Image.Image:
    """4 x 2 px: left half red, right half blue."""
    image = Image.new("RGB", (4, 2), "red")
    image.paste("blue", (2, 0, 4, 2))
    return image


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_upright_rgb_file_is_stored_with_its_own_bytes(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", two_halves())
    loaded = load_picture(path, **LIMIT)
    assert (loaded.content, loaded.suffix) == (path.read_bytes(), suffix)


def test_the_stored_suffix_follows_the_content(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", two_halves(), format="PNG")
    assert load_picture(path, **LIMIT).suffix == ".png"


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: left becomes top
    loaded = load_picture(save(tmp_path / "a.png", two_halves(), exif=exif), **LIMIT)
    assert loaded.pixels.size == (2, 4)
    assert loaded.pixels.getpixel((0, 0)) == (255, 0, 0)
    assert loaded.pixels.getpixel((0, 3)) == (0, 0, 255)
    stored = Image.open(io.BytesIO(loaded.content))
    assert stored.size == (2, 4)
    assert stored.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(("mode", "grey"), [("L", 100), ("1", 255), ("CMYK", None), ("P", None), ("LA", 100)])
def test_other_modes_become_rgb(tmp_path: Path, mode: str, grey: int | None) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    picture = open_picture(save(tmp_path / f"a{suffix}", two_halves().convert(mode)), **LIMIT)
    assert (picture.mode, picture.size) == ("RGB", (4, 2))


def test_sixteen_bit_samples_keep_their_upper_byte(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16))
    pixels = np.asarray(open_picture(save(tmp_path / "a.png", image), **LIMIT))
    assert pixels[0, :, 0].tolist() == [0, 1, 255]


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (1, 1), (10, 20, 30, 0))
    assert open_picture(save(tmp_path / "a.png", image), **LIMIT).getpixel((0, 0)) == (255, 255, 255)


def test_a_one_pixel_picture_loads(tmp_path: Path) -> None:
    assert open_picture(save(tmp_path / "a.png", Image.new("RGB", (1, 1))), **LIMIT).size == (1, 1)


def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("1", (1001, 1000)))
    damaged = path.read_bytes()[:60]  # the header alone: decoding it would fail otherwise
    with pytest.raises(DataError, match="more than 1 megapixels"):
        upright_picture(damaged, where="a.png", **LIMIT)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"<html>404</html>", "not a picture"), (None, "no such file")],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "a b.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        open_picture(path, **LIMIT)
    assert reason in str(caught.value)


def test_a_cut_off_picture_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="damaged or cut off"):
        open_picture(path, **LIMIT)


def test_a_plain_stem_is_the_image_id() -> None:
    assert ImageIds().allot("photos/IMG_0001.jpeg") == "IMG_0001"


def test_names_that_meet_get_different_ids() -> None:
    ids = ImageIds()
    given = [ids.allot(name) for name in ("a/1.jpg", "b/1.jpg", "b/1.jpg", "c/1.png", "A.jpg", "a.jpg")]
    assert len({image_id.lower() for image_id in given}) == len(given)


HOSTILE_NAMES = (
    *("name with spaces (1).jpg", "it's.jpg", "../../etc/passwd", "..", ".hidden.jpg", "été.jpg", "写真.jpg"),
    *("a\nb.jpg", "-rf.jpg", "x" * 400 + ".jpg", "C:\\pictures\\one.jpg", "\udce9.jpg", '"[]{}".png'),
)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_give_safe_stable_ids(name: str) -> None:
    image_id = ImageIds().allot(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", image_id)
    assert ImageIds().allot(name) == image_id


def test_a_picture_is_found_with_folders_of_another_machine(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", two_halves())
    for name in ("a.png", "JPEGImages/a.png", "sub\\a.png", "C:\\me\\a.png", "/home/me/a.png", "./a.png"):
        assert find_picture(name, folders=[tmp_path], root=tmp_path) == path


def test_a_picture_beside_the_annotations_is_found_within_the_root(tmp_path: Path) -> None:
    for folder in ("labels", "images"):
        (tmp_path / folder).mkdir()
    path = save(tmp_path / "images" / "a.png", two_halves())
    assert find_picture("../images/a.png", folders=[tmp_path / "labels"], root=tmp_path) == path
    with pytest.raises(DataError, match="climbs out"):
        find_picture("../images/a.png", folders=[tmp_path / "labels"], root=tmp_path / "labels")


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "..\\secret.png"])
def test_a_name_that_climbs_out_is_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    save(tmp_path / "secret.png", two_halves())
    with pytest.raises(DataError, match="climbs out"):
        find_picture(name, folders=[tmp_path / "in"], root=tmp_path / "in")


@pytest.mark.parametrize("name", [None, 3, "", "nul\0.jpg", "x" * 5000, "a.png", "\ud800.jpg"])
def test_a_name_without_a_file_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(DataError):
        find_picture(name, folders=[tmp_path], root=tmp_path)
