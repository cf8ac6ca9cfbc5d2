"""The annotated teacher's work in pieces: some hundred pictures each, shared out over processes.

A process alone: `python -m miras.generate.sharing plan.json 0 2` writes every second piece of the plan that is not
there yet. A piece's files depend on its pictures, the names in the whole data set and the settings: joined in order
they are the same bytes whatever the number of processes, and after an interruption only missing pieces are written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from tqdm import tqdm

from miras.dialogue.records import Frozen, Picture, Region
from miras.errors import JobFailedError
from miras.files import finished_file, write_json
from miras.generate.annotated import KnownNames, NameCounter, pictures_with_regions, with_regions
from miras.generate.config import GenerateConfig
from miras.launch.job import JobSpec, run_job
from miras.launch.process import share_main, something_is_kept
from miras.launch.profiles import Launch, open_place
from miras.paths import Paths
from miras.progress import progress

PIECE_PICTURES = 500
"""About a second of work: what an interruption costs, and how finely the work is shared out."""
SHARED_FROM_PICTURES = 2_000
"""Fewer are written by the stage's own process: others would start for longer than they work (measured)."""
PIECES = "pieces"
"""Folder of the pieces, beside the plan."""
SILENT = "silent pictures"
"""Counted beside the kinds of dialogues: pictures about which nothing is said."""

Record = TypeVar("Record", bound=BaseModel)


class Piece(Frozen):
    """Consecutive pictures, found in the tables without reading what comes before."""

    name: str
    """Place in the order, and a hash of all that decides its files."""
    pictures: int
    regions: int
    pictures_start: int
    """Bytes before them in the table."""
    regions_start: int


class PiecesPlan(Frozen):
    """All that a process needs to write its pieces."""

    picture_table: Path
    region_table: Path
    config: GenerateConfig
    names: KnownNames
    pieces: tuple[Piece, ...]


class PieceFiles:
    """The files of a piece; the last one, written when all others are whole, says that it is done."""

    def __init__(self, folder: Path, piece: Piece) -> None:
        self.dialogues = folder / f"{piece.name}.dialogues.jsonl"
        self.elements = folder / f"{piece.name}.elements.jsonl"
        self.trees = folder / f"{piece.name}.trees.jsonl"
        self._counts = folder / f"{piece.name}.json"

    @property
    def is_done(self) -> bool:
        """Whether it need not be written any more."""
        return self._counts.exists()

    def counts(self) -> dict[str, int]:
        """Dialogues by kind, and `SILENT`."""
        found: dict[str, int] = json.loads(self._counts.read_text("utf-8"))
        return found

    def finish(self, counts: Counter[str]) -> None:
        """Marks it as done."""
        write_json(self._counts, dict(sorted(counts.items())))


def write_pieces(paths: Paths, config: GenerateConfig, *, work: Path, launch: Launch | None) -> list[PieceFiles]:
    """Brings every piece to be there, in this process or in as many as the launch profile says, where it says.

    Args:
        paths: of the tables of pictures and regions.
        config: how many dialogues, which seed.
        work: where the pieces lie; whatever is whole there is kept.
        launch: None: in this process.

    Returns:
        the pieces, in order.

    Raises:
        DataError: the tables are missing, damaged, or do not belong together.
        JobFailedError: a process failed, or the job was cancelled or lost.
    """
    plan = make_plan(paths, config)
    folder = work / PIECES
    files = [PieceFiles(folder, piece) for piece in plan.pieces]
    missing = sum(not file.is_done for file in files)
    processes = min(launch.number_of_shares(), missing) if launch else 1
    with progress(total=sum(piece.pictures for piece in plan.pieces), name="generate", unit="pictures") as bar:
        _show_finished(plan, files, bar)
        if launch is None or (launch.place == "local" and processes == 1):
            write_share(plan, folder, done=bar.update)
        elif missing:
            request = work / "plan.json"
            write_json(request, plan.model_dump(mode="json"))
            reads = (plan.picture_table, plan.region_table)
            threads = launch.threads or 1
            spec = JobSpec("generate", "miras.generate.sharing", request, "shares", processes, threads, reads)
            run_job(spec, open_place(launch), watch=lambda: _show_finished(plan, files, bar))
    if not all(file.is_done for file in files):
        raise JobFailedError(f"{folder}: the job has ended, and not every piece is there. Run again to write the rest.")
    return files


