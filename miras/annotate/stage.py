"""The stage `annotate`: people draw the masks that are missing and correct the dialogues.

Run as `python -m tasks.run annotate`. With mode off regions and dialogues pass as they are. With mode labelme the
stage hands out what is not out yet, takes in what is back, and ends with `WaitingForPeopleError` until every sample
is decided; run again, it goes on from the people's folders, which it never clears. Writes into one folder:
regions.jsonl (`Region`), dialogues.jsonl (`Dialogue`), corrections.jsonl (`Correction`), rejected.jsonl
(`Rejected`) and agreement.json (Table 1 of the PRIST paper).
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from miras.annotate.adjudicate import Decision
from miras.annotate.agreement import summarise
from miras.annotate.collect import Returned, collect
from miras.annotate.config import AnnotateConfig
from miras.annotate.dialogue_text import apply_changes
from miras.annotate.errors import WaitingForPeopleError
from miras.annotate.guide import ABSENT, GUIDE_FILE
from miras.annotate.hand_out import Propose, hand_out
from miras.annotate.records import Change, Correction
from miras.annotate.samples import all_regions, region_tables, regions_of, wanted
from miras.dialogue.records import Dialogue, Region, Rejected
from miras.errors import DataError
from miras.files import finished_folder, read_records, write_json, write_records
from miras.paths import Paths
from miras.sources.annotations import rejection

log = logging.getLogger(__name__)

STATUS = "status.jsonl"  # in the people's folder: every answer that is open or rejected, every file not read
CORRECTIONS, REJECTED, AGREEMENT = "corrections.jsonl", "rejected.jsonl", "agreement.json"
_NUM_FAULTS_SHOWN = 5


def run(*, paths: Paths, work: Path, annotate: AnnotateConfig) -> None:
    """Lets regions and dialogues pass, or has people draw and correct them.

    Raises:
        WaitingForPeopleError: something is still open; nothing is published.
        DataError: a table is missing or broken.
    """
    if annotate.mode == "off":
        _pass_through(paths)
        return
    need = wanted(paths, scope=annotate.scope)
    manifest = hand_out(
        need.samples,
        folder=Path(annotate.folder),
        pictures=paths.pictures,
        groups=annotate.groups,
        per_sample=annotate.per_sample,
        propose=_propose(annotate),
    )
    returned = collect(need.samples, manifest, pictures=paths.pictures, config=annotate)
    write_records(Path(annotate.folder) / STATUS, (*returned.unanswered, *returned.strangers))
    log.info(
        "annotated samples=%d answers=%d accepted=%d open=%d rejected=%d strangers=%d retired=%d",
        len(need.samples),
        len(returned.answers),
        returned.count("accepted"),
        returned.count("open"),
        returned.count("rejected"),
        len(returned.strangers),
        len(manifest.samples) - len(need.samples),
    )
    if returned.unanswered:
        raise WaitingForPeopleError(_whats_open(returned, annotate.folder))
    with finished_folder(Path(paths.annotate)) as folder:
        _publish(folder, paths, returned, need.rejected)


def _pass_through(paths: Paths) -> None:
    """Copies byte by byte: nothing is parsed, and nothing is held in memory."""
    with finished_folder(Path(paths.annotate)) as folder:
        _join(region_tables(paths), folder / paths.annotated_regions.name)
        _join([paths.generated_dialogues], folder / paths.annotated_dialogues.name)
        write_records(folder / CORRECTIONS, ())
        write_records(folder / REJECTED, ())
        write_json(folder / AGREEMENT, summarise(()))


def _join(tables: Iterable[Path], target: Path) -> None:
    with target.open("wb") as joined:
        for table in tables:
            try:
                with table.open("rb") as lines:
                    shutil.copyfileobj(lines, joined)
            except FileNotFoundError:
                raise DataError(f"{table}: no such file; run the stage that makes it (`dvc repro`).") from None


def _propose(annotate: AnnotateConfig) -> Propose | None:
    if annotate.sam is None:
        return None
    from miras.annotate.proposals import proposer  # torch takes seconds to load, and most runs need no SAM

    return proposer(Path(annotate.sam), sam_type=annotate.sam_type)


def _whats_open(returned: Returned, folder: str) -> str:
    """The counts, folder by folder, and the first faults in their own words."""
    refused = [answer.reason for answer in returned.unanswered if answer.state == "rejected"]
    refused += [f"{item.where}: {item.reason}" for item in returned.strangers]
    groups = sorted({answer.group for answer in returned.unanswered})
    lines = [
        f"Waiting for people: of {len(returned.answers)} answers {returned.count('accepted')} are taken, "
        f"{returned.count('open')} open, {returned.count('rejected')} rejected.",
        *(f"{folder}/{group}: {_counts(returned, group)}" for group in groups),
        *([f"Files that are not read: {len(returned.strangers)}"] if returned.strangers else []),
        *refused[:_NUM_FAULTS_SHOWN],
        f"{folder}/{GUIDE_FILE} says how to draw; {folder}/{STATUS} lists all that is open, rejected or not read, "
        "and why.",
        "When people are done, run the same command again, or resume the flow run; what is done is kept.",
    ]
    return "\n  ".join(lines)


def _counts(returned: Returned, group: str) -> str:
    states = Counter(answer.state for answer in returned.unanswered if answer.group == group)
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _publish(folder: Path, paths: Paths, returned: Returned, not_handed_out: Mapping[str, Rejected]) -> None:
    absent = {
        region_id: rejection(Rejected, f"region {region_id}", f"people say that it is {ABSENT}")
        for region_id, decision in returned.decisions.items()
        if decision.mask is None
    }
    left_out = {**not_handed_out, **absent}
    corrections = [item for decision in returned.decisions.values() for item in decision.corrections]
    write_records(folder / paths.annotated_regions.name, _regions(paths, returned.decisions, left_out))
    rejected = [*left_out.values(), *returned.strangers]
    dialogues = _dialogues(paths, corrections, left_out, rejected)
    write_records(folder / paths.annotated_dialogues.name, dialogues)
    write_records(folder / CORRECTIONS, corrections)
    write_records(folder / REJECTED, rejected)
    write_json(folder / AGREEMENT, summarise(returned.compared))


def _regions(paths: Paths, decisions: Mapping[str, Decision], left_out: Mapping[str, Rejected]) -> Iterator[Region]:
    for region in all_regions(paths):
        if region.region_id in left_out:
            continue
        changes: dict[str, object] = {}
        if region.region_id in decisions:
            changes["mask"] = decisions[region.region_id].mask
        if region.parent_id in left_out:
            changes["parent_id"] = None
        if any(relation.object_id in left_out for relation in region.relations):
            changes["relations"] = tuple(item for item in region.relations if item.object_id not in left_out)
        yield region.model_copy(update=changes) if changes else region


def _dialogues(
    paths: Paths, corrections: Sequence[Correction], left_out: Mapping[str, Rejected], rejected: list[Rejected]
) -> Iterator[Dialogue]:
    """The dialogues with corrected text; those about a region that is left out are added to `rejected`."""
    by_dialogue: dict[str, list[Change]] = {}
    for item in corrections:
        by_dialogue.setdefault(item.change.dialogue_id, []).append(item.change)
    for dialogue in read_records(paths.generated_dialogues, Dialogue):
        missing = [region_id for region_id in regions_of(dialogue) if region_id in left_out]
        if missing:
            reason = f"speaks of {', '.join(missing)}, left out: {left_out[missing[0]].reason}"
            rejected.append(rejection(Rejected, f"dialogue {dialogue.dialogue_id}", reason))
        else:
            yield apply_changes(dialogue, by_dialogue.get(dialogue.dialogue_id, ()))
