"""Which regions people have to draw, and which dialogues they read and correct with each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from miras.annotate.config import Scope
from miras.annotate.records import Sample
from miras.dialogue.records import Dialogue, Picture, Region, Rejected
from miras.files import read_records
from miras.paths import Paths
from miras.sources.annotations import rejection

_MAX_STEM_CHARACTERS = 60  # assumed: with the hash and a suffix it fits every file system
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn, in the order of the region tables, and what cannot be handed out."""

    samples: tuple[Sample, ...]
    rejected: dict[str, Rejected]
    """Region id -> why it cannot be handed out."""


def region_tables(paths: Paths) -> list[Path]:
    """The ingested regions, then those that a teacher wrote, if one did."""
    return [paths.region_table, *([paths.generated_regions] if paths.generated_regions.exists() else [])]


def all_regions(paths: Paths) -> Iterator[Region]:
    """The regions of these tables, one at a time."""
    return chain.from_iterable(read_records(table, Region) for table in region_tables(paths))


def wanted(paths: Paths, *, scope: Scope) -> Wanted:
    """The samples to draw.

    Only what is to be drawn is held in memory; the tables are streamed.

    Args:
        scope: missing: regions that have no mask and that a dialogue speaks of; all: all that dialogues speak of.

    Raises:
        DataError: a table is missing or cannot be read.
    """
    open_ids = {region.region_id for region in all_regions(paths) if scope == "all" or region.mask is None}
    spoken_of: set[str] = set()
    homes: dict[str, list[Dialogue]] = {}
    for dialogue in read_records(paths.generated_dialogues, Dialogue):
        here = [region_id for region_id in regions_of(dialogue) if region_id in open_ids]
        spoken_of.update(here)
        if here:
            homes.setdefault(_home(dialogue, here), []).append(dialogue)
    regions = [region for region in all_regions(paths) if region.region_id in spoken_of]
    image_ids = {region.image_id for region in regions}
    pictures = {p.image_id: p for p in read_records(paths.picture_table, Picture) if p.image_id in image_ids}
    samples: dict[str, Sample] = {}
    rejected: dict[str, Rejected] = {}
    for region in regions:
        fault = _fault(region, pictures, paths)
        if fault:
            rejected[region.region_id] = rejection(Rejected, f"region {region.region_id}", fault)
        else:
            picture = pictures[region.image_id]
            name = sample_name(region, picture)
            samples[name] = Sample(name, region, picture, tuple(homes.get(region.region_id, ())))
    return Wanted(tuple(samples.values()), rejected)


def regions_of(dialogue: Dialogue) -> list[str]:
    """Ids of all regions that a dialogue speaks of, each once, in order."""
    named: Iterable[str] = chain.from_iterable((*turn.points_at, *turn.targets) for turn in dialogue.turns)
    return list(dict.fromkeys(named))


def sample_name(region: Region, picture: Picture) -> str:
    """The file stem of a region's sample: safe on every file system, changed when picture or phrase change."""
    identity = json.dumps([region.region_id, region.phrase, picture.sha256])
    stem = _UNSAFE.sub("_", region.region_id).strip("._-")[:_MAX_STEM_CHARACTERS]
    return f"{stem or 'sample'}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _home(dialogue: Dialogue, here: list[str]) -> str:
    """Where the dialogue is shown: the last target that is handed out (of PRIST the focus)."""
    targets = [region_id for turn in dialogue.turns for region_id in turn.targets if region_id in here]
    return targets[-1] if targets else here[-1]


def _fault(region: Region, pictures: dict[str, Picture], paths: Paths) -> str:
    """Why the region cannot be drawn; empty when it can."""
    if not region.phrase.strip():
        return "it has no phrase, so nobody can tell what to draw; expected a noun phrase. Name it in its source"
    picture = pictures.get(region.image_id)
    if picture is None:
        return f"its picture {region.image_id!r} is not in {paths.picture_table}. Ingest it, or drop the region"
    if not (paths.pictures / picture.file_name).is_file():
        return f"its picture {paths.pictures / picture.file_name} is gone. Run the stage ingest again"
    return ""
