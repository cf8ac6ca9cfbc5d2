"""Statistics of the finished data set, in one pass over the split tables.

Memory grows with the number of different words and of different lengths, not with the number of dialogues: which
pictures and regions were met stands in a temporary index on disk.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from miras.card.counting import DistinctGrams, Distribution
from miras.card.measures import BIN_WIDTHS, Measured, content_words, measure
from miras.card.shelf import RecordShelf, SeenPairs, temporary_index
from miras.dialogue.masks import SIZE_CLASSES, canvas_area_px, size_class
from miras.dialogue.records import SPLITS, Dialogue, Frozen, Picture, Region
from miras.errors import DataError
from miras.files import read_records
from miras.paths import Paths
from miras.progress import progress
from miras.quality.focus_classes import CLASS_OF, focus_class

Axis = Literal["all", "split", "source", "kind"]
NO_PICTURE = "(no picture)"  # source of dialogues without one
NOT_STATED = "not stated"
AGREEMENT = "agreement.json"  # of the stage annotate
WHOLE = "data_set"  # suite of the stage check whose one row is the whole data set
BINS_PER_OCTAVE = 2


class FocusClass(Frozen):
    """How many foci are of a class."""

    super_class: str
    sub_class: str
    count: int


class MaskSizes(Frozen):
    """Of the targets' masks, each region once; areas in pixels of the 1024 canvas (PRIST paper, section 3.4)."""

    fine: int
    medium: int
    coarse: int
    area_px: Distribution
    by_half_octave: tuple[tuple[int, int], ...]
    """(n, how many with 2**(n/2) to 2**((n+1)/2) px), empty bins left out, in order."""


class PartStatistics(Frozen):
    """Counts of one part of the data set."""

    axis: Axis
    name: str
    pictures: int
    """Different ones that a dialogue is about."""
    dialogues: int
    turns: int
    """Pairs of question and answer."""
    reasoning_turns: int
    """Turns of PRIST dialogues without the last, which asks for the mask. What the paper calls utterances, as far as
    its numbers tell: 8,320 dialogues of its test file's 2.88 reasoning turns are 24k."""
    turns_with_target: int
    targets: int
    """Different regions that an answer points at."""
    targets_without_mask: int
    kinds: dict[str, int]
    """Kind -> dialogues, the most frequent first."""
    lengths: dict[str, Distribution]
    """Name of a measure (`miras.card.measures`) -> its distribution."""
    masks: MaskSizes
    vocabulary: int
    """Different words of all texts, in lower case."""
    focus_classes: tuple[FocusClass, ...]
    """Of the dialogues that have a focus, the most frequent first."""

    def target_turns_percent(self) -> float:
        """Share of the turns that point at something."""
        return round(100 * self.turns_with_target / self.turns, 2) if self.turns else 0.0


class TableCounts(Frozen):
    """What became of one table in the checks; rows = passed + quarantined."""

    table: str
    rows: int
    passed: int
    quarantined: int


class BrokenRule(Frozen):
    """A rule of the checks that records broke; one record may break several."""

    suite: str
    rule: str
    says: str
    failed: int
    rows_checked: int


class DataStatistics(Frozen):
    """All that the card tells in numbers."""

    pictures_ingested: int
    rejected_by_sources: int
    """Records that the readers could not take."""
    parts: tuple[PartStatistics, ...]
    """All, then each split, source and kind that has dialogues."""
    licences: dict[str, int]
    """Licence -> pictures with dialogues, the most frequent first; "not stated" where the source says nothing."""
    focus_words: tuple[tuple[str, int], ...]
    """The most frequent content words of the foci."""
    dist_1_percent: float
    """Of the reasoning answers of PRIST dialogues; with none of these 0, and `dist_words` is 0, too."""
    dist_2_percent: float
    dist_words: int
    checked: tuple[TableCounts, ...]
    broken_rules: tuple[BrokenRule, ...]
    unmet_bounds: tuple[str, ...]
    """Rules on the data set as a whole that are not met, in words."""
    agreement: dict[str, Any]
    """As the stage annotate wrote it, without single samples; empty where nobody drew."""

    def part(self, axis: Axis, name: str = "") -> PartStatistics | None:
        """One part; None where it has no dialogues."""
        return next((part for part in self.parts if part.axis == axis and name in ("", part.name)), None)

    def along(self, axis: Axis) -> list[PartStatistics]:
        """The parts of one division."""
        return [part for part in self.parts if part.axis == axis]

    @property
    def whole(self) -> PartStatistics:
        """The part `all`."""
        return self.parts[0]


