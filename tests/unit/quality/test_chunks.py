"""Chunks: every record once, pictures whole, and the verdict is the same however the tables are cut or ordered."""

from __future__ import annotations

import random
from contextlib import ExitStack, closing
from functools import reduce
from operator import add
from pathlib import Path

import pytest

from miras.dialogue.records import Dialogue, Picture, Region, Turn
from miras.errors import DataError
from miras.files import write_records
from miras.paths import Paths
from miras.quality.chunks import Chunk, LineIndex, chunks, dialogue_keys, region_keys
from miras.quality.judge import judge, judge_chunk
from miras.quality.tally import Tally
from miras.quality.word_list import read_word_list
from tests.unit.quality.good_records import CHECK, NO_WORDS, DataSet, good, square, store

WORDS = read_word_list(str(NO_WORDS), emails=True, phones=True)


def faulty() -> DataSet:
    """Good pictures, and faults that only show when records of different pictures are compared."""
    data = reduce(add, (good(f"good{number}") for number in range(9)))
    same_id = good("same_id")
    same = same_id.regions[2].model_copy(update={"region_id": "good0/lamp"})
    stranger = good("stranger").with_dialogue(
        1, turns=(Turn(question="Where is it?", answer="{target}", targets=("good1/mug",)),)
    )
    adopted = good("adopted").with_region(1, parent_id="good2/mug")
    twice = good("twice").dialogues[2].model_copy(update={"dialogue_id": "good3-caption"})
    small = good("small").with_region(1, mask=square(1))
    others = same_id + stranger + adopted + good("twice") + small
    return data + DataSet((), (same,), (twice,)) + others


def shuffled(data: DataSet) -> DataSet:
    dice = random.Random(0)
    return DataSet(
        pictures=tuple(dice.sample(data.pictures, len(data.pictures))),
        regions=tuple(dice.sample(data.regions, len(data.regions))),
        dialogues=tuple(dice.sample(data.dialogues, len(data.dialogues))),
    )


def in_chunks(paths: Paths, *, rows: int) -> list[Chunk]:
    with ExitStack() as stack:
        indexes = (
            stack.enter_context(closing(LineIndex(paths.annotated_regions, Region, region_keys))),
            stack.enter_context(closing(LineIndex(paths.annotated_dialogues, Dialogue, dialogue_keys))),
            stack.enter_context(
                closing(LineIndex(paths.picture_table, Picture, lambda item: (item.image_id, item.image_id)))
            ),
        )
        return list(chunks(*indexes, rows=rows))


def reasons_of(*verdicts: object) -> dict[str, list[dict[str, str]]]:
    """Record id -> what is wrong with the records that have it."""
    found: dict[str, list[dict[str, str]]] = {}
    for verdict in verdicts:
        for table in (verdict.regions, verdict.dialogues):  # type: ignore[attr-defined]
            for row, reasons in table.reasons.items():
                found.setdefault(table.ids[row], []).append(reasons)
    return found


def test_the_verdict_is_the_same_however_the_tables_are_cut(paths: Paths) -> None:
    data = shuffled(faulty())
    store(paths, data)
    cut = in_chunks(paths, rows=25)
    assert len(cut) > 2
    pictures = {picture.image_id: picture for picture in data.pictures}
    whole = judge(data.dialogues, data.regions, pictures=pictures, check=CHECK, words=WORDS)
    found = reasons_of(*(judge_chunk(chunk, check=CHECK, words=WORDS) for chunk in cut))
    assert found == reasons_of(whole)
    assert {rule for each in found.values() for reasons in each for rule in reasons} >= {
        "region_id_unique", "dialogue_id_unique", "targets_in_picture", "parent_exists", "target_large_enough",
    }  # fmt: skip


@pytest.mark.parametrize("rows", [1, 17])
def test_every_record_is_in_one_chunk_and_pictures_are_whole(paths: Paths, rows: int) -> None:
    data = shuffled(faulty())
    store(paths, data)
    cut = in_chunks(paths, rows=rows)
    assert sorted(row for chunk in cut for row in chunk.region_rows) == list(range(len(data.regions)))
    assert sorted(row for chunk in cut for row in chunk.dialogue_rows) == list(range(len(data.dialogues)))
    for chunk in cut:
        assert [data.regions[row] for row in chunk.region_rows] == list(chunk.regions)
        assert [data.dialogues[row] for row in chunk.dialogue_rows] == list(chunk.dialogues)
    seen = [
        {region.image_id for region in chunk.regions} | {dialogue.image_id for dialogue in chunk.dialogues}
        for chunk in cut
    ]
    assert sum(map(len, seen)) == len(set().union(*seen))


def test_dialogues_without_picture_that_say_the_same_meet_in_one_chunk(paths: Paths) -> None:
    turn = Turn(question="What is a mug?", answer="A cup.")
    talks = [Dialogue(dialogue_id=f"t{n}", image_id="", kind="vqa", focus="", turns=(turn,)) for n in range(2)]
    other = talks[0].model_copy(update={"dialogue_id": "o", "turns": (turn.model_copy(update={"answer": "Clay."}),)})
    store(paths, good("a"))
    write_records(paths.annotated_dialogues, [talks[0], other, talks[1]])
    found = reasons_of(*(judge_chunk(chunk, check=CHECK, words=WORDS) for chunk in in_chunks(paths, rows=5)))
    assert {key: list(reasons[0]) for key, reasons in found.items()} == {"t1": ["not_repeated"]}


def test_a_broken_line_is_named(paths: Paths) -> None:
    store(paths, good("a"))
    with paths.annotated_regions.open("a", encoding="utf-8") as lines:
        lines.write('{"region_id": "x"}\n')
    with pytest.raises(DataError, match=r"regions\.jsonl:4: not a Region: image_id: Field required"):
        in_chunks(paths, rows=10)


def test_the_sum_over_chunks_is_the_result_on_the_whole(paths: Paths, tmp_path: Path) -> None:
    store(paths, faulty())
    tallies = []
    for rows in (40, 10_000):
        tally = Tally()
        for chunk in in_chunks(paths, rows=rows):
            tally.add(judge_chunk(chunk, check=CHECK, words=WORDS))
        tallies.append(tally)
    many, one = tallies
    for small, large in zip(many.suites, one.suites, strict=True):
        assert (small.rows, small.rows_failed) == (large.rows, large.rows_failed)
        for mine, theirs in zip(small.rules, large.rules, strict=True):
            assert (mine.rows_checked, mine.failed) == (theirs.rows_checked, theirs.failed)
            assert mine.raw["success"] == theirs.raw["success"]
            for name in ("element_count", "unexpected_count", "unexpected_percent"):
                assert mine.raw["result"][name] == pytest.approx(theirs.raw["result"][name])
    assert many.target_sizes == one.target_sizes
    assert many.focus_classes == one.focus_classes
    assert many.repetition_across_pictures() == one.repetition_across_pictures()
