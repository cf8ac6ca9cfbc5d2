"""Export to the public MRSeg form: `<split>.json`, `masks_<split>.json` (region id -> run-length code) and `pictures/`.

Dialogues that were imported from MRSeg come out as they stood. Their markers name annotations of the data sets that
they came from; those masks are not written again, and our reader and SegLLM's want the same files as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from miras.card.exports import Export
from miras.card.shelf import OriginalsOfForm, RecordShelf
from miras.dialogue.records import Dialogue, Region, Split
from miras.errors import DataError
from miras.progress import progress
from miras.sources import mrseg_export
from miras.sources.mrseg_markers import image_of
from miras.sources.records import Original

PICTURES = "pictures"


def write(job: Export, split: Split) -> None:
    """Writes one split."""
    dialogues, originals = job.dialogues(split), OriginalsOfForm(job.originals(), key="conversations")
    job.index.execute("CREATE TEMP TABLE IF NOT EXISTS told (region_id TEXT PRIMARY KEY)")
    job.index.execute("DELETE FROM told")
    accepted = _with_picture(job, dialogues, originals)
    refused = mrseg_export.write(accepted, job.regions, job.pictures, job.folder / f"{split}.json", originals=originals)
    for item in refused:
        job.add_rejected(item)
    job.counts["dialogues"] -= len(refused)
    job.counts["regions"] += mrseg_export.write_masks(_told_regions(job), job.folder / f"masks_{split}.json")


def _with_picture(
    job: Export, dialogues: RecordShelf[Dialogue], originals: Mapping[str, Original]
) -> Iterator[Dialogue]:
    """The dialogues whose picture could be copied to the place that its record names."""
    for dialogue in progress(dialogues.values(), total=len(dialogues), name="mrseg", unit="dialogues"):
        if not dialogue.image_id:
            job.left_out[dialogue.kind] += 1
            continue
        try:
            picture = job.picture(dialogue.image_id)
            original = originals.get(dialogue.dialogue_id)
            name = image_of(original.record) if original else picture.file_name
            job.copy_picture(picture, f"{PICTURES}/{name}")
        except DataError as error:
            job.reject(f"dialogue {dialogue.dialogue_id}", error)
            continue
        region_ids = [key for turn in dialogue.turns for key in (*turn.targets, *turn.points_at)]
        job.index.executemany("INSERT OR IGNORE INTO told VALUES (?)", [(key,) for key in region_ids])
        job.counts["dialogues"] += 1
        yield dialogue


def _told_regions(job: Export) -> Iterator[Region]:
    """The regions that the split's dialogues speak of, in the order in which they first do."""
    for (region_id,) in job.index.execute("SELECT region_id FROM told ORDER BY rowid").fetchall():
        yield job.regions[region_id]
