"""WordNet as METEOR needs it: the synonyms of an English word, from nltk's data or from Debian's package.

Debian's `wordnet-base` holds the database alone; nltk's reader wants two more files, for topics and for other
languages, which METEOR never looks at. So the reader here is nltk's own, opened without them.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import nltk
from nltk.corpus.reader.wordnet import WordNetCorpusReader, WordNetError

from miras.errors import DataError

DEBIAN_FOLDER = "/usr/share/wordnet"
NLTK_NAMES = ("corpora/wordnet", "corpora/wordnet.zip/wordnet/")  # unpacked, or the archive as it is downloaded
NUM_TOPICS = 45  # WordNet 3.0, lexnames(5)
HOW_TO_INSTALL = "install it with `apt-get install wordnet-base` or `python -m nltk.downloader wordnet`"


class EnglishReader(WordNetCorpusReader):
    """nltk's reader of a WordNet, without names of topics and without other languages."""

    def open(self, file: str) -> Any:
        """A stream of a database file."""
        if file == "lexnames":
            return io.StringIO("".join(f"{number:02}\ttopic{number:02}\t0\n" for number in range(NUM_TOPICS)))
        return super().open(file)

    def map_wn(self, version: str = "wordnet") -> None:
        """Nothing: other languages refer to synsets by the numbers of other versions, English does not."""


@dataclass(frozen=True)
class WordNet:
    """An opened one."""

    reader: EnglishReader
    name: str
    """Version and origin, for the results: "3.0 (Debian)"."""


@cache
def open_wordnet() -> WordNet:
    """The WordNet of this machine; nltk's data goes before Debian's package. Takes seconds, the first time.

    Raises:
        DataError: there is none, or it is damaged; with how to install it.
    """
    for name in NLTK_NAMES:
        try:
            root = nltk.data.find(name)
        except LookupError:
            continue
        except (OSError, BadZipFile) as error:
            raise _damaged(name, error) from None
        return _opened(root, origin="nltk")
    if not Path(DEBIAN_FOLDER).is_dir():
        raise DataError(
            f"METEOR needs WordNet, which is neither in nltk's data nor in {DEBIAN_FOLDER}: {HOW_TO_INSTALL}."
        )
    if DEBIAN_FOLDER not in nltk.data.path:
        nltk.data.path.append(DEBIAN_FOLDER)  # nltk opens nothing outside the folders of this list
    return _opened(nltk.data.FileSystemPathPointer(DEBIAN_FOLDER), origin="Debian")


def _opened(root: Any, *, origin: str) -> WordNet:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The multilingual functions are not available")
            reader = EnglishReader(root, None)
        version = reader.get_version()
    except (OSError, ValueError, AssertionError, LookupError, StopIteration, BadZipFile, WordNetError) as error:
        raise _damaged(root, error) from None
    return WordNet(reader, f"{version} ({origin})")


def _damaged(place: object, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return DataError(f"METEOR needs WordNet, and {place} is damaged ({reason}): remove it and {HOW_TO_INSTALL}.")
