"""Stage `generate`: a teacher writes dialogues about the ingested pictures.

The annotated teacher needs regions alone; a language model writes the PRIST dialogues instead, if one is set.
Writes, into one folder: dialogues.jsonl (`Dialogue`, also those that the sources came with), elements.jsonl
(`PictureElements`, PRIST step 1) and trees.jsonl (`ReasoningTree`, step 2); with a language model what
`miras.generate.written.writing` says. Each picture's dialogues depend on its regions, the names in its source and the
seed (and the model's answers) alone.

From 2,000 pictures on the annotated teacher's work is shared out over the processes of the launch profile (see
`miras.generate.sharing`). A language model is always asked by the stage's own process: its calls run at once there
already, and the budget, the pace and the answers that are paid for have one ledger, which several machines would
overspend or pay twice.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from pydantic import BaseModel

from miras.dialogue.records import Dialogue
from miras.errors import DataError
from miras.files import count_lines, finished_folder, read_records, write_json
from miras.generate.annotated import pictures_with_regions
from miras.generate.config import GenerateConfig
from miras.generate.polish import UnpolishedTurn, polish
from miras.generate.sharing import PIECES, SHARED_FROM_PICTURES, SILENT, write_pieces
from miras.generate.written.use import MODEL_FILE, ModelUse, kept_when_stopped, model_use
from miras.generate.written.writing import write_dialogues
from miras.launch.profiles import Launch, read_launch
from miras.llm.asking import CountingModel, LanguageModel, open_model
from miras.llm.config import read_service
from miras.paths import Paths
from miras.progress import progress

log = logging.getLogger(__name__)

STORE = "store"  # of the model's answers, in work/generate: kept whatever settings and inputs; none is paid twice
STOPPED = "stopped"  # what came to nothing until an error ended the run, in the stage's work folder


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
        pieces = write_pieces(paths, _annotated(generate), work=work, launch=_launch(paths))
        for piece in pieces:
            counts.update(piece.counts())
        if generate.teacher == "annotated":
            _join((piece.elements for piece in pieces), aside / "elements.jsonl")
            _join((piece.trees for piece in pieces), aside / "trees.jsonl")
        table = aside / paths.generated_dialogues.name
        if model and generate.polish:
            written = chain.from_iterable(read_records(piece.dialogues, Dialogue) for piece in pieces)
            _append(_polished(written, model, aside, counts), table)
        else:
            _join((piece.dialogues for piece in pieces), table)
        counts.update(_append(read_records(paths.source_dialogues, Dialogue), table))
        if model:
            write_json(aside / MODEL_FILE, _use(model, generate).model_dump())
            log.info("asked %s", model.counts())
        if not table.stat().st_size:
            raise DataError(
                f"{paths.region_table}: no region that a dialogue could be about, and no dialogue of a source: "
                f"expected regions with a mask and a phrase. Look at {paths.rejected_table} for what was refused."
            )
    shutil.rmtree(work / PIECES, ignore_errors=True)  # all that they held is in place
    log.info("generated %s", " ".join(f"{name.replace(' ', '_')}={counts[name]}" for name in sorted(counts)))


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
    """What the annotated teacher writes, by this process alone; with a model as teacher all but the PRIST dialogues.

    Args:
        aside: folder for its pieces.
        paths: of the tables of pictures and regions.
        generate: how many dialogues, which seed.
        counts: grows by the pictures about which nothing is said.
    """
    pieces = write_pieces(paths, _annotated(generate), work=aside, launch=None)
    counts[SILENT] += sum(piece.counts()[SILENT] for piece in pieces)
    return chain.from_iterable(read_records(piece.dialogues, Dialogue) for piece in pieces)


def _annotated(generate: GenerateConfig) -> GenerateConfig:
    """The settings of the annotated teacher's part."""
    return generate if generate.teacher == "annotated" else generate.model_copy(update={"dialogues_per_picture": 0})


def _launch(paths: Paths) -> Launch | None:
    """The launch profile, where there is enough to share out."""
    return read_launch() if count_lines(paths.picture_table) >= SHARED_FROM_PICTURES else None


def _join(files: Iterable[Path], into: Path) -> None:
    """Adds whole files to the end of one."""
    with into.open("ab") as joined:
        for file in files:
            with file.open("rb") as content:
                shutil.copyfileobj(content, joined)


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


def _append(dialogues: Iterable[Dialogue], table: Path) -> Counter[str]:
    """Adds dialogues to the end of a table; how many, by kind."""
    counts: Counter[str] = Counter()
    with table.open("a", encoding="utf-8") as lines:
        for dialogue in dialogues:
            lines.write(_lines([dialogue]))
            counts[dialogue.kind] += 1
    return counts


def _lines(records: Iterable[BaseModel]) -> str:
    return "".join(record.model_dump_json() + "\n" for record in records)
