"""Near-duplicate pictures: copies are found, others are not, and grouping agrees with comparing all pairs."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from miras.errors import DataError
from miras.quality.picture_looks import Look, LookCache, look_of, near_duplicate_groups


def picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(values).resize((160, 120), Image.Resampling.BICUBIC)


def look(image: Image.Image, folder: Path, *, suffix: str = "png", quality: int = 90) -> Look:
    file = folder / f"picture.{suffix}"
    image.save(file, quality=quality)
    return look_of(file)


def test_copies_are_grouped_and_other_pictures_are_not(tmp_path: Path) -> None:
    looks = []
    for seed in range(12):
        original = picture(seed)
        looks += [
            look(original, tmp_path),
            look(original, tmp_path, suffix="jpg", quality=40),
            look(original.resize((71, 53)), tmp_path),
            look(ImageEnhance.Brightness(original).enhance(1.1), tmp_path),
        ]
    assert near_duplicate_groups(looks, bits=7) == [4 * (place // 4) for place in range(48)]


def test_plain_pictures_of_other_tones_are_not_the_same(tmp_path: Path) -> None:
    looks = [look(Image.new("RGB", (40, 30), (tone,) * 3), tmp_path) for tone in (10, 10, 128, 240)]
    assert near_duplicate_groups(looks, bits=7) == [0, 0, 2, 3]


@pytest.mark.parametrize("bits", [0, 3, 7, 12])
def test_bands_find_what_comparing_all_pairs_finds(bits: int) -> None:
    dice = random.Random(bits)
    base = [dice.getrandbits(64) for _ in range(20)]
    flipped = [value ^ sum(1 << place for place in dice.sample(range(64), dice.randint(0, 14))) for value in base * 8]
    looks = [Look(value, bytes(range(256))) for value in flipped]
    expected = list(range(len(looks)))
    for one in range(len(looks)):
        for other in range(one):
            if (flipped[one] ^ flipped[other]).bit_count() <= bits:
                low, high = sorted((expected[one], expected[other]))
                expected = [low if group == high else group for group in expected]
    assert near_duplicate_groups(looks, bits=bits) == expected


def test_no_pictures_have_no_groups() -> None:
    assert near_duplicate_groups([], bits=7) == []


def test_twenty_thousand_pictures_are_grouped_in_seconds() -> None:
    dice = np.random.default_rng(0)
    thumbnails = dice.integers(0, 255, (20_000, 256), np.uint8)
    looks = [
        Look(value, thumbnail.tobytes())
        for value, thumbnail in zip(dice.integers(0, 2**63, 20_000).tolist(), thumbnails, strict=True)
    ]
    started = time.process_time()
    near_duplicate_groups(looks, bits=7)
    assert time.process_time() - started < 10


def test_a_cache_reads_only_what_is_new(tmp_path: Path) -> None:
    files = []
    for seed in range(3):
        picture(seed).save(tmp_path / f"{seed}.png")
        files.append((f"hash{seed}", tmp_path / f"{seed}.png"))
    first = list(LookCache(tmp_path / "looks.tsv").looks(files[:2]))
    for _, file in files[:2]:
        file.unlink()
    assert list(LookCache(tmp_path / "looks.tsv").looks(files))[:2] == first


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        look_of(tmp_path / "a.png")
