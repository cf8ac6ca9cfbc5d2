"""Stage `generate`: the annotated teacher writes dialogues about the ingested pictures.

Writes, into one folder: dialogues.jsonl (`Dialogue`, first those that the sources came with), elements.jsonl (`PictureElements`, PRIST step 1) and
trees.jsonl (`ReasoningTree`, step 2). Each picture's dialogues depend on its regions and the seed alone.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import finished_folder, read_records
from miras.generate.config import GenerateConfig
from miras.generate.dialogues import prist_dialogues
from miras.generate.elements import PictureElements, list_elements
from miras.generate.mrseg import mrseg_dialogues
from miras.generate.queries import one_turn_dialogues
from miras.generate.tree import ReasoningTree
from miras.generate.view import spoken, view_of
from miras.paths import Paths
from miras.progress import progress

log = logging.getLogger(__name__)


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
) -> Generated:
    """All dialogues about one picture.

    Args:
        image_id: of the picture.
        regions: all of the picture's, with phrases; one without a phrase or a mask is never a target.
        classes: the data set's classes of objects, for questions about what is not there.
        config: how many, how long, which seed.
        parts: class -> names of parts that the data set has on it, as `part_names` finds them, for questions about
            parts that are not there; None asks none.
    """
    view = view_of(regions)
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
    """Class -> names of the parts that some region of the class has; classes without parts are left out."""
    by_id = {region.region_id: region for region in regions}
    found: dict[str, set[str]] = {}
    for region in by_id.values():
        if region.parent_id in by_id:
            found.setdefault(spoken(by_id[region.parent_id].category), set()).add(spoken(region.category))
    return {name: frozenset(parts) for name, parts in found.items()}


def run(*, paths: Paths, work: Path, generate: GenerateConfig) -> None:
    """Writes dialogues about every picture; see the module for the files.

    Raises:
        DataError: the pictures have no regions that a dialogue could be about.
    """
    regions: dict[str, list[Region]] = {}
    for region in read_records(paths.region_table, Region):
        regions.setdefault(region.image_id, []).append(region)
    wholes = (region for group in regions.values() for region in group if region.parent_id is None)
    parts = part_names(region for group in regions.values() for region in group)
    classes = tuple(sorted({spoken(region.category) for region in wholes} - {""}))
    pictures = list(read_records(paths.picture_table, Picture))
    counts: Counter[str] = Counter()
    folder = paths.generated_dialogues.parent
    with finished_folder(folder) as aside, ExitStack() as files:
        names = (paths.generated_dialogues.name, "elements.jsonl", "trees.jsonl")
        tables = [files.enter_context((aside / name).open("w", encoding="utf-8")) for name in names]
        for dialogue in read_records(paths.source_dialogues, Dialogue):
            tables[0].write(_lines([dialogue]))
            counts[dialogue.kind] += 1
        for picture in progress(pictures, name="generate", unit="pictures"):
            written = write_about(picture.image_id, regions.get(picture.image_id, ()), classes, generate, parts=parts)
            tables[0].write(_lines(written.dialogues))
            tables[1].write(_lines([written.elements]))
            tables[2].write(_lines([written.tree]))
            counts.update(dialogue.kind for dialogue in written.dialogues)
            counts["silent pictures"] += not written.dialogues
        if not counts.total() - counts["silent pictures"]:
            raise DataError(
                f"{paths.region_table}: no region that a dialogue could be about: expected regions with a "
                f"mask and a phrase in {len(pictures)} pictures. Look at {paths.rejected_table} for what was refused."
            )
    log.info("generated %s", " ".join(f"{name.replace(' ', '_')}={counts[name]}" for name in sorted(counts)))


def _lines(records: Iterable[BaseModel]) -> str:
    return "".join(record.model_dump_json() + "\n" for record in records)
