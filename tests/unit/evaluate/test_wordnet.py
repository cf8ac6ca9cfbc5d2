from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import nltk
import pytest
from nltk.translate.meteor_score import single_meteor_score

from miras.errors import DataError
from miras.evaluate import wordnet
from miras.evaluate.wordnet import open_wordnet

LICENCE = "  1 WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved.  \n"
SYNSET = "%08d 06 n 02 car 0 auto 0 000 | a motor vehicle with four wheels  \n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder beside which nothing is searched."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "nltk_data")])
    monkeypatch.setattr(wordnet, "DEBIAN_FOLDER", str(tmp_path / "debian"))
    open_wordnet.cache_clear()
    yield tmp_path
    open_wordnet.cache_clear()


def write_database(folder: Path) -> None:
    """The files of Debian's package, with one noun of two names."""
    folder.mkdir(parents=True)
    for kind in ("adj", "adv", "noun", "verb"):
        (folder / f"data.{kind}").write_text(LICENCE)
        (folder / f"index.{kind}").write_text(LICENCE)
        (folder / f"{kind}.exc").write_text("")
    offset = len(LICENCE)
    (folder / "data.noun").write_text(LICENCE + SYNSET % offset)
    (folder / "index.noun").write_text(
        LICENCE + "".join(f"{word} n 1 0 1 0 {offset:08d}  \n" for word in ("auto", "car"))
    )


def score(answer: str, reference: str) -> float:
    return float(single_meteor_score(reference.split(), answer.split(), wordnet=open_wordnet().reader))


def test_synonyms_are_found_in_debians_files(places: Path) -> None:
    write_database(places / "debian")
    found = open_wordnet()
    assert found.name == "3.0 (Debian)"
    assert [lemma.name() for lemma in found.reader.synsets("cars")[0].lemmas()] == ["car", "auto"]
    # METEOR of 2 matches in one chunk: (1 - 0.5 (1/2)^3) F, F = 1
    assert score("red auto", "red car") == pytest.approx(1 - 0.5 / 8)
    assert score("red boat", "red car") == pytest.approx((1 - 0.5) * 0.5)


@pytest.mark.parametrize("is_archive", [False, True])
def test_nltk_data_comes_first_unpacked_or_as_downloaded(places: Path, is_archive: bool) -> None:
    corpora = places / "nltk_data" / "corpora"
    write_database(corpora / "wordnet")
    if is_archive:
        shutil.make_archive(str(corpora / "wordnet"), "zip", corpora, "wordnet")
        shutil.rmtree(corpora / "wordnet")
    assert open_wordnet().name == "3.0 (nltk)"
    assert score("red auto", "red car") > 0.9


def test_without_wordnet_the_error_says_how_to_install_it(places: Path) -> None:
    with pytest.raises(DataError, match=r"neither in nltk's data nor in .*debian: install it with `apt-get install"):
        open_wordnet()
    write_database(places / "debian")
    open_wordnet()  # the failure is not remembered


@pytest.mark.parametrize("name", ["index.noun", "data.adj", "verb.exc"])
def test_an_incomplete_wordnet_is_an_error_that_names_it(places: Path, name: str) -> None:
    write_database(places / "debian")
    (places / "debian" / name).unlink()
    with pytest.raises(DataError, match=rf"debian is damaged \(.*{name}"):
        open_wordnet()


def test_a_damaged_index_is_an_error(places: Path) -> None:
    write_database(places / "debian")
    (places / "debian" / "index.noun").write_text("car n 1 0 1 0 none\n")
    with pytest.raises(DataError, match=r"damaged \(WordNetError: .*index.noun, line 1"):
        open_wordnet()


def test_a_cut_off_index_is_an_error(places: Path) -> None:
    write_database(places / "debian")
    (places / "debian" / "index.noun").write_text("car n 1\n")
    with pytest.raises(DataError, match="is damaged"):
        open_wordnet()


def test_a_damaged_archive_is_an_error_not_a_traceback(places: Path) -> None:
    corpora = places / "nltk_data" / "corpora"
    corpora.mkdir(parents=True)
    (corpora / "wordnet.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"corpora/wordnet is damaged \(BadZipFile"):
        open_wordnet()
