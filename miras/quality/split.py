"""The stage `split`: which pictures are trained on, tuned on and tested on.

Run as `python -m tasks.run split`. Writes, into one folder: train.jsonl, val.jsonl and test.jsonl (`Dialogue`),
left_out.jsonl (`Rejected`: dialogues about pictures that fit no split), summary.json and validation.json. Pictures
that look nearly the same stay together (`picture_looks`); what was dealt does not move when data is added (`dealing`).
Before anything is published, a Great Expectations suite looks for leaks in what was written (`leaks`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from miras.dialogue.records import SPLITS, Dialogue, Picture, Rejected, Split
from miras.errors import DataError
from miras.files import finished_folder, read_records, write_json, write_records
from miras.paths import Paths
from miras.progress import progress
from miras.quality.config import SplitConfig
from miras.quality.dealing import Group, deal, deal_on, read_ledger, write_ledger
from miras.quality.picture_looks import LookCache, near_duplicate_groups
from miras.quality.strata import SplitFigures, StrataCounts, read_region_sizes, shares_of_strata

log = logging.getLogger(__name__)

VALIDATION_FILE, LEFT_OUT_FILE, LOOKS_FILE = "validation.json", "left_out.jsonl", "looks.tsv"


@dataclass(frozen=True)
class _Plan:
    """Where everything goes."""

    content_of: Mapping[str, str]
    """Image id -> hash of the content."""
    look_of: Mapping[str, int]
    """Content -> number of its group of near-duplicates."""
    split_of: Mapping[str, Split | None]
    """Content -> its split; None: it fits none."""

    def split(self, dialogue: Dialogue) -> Split | None:
        """Of a dialogue; one without picture is its own."""
        return self.split_of[self.content_of.get(dialogue.image_id, dialogue.dialogue_id)]


def run(*, paths: Paths, work: Path, split: SplitConfig) -> None:
    """Deals the checked dialogues out to the splits, by picture.

    Raises:
        DataError: a split would be empty, a picture file is broken, or the same picture is in two splits; nothing is
            published.
        ConfigError: the ledger belongs to another seed.
    """
    sizes = read_region_sizes(paths.checked_regions)
    strata = StrataCounts(sizes)
    for dialogue in read_records(paths.checked_dialogues, Dialogue):
        strata.add(dialogue)
    ledger = Path(split.ledger)
    kept = read_ledger(ledger, seed=split.seed) if split.keep_split else {}
    plan = _planned(paths, strata, kept=kept, work=work, split=split)
    with finished_folder(Path(paths.split)) as folder:
        counts, left_out = _write_splits(folder, paths, plan)
        _refuse_empty(counts, plan, split)
        write_records(folder / LEFT_OUT_FILE, left_out)
        figures = _look_again(folder, paths, plan, sizes)
        strata_shares = shares_of_strata(strata, {key: plan.split_of[plan.content_of.get(key, key)] for key in strata})
        summary = {name: figures[name].summary() | {"strata": strata_shares[name]} for name in SPLITS}
        write_json(folder / paths.split_summary.name, summary)
        if split.keep_split:
            dealt = {content: name for content, name in plan.split_of.items() if name is not None}
            write_ledger(ledger, {**kept, **dealt}, seed=split.seed)
        elif not ledger.exists():  # DVC asks for every output
            write_ledger(ledger, {}, seed=split.seed)
    for name in SPLITS:
        log.info("split name=%s dialogues=%d", name, counts[name])
    if left_out:
        log.warning("split left_out=%d file=%s", len(left_out), Path(paths.split) / LEFT_OUT_FILE)


def _planned(paths: Paths, strata: StrataCounts, *, kept: Mapping[str, Split], work: Path, split: SplitConfig) -> _Plan:
    pictures = {item.image_id: item for item in read_records(paths.picture_table, Picture) if item.image_id in strata}
    missing = strata.first_unknown(pictures)
    if missing is not None:
        raise DataError(
            f"{paths.checked_dialogues}: {missing.dialogue_id}: its picture {missing.image_id} is not in "
            f"{paths.picture_table}. The checks ran on other pictures: run `dvc repro check` again."
        )
    content_of = {image_id: picture.sha256 for image_id, picture in pictures.items()}
    look_of = _looks(paths, pictures, work=work, bits=split.near_duplicate_bits)
    alone = [key for key in strata if key not in pictures]
    look_of |= {key: -1 - number for number, key in enumerate(alone)}
    groups = _groups(look_of, strata, content_of)
    if not split.keep_split:
        return _Plan(content_of, look_of, dict(deal(groups, split)))
    dealt = deal_on(groups, kept, split)
    return _Plan(content_of, _without(look_of, dealt), dealt)


def _looks(paths: Paths, pictures: Mapping[str, Picture], *, work: Path, bits: int) -> dict[str, int]:
    """Content -> number of its group of near-duplicates."""
    files = {picture.sha256: paths.pictures / picture.file_name for picture in pictures.values()}
    contents = sorted(files)
    looks = LookCache(work / LOOKS_FILE).looks([(content, files[content]) for content in contents])
    seen = list(progress(looks, total=len(contents), name="looking for near-duplicates", unit="pictures"))
    return dict(zip(contents, near_duplicate_groups(seen, bits=bits), strict=True))


def _groups(look_of: Mapping[str, int], strata: StrataCounts, content_of: Mapping[str, str]) -> list[Group]:
    members: dict[int, list[str]] = {}
    for content, look in look_of.items():
        members.setdefault(look, []).append(content)
    first_key: dict[str, str] = {}
    for key in strata:
        first_key.setdefault(content_of.get(key, key), key)
    return [Group(tuple(sorted(each)), strata.stratum(first_key[min(each)])) for each in members.values()]


def _without(look_of: Mapping[str, int], dealt: Mapping[str, Split | None]) -> dict[str, int]:
    """The groups when pictures that fit no split are gone: those that they connected are no longer one.

    Kept pictures of such a group are taken at the ledger's word: they were checked for leaks when it was written.
    """
    broken = {look for content, look in look_of.items() if dealt[content] is None}
    numbers: dict[tuple[int, Split | None], int] = {}
    return {
        content: numbers.setdefault((look, dealt[content] if look in broken else None), len(numbers))
        for content, look in look_of.items()
    }


def _write_splits(folder: Path, paths: Paths, plan: _Plan) -> tuple[dict[Split, int], list[Rejected]]:
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    left_out = []
    with ExitStack() as stack:
        files = {
            name: stack.enter_context((folder / paths.split_dialogues(name).name).open("w", encoding="utf-8"))
            for name in SPLITS
        }
        for dialogue in read_records(paths.checked_dialogues, Dialogue):
            name = plan.split(dialogue)
            if name is None:
                reason = (
                    f"its picture {dialogue.image_id} looks nearly the same as pictures that are kept in different "
                    "splits (params.yaml: split.ledger); expected one split. Drop the picture from the source."
                )
                left_out.append(Rejected(where=f"dialogue {dialogue.dialogue_id}", reason=reason))
            else:
                files[name].write(dialogue.model_dump_json() + "\n")
                counts[name] += 1
    return counts, left_out


def _refuse_empty(counts: Mapping[Split, int], plan: _Plan, split: SplitConfig) -> None:
    empty = [name for name in SPLITS if not counts[name]]
    if empty:
        raise DataError(
            f"split: no picture with dialogues fell into {' and '.join(empty)}: {len(plan.content_of)} pictures have "
            f"dialogues, in {len(set(plan.look_of.values()))} groups that look different; val_share is "
            f"{split.val_share}, test_share {split.test_share}. Add pictures, or raise params.yaml: split.val_share "
            "or split.test_share, or take another split.seed."
        )


def _look_again(folder: Path, paths: Paths, plan: _Plan, sizes: Mapping[str, str]) -> dict[Split, SplitFigures]:
    """Reads what was written: figures of each split, and no leak between them."""
    from miras.quality.leaks import Dealt, check_leaks  # Great Expectations takes seconds to load

    figures = {name: SplitFigures(sizes) for name in SPLITS}
    written: dict[tuple[str, Split], None] = {}
    for name in SPLITS:
        for dialogue in read_records(folder / paths.split_dialogues(name).name, Dialogue):
            figures[name].add(dialogue)
            written[dialogue.image_id or dialogue.dialogue_id, name] = None
    contents = {image_id: plan.content_of.get(image_id, image_id) for image_id, _ in written}
    dealt = [Dealt(key, name, contents[key], plan.look_of[contents[key]]) for key, name in written]
    write_json(folder / VALIDATION_FILE, check_leaks(dealt))
    return figures
