"""The annotated teacher: all dialogues about a picture from its regions alone, without any language model.

They depend on the picture's regions, the names of its source's data set and the seed, on nothing else.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer

from miras.dialogue.records import Dialogue, Frozen, Picture, Region
from miras.errors import DataError
from miras.files import read_records
from miras.generate.config import GenerateConfig
from miras.generate.dialogues import prist_dialogues
from miras.generate.elements import PictureElements, list_elements
from miras.generate.mrseg import mrseg_dialogues
from miras.generate.names import spoken
from miras.generate.queries import one_turn_dialogues
from miras.generate.tree import ReasoningTree
from miras.generate.view import view_of
from miras.paths import Paths


@dataclass(frozen=True)
class Generated:
    """What the teacher wrote about one picture."""

    dialogues: tuple[Dialogue, ...]
    elements: PictureElements
    tree: ReasoningTree


def write_about(
    image_id: str,
    regions: Iterable[Region],
    classes: tuple[str, ...],
    config: GenerateConfig,
    *,
    parts: Mapping[str, frozenset[str]] | None = None,
    is_exhaustive: bool = True,
) -> Generated:
    """All dialogues about one picture.

    Args:
        image_id: of the picture.
        regions: all of the picture's, with phrases; one without a phrase or a mask is never a target.
        classes: the data set's classes of objects, for questions about what is not there.
        config: how many, how long, which seed.
        parts: class -> names of parts that the data set has on it, as `part_names` finds them, for questions about
            parts that are not there; None asks none.
        is_exhaustive: as `Picture.is_exhaustive`.
    """
    view = view_of(regions, is_exhaustive=is_exhaustive)
    dialogues, tree = prist_dialogues(view, image_id, config, random.Random(f"{config.seed}/prist/{image_id}"))
    dice = random.Random(f"{config.seed}/queries/{image_id}")
    queries = one_turn_dialogues(view, image_id, config.queries_per_picture, classes, dice)
    rounds = mrseg_dialogues(
        view,
        image_id,
        random.Random(f"{config.seed}/mrseg/{image_id}"),
        count=config.mrseg_per_picture,
        pairs=config.hard_pairs_per_picture,
        classes=classes,
        parts=parts or {},
        wording=config.wording,
    )
    return Generated((*dialogues, *queries, *rounds), list_elements(view, image_id), tree)


def part_names(regions: Iterable[Region]) -> dict[str, frozenset[str]]:
    """Class -> names of parts that some region of the class has, in one picture; classes without parts are left out."""
    by_id = {region.region_id: region for region in regions}
    found: dict[str, set[str]] = {}
    for region in by_id.values():
        if region.parent_id in by_id:
            found.setdefault(spoken(by_id[region.parent_id].category), set()).add(spoken(region.category))
    return {name: frozenset(parts) for name, parts in found.items()}


class KnownNames(Frozen):
    """Names that a source's data set has, by source: what one annotates, another may leave out."""

    classes: dict[str, tuple[str, ...]]
    """Source -> its classes of objects, sorted."""
    parts: dict[str, dict[str, Annotated[frozenset[str], PlainSerializer(sorted)]]]
    """Source -> class -> names of its parts."""

    def write_about(self, picture: Picture, regions: tuple[Region, ...], config: GenerateConfig) -> Generated:
        """All dialogues about one of the pictures; what is asked for in vain is taken from the names."""
        is_whole = picture.is_exhaustive
        return write_about(
            picture.image_id,
            regions,
            self.classes[picture.source] if is_whole else _sorted(map(spoken, picture.absent)),
            config,
            parts=self.parts.get(picture.source) if is_whole else None,
            is_exhaustive=is_whole,
        )


class NameCounter:
    """Gathers `KnownNames`, picture by picture."""

    def __init__(self) -> None:
        self._classes: dict[str, set[str]] = defaultdict(set)
        self._parts: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)

    def add(self, picture: Picture, regions: tuple[Region, ...]) -> None:
        """Takes the names of one picture's regions."""
        self._classes[picture.source].update(spoken(region.category) for region in regions if region.parent_id is None)
        of_source = self._parts[picture.source]
        for name, found in part_names(regions).items():
            of_source[name] = of_source.get(name, frozenset()) | found

    def names(self) -> KnownNames:
        """Of all pictures so far."""
        classes = {source: _sorted(names) for source, names in self._classes.items()}
        return KnownNames(classes=classes, parts=dict(self._parts))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names) - {""}))


def pictures_with_regions(paths: Paths) -> Iterator[tuple[Picture, tuple[Region, ...]]]:
    """Every ingested picture with its regions, one at a time: both tables are in the order of the pictures.

    Raises:
        DataError: the regions are in another order, or of pictures that are not there.
    """
    pictures, regions = read_records(paths.picture_table, Picture), read_records(paths.region_table, Region)
    return with_regions(pictures, regions, region_table=paths.region_table)


def with_regions(
    pictures: Iterable[Picture], regions: Iterable[Region], *, region_table: Path
) -> Iterator[tuple[Picture, tuple[Region, ...]]]:
    """Each picture with its regions; see `pictures_with_regions`."""
    groups = groupby(regions, key=attrgetter("image_id"))
    image_id, group = next(groups, ("", iter(())))
    for picture in pictures:
        if picture.image_id == image_id:
            yield picture, tuple(group)
            image_id, group = next(groups, ("", iter(())))
        else:
            yield picture, ()
    if image_id:
        raise DataError(
            f"{region_table}: regions of {image_id!r} do not follow the order of the table of pictures. Run the stage "
            "ingest again."
        )
