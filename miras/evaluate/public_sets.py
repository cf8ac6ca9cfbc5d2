"""Public data sets as benchmarks: read by the data factory's readers, kept in the form of our own test split."""

from __future__ import annotations

import json
from pathlib import Path

from miras.dialogue.records import SPLITS, Dialogue, Rejected
from miras.errors import DataError
from miras.evaluate.benchmarks import MASK_KINDS, TOLD_KINDS, BenchmarkSet, benchmark_set
from miras.evaluate.config import EvaluateConfig
from miras.files import count_lines, finished_file, read_records, write_records
from miras.paths import Paths
from miras.sources import stage as ingest
from miras.sources.config import IngestConfig

MAX_MEGAPIXELS = 100  # as ingest.max_megapixels in the presets
NO_LIMIT = 10**9
REASONS_SHOWN = 3


def public_paths(paths: Paths, folder: Path) -> Paths:
    """Where a public data set lies once it is read: everything in one folder, the weights where they are."""
    data = str(folder / "data")
    tables = dict.fromkeys(("ingest", "generate", "annotate", "check"), data)
    return paths.model_copy(update={**tables, "split": f"{data}/split", "features": str(folder / "features")})


def read_public_set(name: str, paths: Paths, config: EvaluateConfig, *, work: Path) -> None:
    """Reads the data set to `paths`, or leaves it as it is where it was read from the same settings.

    Raises:
        DataError: it is not on disk, more than `max_missing_share` of it cannot be read, or nothing asks for a mask.
    """
    settings = json.dumps(
        [config.benchmarks[name].model_dump(mode="json"), config.max_missing_share], sort_keys=True, ensure_ascii=False
    )
    stamp = Path(paths.split) / "settings.json"
    if stamp.exists() and stamp.read_text("utf-8") == settings:
        return
    source = IngestConfig(
        sources={name: config.benchmarks[name]},
        watched="-",
        max_pictures=NO_LIMIT,
        max_rejected_share=config.max_missing_share,
        max_megapixels=MAX_MEGAPIXELS,
        ignore_categories=[],
    )
    work.mkdir(parents=True, exist_ok=True)
    try:
        ingest.run(paths=paths, work=work, ingest=source)
    except DataError as error:
        found = str(error).replace("ingest.max_rejected_share", "evaluate.max_missing_share")
        raise DataError(
            f"evaluate.benchmarks.{name}: {found}\nA score over part of a benchmark is another number: the limit is "
            "for those who want it all the same, with the count of what is left out beside it."
        ) from None
    for split in SPLITS:
        told = read_records(paths.source_dialogues, Dialogue) if split == "test" else ()
        write_records(paths.split_dialogues(split), told)
    with finished_file(stamp) as aside:
        aside.write_text(settings, "utf-8")


def public_benchmark(name: str, paths: Paths) -> BenchmarkSet:
    """All of a data set that was read.

    Raises:
        DataError: nothing in it asks for a mask.
    """
    source = paths.split_dialogues("test")
    dialogues = tuple(d for d in read_records(source, Dialogue) if d.kind in (*TOLD_KINDS, *MASK_KINDS))
    if not dialogues:
        raise DataError(
            f"evaluate.benchmarks.{name}: empty: none of its {count_lines(source)} dialogues asks for a mask. Use a "
            "reader whose data set has questions (refer, reasonseg, mrseg, prist)."
        )
    return benchmark_set({name: dialogues}, paths, source=str(source))


def left_out(paths: Paths) -> list[str]:
    """What could not be read of a data set, a sentence each."""
    return [f"{item.where}: {item.reason}" for item in read_records(paths.rejected_table, Rejected)]
