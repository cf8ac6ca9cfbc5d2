"""Hands samples out: a folder per group with picture, Labelme file and text of each sample dealt to it.

What a person has saved is never written over: a second run adds what is missing and renews only files that are
still as they were given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from miras.annotate import outlines
from miras.annotate.dialogue_text import Place, write_text
from miras.annotate.guide import ABSENT, FINISHED, GUIDE, GUIDE_FILE
from miras.annotate.manifest import Manifest, place, sha256_of
from miras.annotate.records import HandedOut, Sample
from miras.files import finished_file
from miras.progress import progress

LABELME_VERSION = "5.5.0"  # the form of the file; 4.x to 7.x open it

Propose = Callable[[Path], list[dict[str, Any]]]
"""Picture file -> Labelme shapes to start from."""


def hand_out(
    samples: Sequence[Sample],
    *,
    folder: Path,
    pictures: Path,
    groups: Sequence[str],
    per_sample: int,
    propose: Propose | None,
) -> Manifest:
    """Puts every sample into the folders of `per_sample` groups; returns the list of what is out.

    New samples go to the groups that have the fewest, so that each gets its share and each pair of groups
    shares samples. What was dealt stays where it is, also when groups are added or no longer named.

    Args:
        folder: holds one folder per group.
        pictures: folder of the pictures.
        propose: gives starting outlines for regions without a mask; None: they start empty.
    """
    for left_by_a_killed_run in folder.glob("**/.*.partial"):
        left_by_a_killed_run.unlink()
    manifest = Manifest(folder)
    with finished_file(folder / GUIDE_FILE) as aside:
        aside.write_text(GUIDE, "utf-8")
    dealer = _Dealer(groups, manifest.samples.values())
    for sample in progress(samples, name="handing out", unit="samples"):
        before = manifest.samples.get(sample.name)
        chosen = tuple(before.outline_sha256) if before else dealer.deal(per_sample)
        folders = {group: folder / group for group in chosen}
        is_complete = before is not None and not _is_missing(sample, folders)
        start = None if is_complete else _start(sample, pictures, propose)
        manifest.add(give(sample, folders, pictures=pictures, shapes=start, before=before, remarks={}))
    return manifest


def give(
    sample: Sample,
    folders: Mapping[str, Path],
    *,
    pictures: Path,
    shapes: list[dict[str, Any]] | None,
    before: HandedOut | None,
    remarks: Mapping[Place, Sequence[str]],
) -> HandedOut:
    """Puts one sample's files into the folders of its groups; returns what was given.

    Args:
        folders: group -> its folder.
        shapes: to start from; None leaves the Labelme files that are there.
        before: what was given the last time.
        remarks: to add to the text.
    """
    picture = pictures / sample.picture.file_name
    name = _picture_name(sample)
    text = sample_text(sample, name, remarks)
    outline_hashes = dict(before.outline_sha256) if before else {}
    text_hashes = dict(before.text_sha256) if before else {}
    for group, folder in folders.items():
        if not (folder / name).exists():
            with finished_file(folder / name) as aside:  # a copy: people send folders around
                aside.write_bytes(picture.read_bytes())
        text_hashes[group] = place(folder / f"{sample.name}.txt", text, handed_out_sha256=text_hashes.get(group))
        if shapes is not None:
            content = labelme_file(shapes, picture=name, height=sample.picture.height, width=sample.picture.width)
            known = outline_hashes.get(group)
            outline_hashes[group] = place(folder / f"{sample.name}.json", content, handed_out_sha256=known)
    return HandedOut(
        sample=sample.name,
        region_id=sample.region.region_id,
        image_id=sample.picture.image_id,
        phrase=sample.region.phrase,
        size=(sample.picture.height, sample.picture.width),
        outline_sha256=outline_hashes,
        text_sha256=text_hashes,
    )


def labelme_file(shapes: Sequence[Mapping[str, Any]], *, picture: str, height: int, width: int) -> bytes:
    """A Labelme file that names its picture and does not hold it."""
    content = {
        "version": LABELME_VERSION,
        "flags": {FINISHED: False, ABSENT: False},
        "shapes": list(shapes),
        "imagePath": picture,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def sample_text(sample: Sample, picture: str, remarks: Mapping[Place, Sequence[str]]) -> bytes:
    """The text file of a sample as it is given, UTF-8."""
    return write_text(sample.dialogues, phrase=sample.region.phrase, picture=picture, remarks=remarks).encode()


def text_sha256_now(sample: Sample, remarks: Mapping[Place, Sequence[str]]) -> str:
    """Hash of a sample's text file as it would be given now."""
    return sha256_of(sample_text(sample, _picture_name(sample), remarks))


def _picture_name(sample: Sample) -> str:
    return sample.name + Path(sample.picture.file_name).suffix.lower()


def _start(sample: Sample, pictures: Path, propose: Propose | None) -> list[dict[str, Any]]:
    if sample.region.mask is not None:
        return outlines.shapes(sample.region.mask, label=label_of(sample.region.phrase))
    return propose(pictures / sample.picture.file_name) if propose else []


def label_of(phrase: str) -> str:
    """The label that stands for a phrase: the phrase on one line."""
    return " ".join(phrase.split())


def _is_missing(sample: Sample, folders: Mapping[str, Path]) -> bool:
    return not all((folder / f"{sample.name}.json").exists() for folder in folders.values())


class _Dealer:
    """Deals samples to groups, evenly, and evenly to pairs of groups; the same state gives the same answer."""

    def __init__(self, groups: Sequence[str], dealt: Iterable[HandedOut]) -> None:
        self._groups = groups
        self._loads: Counter[str] = Counter()
        self._fronts: Counter[str] = Counter()
        self._together: Counter[frozenset[str]] = Counter()
        for item in dealt:
            self._count(list(item.outline_sha256))

    def deal(self, number: int) -> tuple[str, ...]:
        """The groups of the next sample; at the front the one that has been there least often, as the first
        group's outline is the one that is kept."""
        chosen: list[str] = []
        while len(chosen) < number:
            rest = [group for group in self._groups if group not in chosen]
            chosen.append(min(rest, key=lambda group: (self._loads[group], self._met(group, chosen))))
        chosen.sort(key=lambda group: self._fronts[group])
        self._count(chosen)
        return tuple(chosen)

    def _met(self, group: str, chosen: Sequence[str]) -> int:
        return sum(self._together[frozenset((group, other))] for other in chosen)

    def _count(self, chosen: Sequence[str]) -> None:
        self._loads.update(chosen)
        self._fronts[chosen[0]] += 1
        self._together.update(frozenset(pair) for pair in combinations(chosen, 2))
