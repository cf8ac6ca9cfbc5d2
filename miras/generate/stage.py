"""Stage `generate`: a teacher writes dialogues about the ingested pictures.

The annotated teacher needs regions alone; a language model writes the PRIST dialogues instead, if one is set.
Writes, into one folder: dialogues.jsonl (`Dialogue`, also those that the sources came with), elements.jsonl
(`PictureElements`, PRIST step 1) and trees.jsonl (`ReasoningTree`, step 2); with a language model what
`miras.generate.written.writing` says. Each picture's dialogues depend on its regions and the seed (and the model's
answers) alone.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path

from pydantic import BaseModel

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import count_lines, finished_folder, read_records, write_json
from miras.generate.config import GenerateConfig
from miras.generate.dialogues import prist_dialogues
from miras.generate.elements import PictureElements, list_elements
from miras.generate.mrseg import mrseg_dialogues
from miras.generate.names import spoken
from miras.generate.polish import UnpolishedTurn, polish
from miras.generate.queries import one_turn_dialogues
from miras.generate.tree import ReasoningTree
from miras.generate.view import view_of
from miras.generate.written.use import MODEL_FILE, ModelUse, kept_when_stopped, model_use
from miras.generate.written.writing import write_dialogues
from miras.llm.asking import CountingModel, LanguageModel, open_model
from miras.llm.config import read_service
from miras.paths import Paths
from miras.progress import progress

log = logging.getLogger(__name__)

STORE = "store"  # of the model's answers, in work/generate: kept whatever settings and inputs; none is paid twice
STOPPED = "stopped"  # what came to nothing until an error ended the run, in the stage's work folder


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


def run(*, paths: Paths, work: Path, generate: GenerateConfig) -> None:
    """Writes dialogues about every picture; see the module for the files.

    Raises:
        DataError: there is no dialogue, or the tables of pictures and regions do not belong together.
        MirasError: the language model cannot be asked, or the budget is spent; what it answered is kept, and what came
            to nothing lies in the work folder.
    """
    counts: Counter[str] = Counter()
    model = open_model(generate.model, read_service(), cache=work.with_name(STORE)) if generate.model else None
    with ExitStack() as folders:
        aside = folders.enter_context(finished_folder(Path(paths.generate)))
        if model:
            folders.enter_context(kept_when_stopped(aside, work / STOPPED, lambda: _use(model, generate)))
        if model and generate.teacher == "model":
            _ask_model(model, aside, paths, generate)
        written = dialogues_from_regions(aside, paths, generate, counts)
        if model and generate.polish:
            written = _polished(written, model, aside, counts)
        with (aside / paths.generated_dialogues.name).open("a", encoding="utf-8") as table:
            for dialogue in chain(written, read_records(paths.source_dialogues, Dialogue)):
                table.write(_lines([dialogue]))
                counts[dialogue.kind] += 1
        if model:
            write_json(aside / MODEL_FILE, _use(model, generate).model_dump())
            log.info("asked %s", model.counts())
        if not (aside / paths.generated_dialogues.name).stat().st_size:
            raise DataError(
                f"{paths.region_table}: no region that a dialogue could be about, and no dialogue of a source: "
                f"expected regions with a mask and a phrase. Look at {paths.rejected_table} for what was refused."
            )
    log.info("generated %s", " ".join(f"{name.replace(' ', '_')}={counts[name]}" for name in sorted(counts)))


def pictures_with_regions(paths: Paths) -> Iterator[tuple[Picture, tuple[Region, ...]]]:
    """Every ingested picture with its regions, one at a time: both tables are in the order of the pictures.

    Raises:
        DataError: the regions are in another order, or of pictures that are not there.
    """
    groups = groupby(read_records(paths.region_table, Region), key=attrgetter("image_id"))
    image_id, group = next(groups, ("", iter(())))
    for picture in read_records(paths.picture_table, Picture):
        if picture.image_id == image_id:
            yield picture, tuple(group)
            image_id, group = next(groups, ("", iter(())))
        else:
            yield picture, ()
    if image_id:
        raise DataError(
            f"{paths.region_table}: regions of {image_id!r} do not follow the order of {paths.picture_table}. Run the "
            "stage ingest again."
        )


def _use(model: CountingModel, generate: GenerateConfig) -> ModelUse:
    """Content of `model.json`."""
    assert generate.model is not None
    return model_use(generate.model.model, model.counts())


def _ask_model(model: LanguageModel, aside: Path, paths: Paths, generate: GenerateConfig) -> None:
    """PRIST dialogues by a language model."""
    assert generate.model is not None
    pictures = progress(
        pictures_with_regions(paths), total=count_lines(paths.picture_table), name="asking the model", unit="pictures"
    )
    found = write_dialogues(
        pictures, model=model, model_name=generate.model.model, config=generate, folder=paths.pictures, into=aside
    )
    write_json(aside / "written.json", asdict(found))
    log.info("written %s", found)


def dialogues_from_regions(
    aside: Path, paths: Paths, generate: GenerateConfig, counts: Counter[str]
) -> Iterator[Dialogue]:
    """What the annotated teacher writes, picture by picture; with a model as teacher all but the PRIST dialogues.

    Args:
        aside: folder into which it writes elements.jsonl and trees.jsonl as it goes.
        paths: of the tables of pictures and regions.
        generate: how many dialogues, which seed.
        counts: grows by the pictures about which nothing is said.
    """
    classes: dict[str, set[str]] = defaultdict(set)  # by source: what one annotates, another may leave out
    parts: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    for picture, regions in pictures_with_regions(paths):
        classes[picture.source].update(spoken(region.category) for region in regions if region.parent_id is None)
        of_source = parts[picture.source]
        for name, found in part_names(regions).items():
            of_source[name] = of_source.get(name, frozenset()) | found
    has_prist = generate.teacher == "annotated"
    config = generate if has_prist else generate.model_copy(update={"dialogues_per_picture": 0})
    pictures = progress(
        pictures_with_regions(paths), total=count_lines(paths.picture_table), name="generate", unit="pictures"
    )
    with ExitStack() as files:
        names = ("elements.jsonl", "trees.jsonl") if has_prist else ()
        tables = [files.enter_context((aside / name).open("w", encoding="utf-8")) for name in names]
        for picture, regions in pictures:
            known = classes[picture.source] if picture.is_exhaustive else map(spoken, picture.absent)
            written = write_about(
                picture.image_id,
                regions,
                tuple(sorted(set(known) - {""})),
                config,
                parts=parts[picture.source] if picture.is_exhaustive else {},
                is_exhaustive=picture.is_exhaustive,
            )
            for table, record in zip(tables, (written.elements, written.tree), strict=False):
                table.write(_lines([record]))
            counts["silent pictures"] += not written.dialogues
            yield from written.dialogues


def _polished(
    dialogues: Iterator[Dialogue], model: LanguageModel, aside: Path, counts: Counter[str]
) -> Iterator[Dialogue]:
    """The dialogues in the model's words, where it finds better ones; what it did not find is listed."""
    found: Counter[str] = Counter()
    with (aside / "unpolished.jsonl").open("w", encoding="utf-8") as table:

        def tell(turn: UnpolishedTurn) -> None:
            table.write(_lines([turn]))

        yield from polish(dialogues, model=model, counts=found, tell=tell)
    write_json(aside / "polished.json", dict(sorted(found.items())))
    counts.update({f"polish, {name}": count for name, count in found.items()})


def _lines(records: Iterable[BaseModel]) -> str:
    return "".join(record.model_dump_json() + "\n" for record in records)