def statistics(paths: Paths, *, work: Path, num_focus_words: int) -> DataStatistics:
    """Counts of the finished data set.

    Args:
        paths: of the stages ingest to split.
        work: folder for the temporary index.
        num_focus_words: as many of the foci's most frequent words are kept.

    Raises:
        DataError: a table is missing, broken, or they do not belong together; or there is no dialogue.
    """
    with temporary_index(work) as index:
        counting = _Counting(
            pictures=RecordShelf(index, paths.picture_table, Picture, key="image_id"),
            regions=RecordShelf(index, paths.checked_regions, Region, key="region_id"),
            seen_pictures=SeenPairs(index, "seen_pictures"),
            seen_regions=SeenPairs(index, "seen_regions"),
        )
        for split in SPLITS:
            table = paths.split_dialogues(split)
            for dialogue in progress(read_records(table, Dialogue), name=f"counting {split}", unit="dialogues"):
                counting.add(dialogue, split=split, table=table)
        if not counting.parts:
            raise DataError(f"{paths.split}: no dialogue in any split; run `dvc repro split`.")
        summary = read_json_object(paths.check_summary)
        checked, broken = _checked(summary, source=paths.check_summary)
        return DataStatistics(
            pictures_ingested=len(counting.pictures),
            rejected_by_sources=_count_lines(paths.rejected_table),
            parts=counting.finished(),
            licences=dict(counting.licences.most_common()),
            focus_words=tuple(counting.focus_words.most_common(num_focus_words)),
            dist_1_percent=counting.grams.dist_1_percent,
            dist_2_percent=counting.grams.dist_2_percent,
            dist_words=counting.grams.words,
            checked=checked,
            broken_rules=tuple(rule for rule in broken if rule.suite != WHOLE),
            unmet_bounds=tuple(rule.says for rule in broken if rule.suite == WHOLE),
            agreement=_agreement(Path(paths.annotate) / AGREEMENT),
        )


def read_json_object(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of an earlier stage.

    Raises:
        DataError: it is missing or is no such file.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage that makes it (`dvc repro`).") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}. Run the stage that makes it again (`dvc repro`).") from None
    if not isinstance(loaded, dict):
        raise DataError(
            f"{path}: expected an object, found {type(loaded).__name__}. Run the stage that makes it again."
        )
    return loaded


class _Part:
    """Counts of one part while they grow."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.lengths: dict[str, Counter[int]] = {name: Counter() for name in BIN_WIDTHS}
        self.areas: Counter[int] = Counter()
        self.sizes: Counter[str] = Counter()
        self.words: set[str] = set()
        self.foci: Counter[str] = Counter()

    def add(self, dialogue: Dialogue, measured: Measured) -> None:
        """Everything about a dialogue but its picture and its targets."""
        self.kinds[dialogue.kind] += 1
        self.counts["turns"] += len(dialogue.turns)
        self.counts["reasoning_turns"] += len(dialogue.turns) - 1 if dialogue.kind == "prist" else 0
        self.counts["turns_with_target"] += sum(bool(turn.targets) for turn in dialogue.turns)
        for name, values in measured.lengths.items():
            self.lengths[name].update(values)
        self.words |= measured.words
        if dialogue.focus:
            self.foci[focus_class(dialogue.focus)] += 1

    def add_target(self, canvas_px: float | None) -> None:
        """A region that is pointed at for the first time, with its mask's area on the canvas."""
        self.counts["targets"] += 1
        if canvas_px is None:
            self.counts["targets_without_mask"] += 1
        else:
            self.areas[round(canvas_px)] += 1
            self.sizes[size_class(canvas_px)] += 1

    def finished(self, axis: Axis, name: str) -> PartStatistics:
        """The counts, to be kept."""
        names = ("pictures", "turns", "reasoning_turns", "turns_with_target", "targets", "targets_without_mask")
        return PartStatistics(
            axis=axis,
            name=name,
            dialogues=self.kinds.total(),
            **{key: self.counts[key] for key in names},
            kinds=dict(self.kinds.most_common()),
            lengths={key: Distribution.of(self.lengths[key], bin_width=width) for key, width in BIN_WIDTHS.items()},
            masks=_mask_sizes(self.areas, self.sizes),
            vocabulary=len(self.words),
            focus_classes=tuple(
                FocusClass(super_class=CLASS_OF[name], sub_class=name, count=count)
                for name, count in self.foci.most_common()
            ),
        )


