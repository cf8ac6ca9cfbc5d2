"""What is judged, out of good files and bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.errors import DataError
from miras.evaluate.judge.reading import Chosen, find_pictures, read_judged
from miras.evaluate.judge.records import Judged
from miras.evaluate.records import Prediction, Question
from miras.files import read_records, write_records
from tests.unit.evaluate.judge.evaluation import JUDGED, config, predictions, questions


def read(folder: Path, judged: Judged = JUDGED, **changes: object) -> Chosen:
    files = folder / "questions.jsonl", folder / "predictions.jsonl"
    return read_judged(*files, judged=judged, config=config(**changes))


def rewrite(path: Path, records: list[Question] | list[Prediction]) -> None:
    write_records(path, records)


def test_markers_are_stripped_and_the_phrase_is_kept(folder: Path) -> None:
    chosen = read(folder)
    assert (len(chosen.dialogues), chosen.available) == (8, 8)
    dialogue = next(each for each in chosen.dialogues if each.dialogue_id == "p2-d0")
    assert [turn.answer for turn in dialogue.turns["reference"]][-1] == "Right answer 2, red mug."
    assert [turn.answer for turn in dialogue.turns["model"]] == [f"Right answer {turn}." for turn in range(3)]
    assert (dialogue.focus, dialogue.image_id, dialogue.silent_turns) == ("red mug", "p2", 0)


def test_the_choice_does_not_depend_on_whose_predictions_are_judged(folder: Path) -> None:
    chosen = [
        [dialogue.dialogue_id for dialogue in read(folder, judged, dialogues=5).dialogues]
        for judged in (JUDGED, Judged("dialogues", "stage1", "own"))
    ]
    assert chosen[0] == chosen[1]
    assert len({name.partition("-")[0] for name in chosen[0][:4]}) == 4


def test_missing_empty_and_failed_answers_are_silent_turns_that_stay(folder: Path) -> None:
    found = predictions()
    found[1] = found[1].model_copy(update={"answer": "[OBJ] [SEG]"})
    found[2] = found[2].model_copy(update={"answer": "", "error": "failed: time-out"})
    del found[4]
    rewrite(folder / "predictions.jsonl", found)
    silent = {dialogue.dialogue_id: dialogue.silent_turns for dialogue in read(folder).dialogues}
    assert (silent["p0-d0"], silent["p0-d1"], sum(silent.values())) == (2, 1, 3)
    assert len(silent) == 8


def test_predictions_for_a_part_of_the_benchmark_are_refused_before_anything_is_asked(folder: Path) -> None:
    rewrite(folder / "predictions.jsonl", predictions()[: 3 * 7])
    with pytest.raises(DataError, match=r"1 of the 8 chosen dialogues have no prediction.*'p3-d1'.*Predict the whole"):
        read(folder)
    assert read(folder, max_failed_share=0.2).dialogues[0].silent_turns in (0, 3)


@pytest.mark.parametrize(
    ("judged", "message"),
    [
        (
            Judged("dialogue", "stage2", "own"),
            r"no question of benchmark 'dialogue'; there are: dialogues \(24\); queries",
        ),
        (Judged("dialogues", "stage3", "own"), r"no prediction of dialogues, stage3, history own; there are: .*stage1"),
        (Judged("dialogues", "stage2", "none"), r"no prediction of dialogues, stage2, history none; there are"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(folder: Path, judged: Judged, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(folder, judged)


def test_an_entry_that_is_there_twice_is_refused(folder: Path) -> None:
    rewrite(folder / "predictions.jsonl", [*predictions(), predictions()[5]])
    with pytest.raises(DataError, match=r"predictions.jsonl: turn 2 of dialogue 'p0-d1' .* twice"):
        read(folder)
    rewrite(folder / "questions.jsonl", [*questions(), questions()[0]])
    with pytest.raises(DataError, match=r"questions.jsonl: turn 0 of dialogue 'p0-d0' .* twice"):
        read(folder)


def test_a_cut_line_is_named(folder: Path) -> None:
    path = folder / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"predictions.jsonl:48: not a Prediction"):
        read(folder)


def test_questions_and_predictions_in_any_order_give_the_same_dialogues(folder: Path) -> None:
    before = read(folder)
    for name, kind in (("questions.jsonl", Question), ("predictions.jsonl", Prediction)):
        write_records(folder / name, reversed(list(read_records(folder / name, kind))))
    assert read(folder) == before


def test_pictures_are_found_by_id_and_some_may_be_missing(folder: Path) -> None:
    dialogues = read(folder).dialogues
    (folder / "pictures" / "p1.png").rename(folder / "pictures" / "p1.jpeg")
    (folder / "pictures" / "p2.png").unlink()
    found = find_pictures(folder / "pictures", dialogues)
    assert sorted(found) == ["p0", "p1", "p2", "p3"]
    assert found["p1"].name == "p1.jpeg"
    assert not found["p2"].exists()
    named = [each.model_copy(update={"file_name": f"{each.image_id}.bmp"}) for each in questions()]
    rewrite(folder / "questions.jsonl", named)
    (folder / "pictures" / "p0.bmp").touch()
    found = find_pictures(folder / "pictures", read(folder).dialogues)
    assert [path.name for path in found.values() if path.is_file()] == ["p0.bmp"]
    with pytest.raises(DataError, match=r"none of the 4 pictures is there; expected files such as p0.png"):
        find_pictures(folder / "elsewhere", dialogues)


def test_a_name_that_leads_out_of_the_folder_finds_nothing(folder: Path) -> None:
    (folder / "pictures" / "p0.png").rename(folder / "secret.png")
    for update in ({"image_id": "../secret"}, {"image_id": "s", "file_name": str(folder / "secret.png")}):
        changed = [each.model_copy(update=update if each.image_id == "p0" else {}) for each in questions()]
        rewrite(folder / "questions.jsonl", changed)
        found = find_pictures(folder / "pictures", read(folder).dialogues)[update["image_id"]]
        assert not found.exists()
        assert found.parent == folder / "pictures"
