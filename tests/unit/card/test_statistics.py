"""Statistics of a finished data set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean, median

import pytest

from miras.card.counting import DistinctGrams, Distribution
from miras.card.measures import content_words, measure
from miras.card.papers import STATED, table_2, table_8
from miras.card.statistics import DataStatistics, statistics
from miras.card.tables import as_json, headline
from miras.dialogue.records import Dialogue, Turn
from miras.errors import DataError
from miras.files import write_json
from miras.paths import Paths
from tests.unit.card.conftest import dialogues_of, store_dialogues


@pytest.fixture
def found(paths: Paths, tmp_path: Path) -> DataStatistics:
    return statistics(paths, work=tmp_path / "work", num_focus_words=3)


def test_every_dialogue_is_counted_once_along_each_division(found: DataStatistics) -> None:
    assert found.whole.dialogues == 16
    for axis in ("split", "source", "kind"):
        parts = found.along(axis)
        assert sum(part.dialogues for part in parts) == 16
        assert sum((Counter(part.kinds) for part in parts), Counter()) == Counter(found.whole.kinds)
    assert {part.name: part.dialogues for part in found.along("source")} == {"yours": 10, "mine": 5, "(no picture)": 1}
    assert [part.name for part in found.along("split")] == ["train", "val", "test"]


def test_a_region_asked_for_by_several_dialogues_counts_once(found: DataStatistics) -> None:
    assert found.whole.pictures == 3
    assert found.whole.targets == 9  # mug, handle and lamp in three pictures
    prist = found.part("kind", "prist")
    assert prist is not None
    assert (prist.targets, prist.turns, prist.reasoning_turns, prist.turns_with_target) == (6, 18, 12, 6)
    sizes = found.whole.masks
    assert sizes.fine + sizes.medium + sizes.coarse == sizes.area_px.count == 9
    # A handle of 48 px in a picture of 96: 48 * (1024 / 96)**2.
    assert sizes.area_px.least == round(48 * (1024 / 96) ** 2)


def test_a_target_without_mask_is_named_and_has_no_size(paths: Paths, tmp_path: Path) -> None:
    turn = Turn(question="Where is dust?", answer="{target}.", targets=("a/dust",))
    dialogue = Dialogue(dialogue_id="x", image_id="a", kind="referring", focus="dust", turns=(turn,))
    store_dialogues(paths, "train", [dialogue])
    part = statistics(paths, work=tmp_path, num_focus_words=3).part("split", "train")
    assert part is not None
    assert (part.targets, part.targets_without_mask, part.masks.area_px.count) == (1, 1, 0)


def test_lengths_are_of_the_text_a_person_reads(paths: Paths) -> None:
    dialogue = dialogues_of("a")[0]
    lengths = measure(dialogue, {"a/handle": "handle of the red mug"}).lengths
    assert lengths["words_per_answer"] == [6, 5, 8]  # "It is the handle of the red mug."
    assert lengths["words_per_question"] == [5, 5, 3]
    assert lengths["words_per_dialogue"] == [32]
    assert lengths["tokens_per_dialogue"] == [32 + 6]
    assert lengths["words_per_focus"] == [5]


def test_reasoning_answers_alone_make_the_distinct_grams(found: DataStatistics) -> None:
    # The same two answers in six dialogues: 11 words each time, of which 10 differ ("the" twice).
    assert found.dist_words == 66
    assert found.dist_1_percent == pytest.approx(100 * 10 / 66, abs=0.01)


def test_distinct_grams_match_the_plain_definition() -> None:
    texts = ["a b a b", "b a c", "c", ""]
    grams = DistinctGrams()
    for text in texts:
        grams.add(text)
    assert grams.dist_1_percent == pytest.approx(100 * 3 / 8)
    assert grams.dist_2_percent == pytest.approx(100 * 3 / 5)  # ab ba ab | ba ac: three different of five
    assert DistinctGrams().dist_2_percent == 0


@pytest.mark.parametrize("values", [[3], [1, 2], [5, 1, 1, 9, 2, 2], list(range(100))])
def test_a_distribution_matches_the_plain_definitions(values: list[int]) -> None:
    found = Distribution.of(Counter(values), bin_width=5)
    assert (found.count, found.least, found.most) == (len(values), min(values), max(values))
    assert found.mean == pytest.approx(fmean(values), abs=1e-4)
    assert found.median == median(values)
    assert sum(count for _, count in found.histogram) == len(values)
    assert all(low % 5 == 0 for low, _ in found.histogram)


def test_nothing_has_no_distribution_but_zeros() -> None:
    assert Distribution.of(Counter(), bin_width=1).histogram == ()


def test_content_words_of_a_focus() -> None:
    assert content_words("the Handle of the red mug's handle on 5") == ["handle", "red", "mug's"]


def test_licences_and_refused_records_are_told(found: DataStatistics) -> None:
    assert found.licences == {"not stated": 2, "cc-by-4.0": 1}
    assert [(rule.rule, rule.failed) for rule in found.broken_rules] == [("target_has_mask", 2)]
    (table,) = found.checked
    assert table.rows == table.passed + table.quarantined


def test_agreement_is_told_without_single_samples(paths: Paths, tmp_path: Path) -> None:
    figures = {"samples": 2, "iou": 0.9, "kappa": 0.8, "iou_pooled": 0.9, "kappa_pooled": 0.8}
    agreement = {"all": figures, "groups": {"g1": figures}, "pairs": {}, "sizes": {}, "samples": [{"sample": "s"}]}
    write_json(Path(paths.annotate) / "agreement.json", agreement)
    found = statistics(paths, work=tmp_path, num_focus_words=3)
    assert dict(headline(found))["agreement_kappa"] == 0.8
    assert "samples" not in found.agreement
    assert as_json(found)["agreement"] == [{"division": "groups", "part": "g1", **figures}]


def test_the_file_has_numbers_on_top_and_flat_tables_below(found: DataStatistics) -> None:
    values = as_json(found)
    numbers = {name for name, value in values.items() if isinstance(value, int | float)}
    assert {"dialogues", "dialogues_train", "fine_percent", "dist_2_percent", "quarantined_dialogues"} <= numbers
    tables = [value for name, value in values.items() if name not in numbers]
    assert all(isinstance(row, dict) for table in tables for row in table)
    assert not [cell for table in tables for row in table for cell in row.values() if isinstance(cell, dict)]


def test_table_2_is_of_prist_dialogues_and_states_the_papers_numbers(found: DataStatistics) -> None:
    rows = {row.name: row for row in table_2(found)}
    assert (rows["Dialogues"].ours, rows["Dialogues"].paper) == ("6", "8,320")
    assert rows["Utterances (turns without the last)"].ours == "12"
    assert rows["Turns, mean / most"].ours == "3.0 / 3"
    own = table_8(found, name="mine")[-1]
    assert (own.pictures, own.regions, own.samples, own.multi_turn, own.steps) == ("3", "9", "16", "+", "3.0")
    assert STATED[-1].samples == "8.3K"


@pytest.mark.parametrize("field", ["image_id", "targets"])
def test_tables_of_different_runs_are_refused(paths: Paths, tmp_path: Path, field: str) -> None:
    dialogue = dialogues_of("a")[3]
    turn = dialogue.turns[0].model_copy(update={"targets": ("gone",)})
    changes = {"image_id": {"image_id": "gone"}, "targets": {"turns": (turn,)}}[field]
    store_dialogues(paths, "val", [dialogue.model_copy(update=changes)])
    with pytest.raises(DataError, match=r"'gone' is in no table.*dvc repro"):
        statistics(paths, work=tmp_path, num_focus_words=3)


def test_no_dialogue_at_all_is_refused(paths: Paths, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        store_dialogues(paths, split, [])
    with pytest.raises(DataError, match="no dialogue in any split"):
        statistics(paths, work=tmp_path, num_focus_words=3)


def test_the_index_leaves_nothing_behind(found: DataStatistics, tmp_path: Path) -> None:
    assert list((tmp_path / "work").iterdir()) == []