class _Counting:
    """The pass: each dialogue is counted in four parts (all, its split, its source, its kind)."""

    def __init__(
        self,
        *,
        pictures: RecordShelf[Picture],
        regions: RecordShelf[Region],
        seen_pictures: SeenPairs,
        seen_regions: SeenPairs,
    ) -> None:
        self.pictures, self.regions = pictures, regions
        self._seen_pictures, self._seen_regions = seen_pictures, seen_regions
        self.parts: dict[tuple[Axis, str], _Part] = {}
        self.licences: Counter[str] = Counter()
        self.focus_words: Counter[str] = Counter()
        self.grams = DistinctGrams()

    def add(self, dialogue: Dialogue, *, split: str, table: Path) -> None:
        """Counts one dialogue of a split.

        Raises:
            DataError: its picture or one of its regions is not in the tables.
        """
        picture = self._picture(dialogue, table)
        regions = {key: self._region(key, dialogue, table) for turn in dialogue.turns for key in turn.targets}
        measured = measure(dialogue, {key: region.phrase for key, region in regions.items()})
        source = (picture.source or NOT_STATED) if picture else NO_PICTURE
        keys: list[tuple[Axis, str]] = [("all", ""), ("split", split), ("source", source), ("kind", dialogue.kind)]
        for key in keys:
            part, label = self.parts.setdefault(key, _Part()), ":".join(key)
            part.add(dialogue, measured)
            if picture and self._seen_pictures.is_new(label, picture.image_id):
                part.counts["pictures"] += 1
                if key[0] == "all":
                    self.licences[picture.licence or NOT_STATED] += 1
            for region_id, region in regions.items():
                if self._seen_regions.is_new(label, region_id):
                    part.add_target(canvas_area_px(region.mask) if region.mask else None)
        for answer in measured.reasoning_answers:
            self.grams.add(answer)
        self.focus_words.update(content_words(dialogue.focus))

    def finished(self) -> tuple[PartStatistics, ...]:
        """All parts: the whole, splits in their order, then sources and kinds, the largest first."""
        done = [part.finished(axis, name) for (axis, name), part in self.parts.items()]
        axes: tuple[Axis, ...] = ("all", "split", "source", "kind")
        return tuple(
            sorted(
                done,
                key=lambda part: (
                    axes.index(part.axis),
                    SPLITS.index(part.name) if part.axis == "split" else -part.dialogues,
                    part.name,
                ),
            )
        )

    def _picture(self, dialogue: Dialogue, table: Path) -> Picture | None:
        if not dialogue.image_id:
            return None
        try:
            return self.pictures[dialogue.image_id]
        except KeyError:
            raise _not_together(dialogue, f"its picture {dialogue.image_id!r}", table) from None

    def _region(self, region_id: str, dialogue: Dialogue, table: Path) -> Region:
        try:
            return self.regions[region_id]
        except KeyError:
            raise _not_together(dialogue, f"its target {region_id!r}", table) from None


def _not_together(dialogue: Dialogue, missing: str, table: Path) -> DataError:
    return DataError(
        f"{table}: {dialogue.dialogue_id}: {missing} is in no table. The stages ran on different data: run "
        "`dvc repro split` again."
    )


def _mask_sizes(areas: Counter[int], sizes: Counter[str]) -> MaskSizes:
    octaves: Counter[int] = Counter()
    for area, count in areas.items():
        octaves[math.floor(BINS_PER_OCTAVE * math.log2(max(1, area)))] += count
    return MaskSizes(
        **{name: sizes[name] for name in SIZE_CLASSES},
        area_px=Distribution.of(areas, bin_width=2**14),
        by_half_octave=tuple(sorted(octaves.items())),
    )


def _checked(summary: Mapping[str, Any], *, source: Path) -> tuple[tuple[TableCounts, ...], list[BrokenRule]]:
    """What became of each table, and the rules that were broken, the most often broken first."""
    try:
        tables = tuple(
            TableCounts(table=name, **{key: counts[key] for key in ("rows", "passed", "quarantined")})
            for name, counts in summary["tables"].items()
        )
        broken = [
            BrokenRule(suite=suite, rule=name, **{key: rule[key] for key in ("says", "failed", "rows_checked")})
            for suite, rules in summary["rules"].items()
            for name, rule in rules.items()
            if rule["failed"]
        ]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f'{source}: expected counts of each table under "tables" and of each rule under "rules". Run the stage '
            "check again (`dvc repro check`)."
        ) from None
    return tables, sorted(broken, key=lambda rule: (-rule.failed, rule.rule))


def _agreement(path: Path) -> dict[str, Any]:
    found = read_json_object(path)
    if not found.get("all", {}).get("samples"):
        return {}
    return {name: value for name, value in found.items() if name != "samples"}


def _count_lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)
