"""Which records pass, and why the others do not: the suites of records on one data set, or on a chunk of it.

Order: masks, then regions, then dialogues, because a dialogue falls with its target and a part with its
whole. So `parent_id` of a region that passed always names a region that passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from miras.dialogue.records import Dialogue, Picture, Region
from miras.quality.chunks import Chunk
from miras.quality.config import CheckConfig
from miras.quality.features import Known, dialogue_frame, mask_frame, region_frame
from miras.quality.suites import dialogue_suite, mask_suite, region_suite
from miras.quality.validation import Validation, reasons_by_row, validate
from miras.quality.word_list import WordList

Reasons = dict[int, dict[str, str]]  # row of the table -> rule name -> what is wrong


@dataclass(frozen=True)
class Table:
    """One checked table; rows are numbered as they were given."""

    name: str
    records: Sequence[Region] | Sequence[Dialogue]
    ids: Sequence[str]
    frame: pd.DataFrame
    """One row of features per record."""
    reasons: Reasons
    """Rows that failed."""

    @property
    def rows(self) -> int:
        """Records given."""
        return len(self.records)

    @property
    def quarantined(self) -> int:
        """Records that failed at least one rule."""
        return len(self.reasons)

    @property
    def quarantined_share(self) -> float:
        """Of the records given; 0 of an empty table."""
        return self.quarantined / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Verdict:
    """What the checks found in a data set."""

    regions: Table
    dialogues: Table
    masks: pd.DataFrame
    """One row of features per region with a mask."""
    validations: tuple[Validation, ...]
    """Of regions, masks and dialogues."""
    file_names: Mapping[str, str]
    """Of the pictures, by image id; empty for a text-only source."""

    @cached_property
    def region_by_id(self) -> dict[str, Region]:
        """The regions as given, good and bad."""
        return {record.region_id: record for record in self.regions.records if isinstance(record, Region)}


def judge_chunk(chunk: Chunk, *, check: CheckConfig, words: WordList) -> Verdict:
    """The verdict on some pictures of a data set; the same as on all of it at once."""
    return _judge(
        chunk.dialogues,
        chunk.regions,
        elsewhere=chunk.elsewhere,
        pictures=chunk.pictures,
        repeated=(chunk.repeated_region_ids, chunk.repeated_dialogue_ids),
        check=check,
        words=words,
    )


def judge(
    dialogues: Sequence[Dialogue],
    regions: Sequence[Region],
    *,
    pictures: Mapping[str, Picture] | None,
    check: CheckConfig,
    words: WordList,
) -> Verdict:
    """The verdict of all suites.

    Args:
        dialogues: as generated.
        regions: as ingested.
        pictures: by image id; None for a text-only source: the rules that need pictures do not apply.
        check: bounds of the rules.
        words: what no text may hold.
    """
    repeated = (
        _repeated(region.region_id for region in regions),
        _repeated(dialogue.dialogue_id for dialogue in dialogues),
    )
    return _judge(dialogues, regions, elsewhere=(), pictures=pictures, repeated=repeated, check=check, words=words)


def _repeated(ids: Iterable[str]) -> frozenset[str]:
    return frozenset(key for key, count in Counter(ids).items() if count > 1)


def _judge(
    dialogues: Sequence[Dialogue],
    regions: Sequence[Region],
    *,
    elsewhere: Sequence[Region],
    pictures: Mapping[str, Picture] | None,
    repeated: tuple[Collection[str], Collection[str]],
    check: CheckConfig,
    words: WordList,
) -> Verdict:
    known = Known(
        pictures=pictures,
        regions={region.region_id: region for region in (*elsewhere, *regions)},
        targeted={key for dialogue in dialogues for turn in dialogue.turns for key in turn.targets},
        spoken={key for dialogue in dialogues for turn in dialogue.turns if not turn.names for key in turn.targets},
        repeated_region_ids=repeated[0],
        repeated_dialogue_ids=repeated[1],
        words=words,
    )
    masks = mask_frame(regions, known)
    mask_validation = validate(masks, mask_suite(check))
    mask_reasons = _by_region_row(reasons_by_row(mask_validation, masks), regions)
    region_table, region_validation = _judge_regions(regions, known, mask_reasons)
    dialogue_table, dialogue_validation = _judge_dialogues(dialogues, known, region_table, check)
    return Verdict(
        regions=region_table,
        dialogues=dialogue_table,
        masks=masks,
        validations=(region_validation, mask_validation, dialogue_validation),
        file_names={image_id: picture.file_name for image_id, picture in (pictures or {}).items()},
    )


def _by_region_row(reasons: Reasons, regions: Sequence[Region]) -> Reasons:
    """Reasons of rows of the mask table, by row of the region table."""
    rows_with_mask = [row for row, region in enumerate(regions) if region.mask is not None]
    return {rows_with_mask[row]: found for row, found in reasons.items()}


def _judge_regions(regions: Sequence[Region], known: Known, mask_reasons: Reasons) -> tuple[Table, Validation]:
    suite = region_suite()
    frame = region_frame(regions, known, bad_region_ids=())
    validation = validate(frame, suite)
    reasons = _merged(reasons_by_row(validation, frame), mask_reasons)
    if bad := _with_their_parts({regions[row].region_id for row in reasons}, regions):
        frame = region_frame(regions, known, bad_region_ids=bad)
        validation = validate(frame, suite)
        reasons = _merged(reasons_by_row(validation, frame), mask_reasons)
    ids = [region.region_id for region in regions]
    return Table("regions", regions, ids, frame, reasons), validation


def _with_their_parts(bad: set[str], regions: Sequence[Region]) -> set[str]:
    """The bad regions, their parts, the parts of these, and so on."""
    parts: dict[str, list[str]] = {}
    for region in regions:
        if region.parent_id is not None:
            parts.setdefault(region.parent_id, []).append(region.region_id)
    found: set[str] = set()
    waiting = list(bad)
    while waiting:
        region_id = waiting.pop()
        if region_id not in found:
            found.add(region_id)
            waiting += parts.get(region_id, ())
    return found


def _merged(one: Reasons, other: Reasons) -> Reasons:
    return {row: one.get(row, {}) | other.get(row, {}) for row in sorted(one.keys() | other.keys())}


def _judge_dialogues(
    dialogues: Sequence[Dialogue], known: Known, regions: Table, check: CheckConfig
) -> tuple[Table, Validation]:
    frame = dialogue_frame(
        dialogues,
        known,
        bad_regions={regions.ids[row]: "; ".join(found.values()) for row, found in regions.reasons.items()},
        near_duplicate_similarity=check.near_duplicate_similarity,
    )
    validation = validate(frame, dialogue_suite(check))
    reasons = dict(sorted(reasons_by_row(validation, frame).items()))
    ids = [dialogue.dialogue_id for dialogue in dialogues]
    return Table("dialogues", dialogues, ids, frame, reasons), validation