def make_plan(paths: Paths, config: GenerateConfig) -> PiecesPlan:
    """Reads both tables once, for the names in the whole data set and where each piece begins.

    Raises:
        DataError: they are missing, damaged, or do not belong together.
    """
    sizes, names = [], NameCounter()
    for number, (picture, regions) in enumerate(pictures_with_regions(paths)):
        if number % PIECE_PICTURES == 0:
            sizes.append([0, 0])
        sizes[-1][0] += 1
        sizes[-1][1] += len(regions)
        names.add(picture, regions)
    known = names.names()
    common = hashlib.sha256(f"{config.model_dump_json()} {known.model_dump_json()}".encode())
    picture_spans = _spans(paths.picture_table, [pictures for pictures, _ in sizes])
    region_spans = _spans(paths.region_table, [regions for _, regions in sizes])
    pieces: list[Piece] = []
    for size, (pictures_start, pictures_hash), (regions_start, regions_hash) in zip(
        sizes, picture_spans, region_spans, strict=True
    ):
        decides = common.copy()
        decides.update(f"{pictures_hash} {regions_hash}".encode())
        pieces.append(
            Piece(
                name=f"{len(pieces):06d}-{decides.hexdigest()[:16]}",
                pictures=size[0],
                regions=size[1],
                pictures_start=pictures_start,
                regions_start=regions_start,
            )
        )
    return PiecesPlan(
        picture_table=paths.picture_table,
        region_table=paths.region_table,
        config=config,
        names=known,
        pieces=tuple(pieces),
    )


def _spans(table: Path, counts: Iterable[int]) -> Iterator[tuple[int, str]]:
    """First byte and sha256 of each run of so many lines."""
    start = 0
    with table.open("rb") as lines:
        for count in counts:
            content = hashlib.sha256()
            first = start
            for line in islice(lines, count):
                content.update(line)
                start += len(line)
            yield first, content.hexdigest()


def write_share(
    plan: PiecesPlan, folder: Path, *, share: int = 0, processes: int = 1, done: Callable[[int], object]
) -> None:
    """Writes the missing pieces of one process; `done` hears how many pictures were added."""
    for piece in plan.pieces[share::processes]:
        files = PieceFiles(folder, piece)
        if not files.is_done:
            _write_piece(plan, piece, files, done)


def _write_piece(plan: PiecesPlan, piece: Piece, files: PieceFiles, done: Callable[[int], object]) -> None:
    counts: Counter[str] = Counter()
    pictures = _records(plan.picture_table, Picture, start=piece.pictures_start, count=piece.pictures)
    regions = _records(plan.region_table, Region, start=piece.regions_start, count=piece.regions)
    with (
        finished_file(files.dialogues) as dialogues_file,
        finished_file(files.elements) as elements_file,
        finished_file(files.trees) as trees_file,
        dialogues_file.open("w", encoding="utf-8") as dialogues,
        elements_file.open("w", encoding="utf-8") as elements,
        trees_file.open("w", encoding="utf-8") as trees,
    ):
        for picture, here in with_regions(pictures, regions, region_table=plan.region_table):
            written = plan.names.write_about(picture, here, plan.config)
            dialogues.writelines(f"{dialogue.model_dump_json()}\n" for dialogue in written.dialogues)
            elements.write(f"{written.elements.model_dump_json()}\n")
            trees.write(f"{written.tree.model_dump_json()}\n")
            counts.update(dialogue.kind for dialogue in written.dialogues)
            counts[SILENT] += not written.dialogues
            done(1)
    files.finish(counts)
    something_is_kept()


def _records(table: Path, kind: type[Record], *, start: int, count: int) -> Iterator[Record]:
    with table.open("rb") as lines:
        lines.seek(start)
        yield from map(kind.model_validate_json, islice(lines, count))


def _show_finished(plan: PiecesPlan, files: Sequence[PieceFiles], bar: tqdm) -> None:
    bar.update(sum(piece.pictures for piece, file in zip(plan.pieces, files, strict=True) if file.is_done) - bar.n)


def make_share(request: Path, share: int, processes: int) -> None:
    """Writes one process's missing pieces of a stored plan."""
    plan = PiecesPlan.model_validate_json(request.read_text("utf-8"))
    write_share(plan, request.with_name(PIECES), share=share, processes=processes, done=lambda pictures: None)


if __name__ == "__main__":
    share_main(make_share)
