"""Answers that people put right become samples that the stage `ingest` reads without loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from miras.chat import corrections as module
from miras.chat.answerers import Answerer
from miras.chat.corrections import CorrectionFolder, corrected_answer
from miras.chat.rooms import Room
from miras.dialogue.masks import decode
from miras.dialogue.records import Dialogue, Region, Rejected
from miras.errors import DataError
from miras.files import read_records
from miras.model.talk import mask_name
from miras.paths import Paths
from miras.sources import stage
from miras.sources.config import IngestConfig
from tests.unit.chat.conftest import square


class Factory:
    """What the data factory makes of a folder of corrections, by the section that lies in it."""

    def __init__(self, corrections: Path, folder: Path) -> None:
        (folder / "work").mkdir(parents=True)
        paths = Paths(**{name: str(folder / name) for name in Paths.model_fields})
        section: dict[str, Any] = YAML(typ="safe").load((corrections / "source.yaml").read_text())
        settings: dict[str, Any] = {
            "sources": section,
            "watched": "miras",
            "max_pictures": 100,
            "max_rejected_share": 0.0,
            "max_megapixels": 1,
            "ignore_categories": [],
        }
        stage.run(paths=paths, work=folder / "work", ingest=IngestConfig(**settings))
        self.dialogues = list(read_records(paths.source_dialogues, Dialogue))
        self.regions = {region.region_id: region for region in read_records(paths.region_table, Region)}
        self.rejected = list(read_records(paths.rejected_table, Rejected))

    def masks(self, region_ids: tuple[str, ...]) -> list[np.ndarray]:
        codes = [self.regions[region_id].mask for region_id in region_ids]
        return [decode(code) for code in codes if code is not None]


def put_right(room: Room, turn: int, *answer: Any) -> None:
    """As `corrected_answer` takes it, of the first model."""
    with room.put_right(0, turn, corrected_answer(*answer)):
        pass


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def test_a_corrected_dialogue_comes_back_from_the_data_factory_as_it_was_saved(told_room: Room, tmp_path: Path) -> None:
    better = square(4, 9)
    text = "One holds it by its left handle, here."
    put_right(told_room, 1, text, [("left handle", better)], [0])
    folder = CorrectionFolder(tmp_path / "corrections")
    path = folder.save(told_room, 0, answered_by="models:/miras/3")

    factory = Factory(folder.folder, tmp_path / "data")
    (dialogue,) = factory.dialogues
    first, second = dialogue.turns
    assert factory.rejected == []
    assert [turn.question for turn in dialogue.turns] == ["Which cups are there?", "Where does one hold this?"]
    assert first.answer == "I see the {target} and the {target}."
    assert first.names == ("left cup", "right cup")
    assert same(factory.masks(first.targets), [square(2, 12), square(20, 30)])
    assert second.answer == "One holds it by its {target}, here."
    assert second.names == ("left handle",)
    assert same(factory.masks(second.targets), [better])
    # One of two targets was spoken of: a mask pointed at, not the whole turn.
    assert second.refers_to == ()
    assert same(factory.masks(second.points_at), [square(2, 12)])
    (record,) = json.loads(path.read_text())
    assert record["miras"]["answered_by"] == "models:/miras/3"
    assert record["miras"]["corrected"] == {"1": "It is its handle."}


def test_a_question_about_all_masks_of_a_turn_refers_to_it_and_follows_their_correction(
    told_room: Room, tmp_path: Path
) -> None:
    talk = told_room.talks[0].state
    second = talk.said[1]
    both = (square(2, 12), square(20, 30))
    talk.said = (talk.said[0], type(second)(second.question, both, second.response))
    put_right(
        told_room, 0, "There is the mug and the glass.", [("mug", square(3, 12)), ("glass", square(20, 30))], [0, 1]
    )
    put_right(told_room, 1, "At its handle.", [("its handle", square(4, 6))], [0])
    folder = CorrectionFolder(tmp_path / "corrections")
    folder.save(told_room, 0, answered_by="one")
    (dialogue,) = Factory(folder.folder, tmp_path / "data").dialogues
    assert dialogue.turns[1].refers_to == (0,)
    assert dialogue.turns[1].points_at == ()


def test_saving_again_takes_the_place_of_the_sample_and_others_stay(told_room: Room, tmp_path: Path) -> None:
    folder = CorrectionFolder(tmp_path / "corrections")
    other = told_room.branch()
    put_right(other, 0, "A cup, the left cup.", [("left cup", square(2, 12))], [0])
    folder.save(other, 0, answered_by="one")
    for side in (8, 10, 14):
        put_right(told_room, 0, "Only the left cup.", [("left cup", square(2, side))], [0])
        folder.save(told_room, 0, answered_by="one")
    factory = Factory(folder.folder, tmp_path / "data")
    assert sorted(dialogue.turns[0].answer for dialogue in factory.dialogues) == [
        "A cup, the {target}.",
        "Only the {target}.",
    ]
    assert [len(dialogue.turns) for dialogue in factory.dialogues] == [1, 1]
    areas = sorted(int(decode(region.mask).sum()) for region in factory.regions.values() if region.mask)
    assert areas == [100, 144]
    assert len(json.loads((folder.folder / "masks.json").read_text())["annotations"]) == 2


@pytest.mark.parametrize("survives", [1, 2, 3])
def test_killed_at_any_moment_the_folder_can_be_read_and_saved_into_again(
    told_room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    """The folder's files are written one after the other; the process ends before the next one."""
    folder = CorrectionFolder(tmp_path / "corrections")
    put_right(told_room, 0, "Only the left cup.", [("left cup", square(2, 12))], [0])
    folder.save(told_room, 0, answered_by="one")
    put_right(told_room, 0, "Only the big cup.", [("big cup", square(1, 14))], [0])
    left = survives
    own_write, own_annotations = module.write_json, CorrectionFolder._write_annotations

    def die(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    def write(path: Path, value: Any) -> None:
        die()
        own_write(path, value)

    def write_annotations(self: CorrectionFolder, annotations: Any) -> None:
        die()
        own_annotations(self, annotations)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", write)
        patch.setattr(CorrectionFolder, "_write_annotations", write_annotations)
        with pytest.raises(KeyboardInterrupt):
            folder.save(told_room, 0, answered_by="one")
    (dialogue,) = Factory(folder.folder, tmp_path / "data").dialogues
    assert dialogue.turns[0].names == (("left cup",) if survives < 3 else ("big cup",))
    folder.save(told_room, 0, answered_by="one")
    (dialogue,) = Factory(folder.folder, tmp_path / "again").dialogues
    assert dialogue.turns[0].names == ("big cup",)


@pytest.mark.parametrize(
    ("text", "targets", "message"),
    [
        ("  ", [], "the answer is empty"),
        ("It is a cup [SEG].", [], "only the renderer may write"),
        ("It is a cup.", [("", square(1, 5))], "Mask 1 has no name"),
        ("It is a cup.", [("cup", square(5, 5))], "“cup” is empty"),
        ("It is a cupboard.", [("cup", square(1, 5))], "does not name “cup”"),
        ("b and a", [("a", square(1, 5)), ("b", square(1, 5))], "does not name “b” after the one before it"),
        ("The [OBJ].", [("[OBJ]", square(1, 5))], "only the renderer may write"),
    ],
)
def test_what_cannot_be_a_sample_is_refused_with_what_to_do(
    text: str, targets: list[tuple[str, np.ndarray]], message: str
) -> None:
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        corrected_answer(text, targets, [None] * len(targets))


def test_what_a_person_put_right_is_what_the_model_goes_on_from(answerers: list[Answerer], told_room: Room) -> None:
    better = square(4, 9)
    put_right(told_room, 0, "Only the left mug is there.", [("left mug", better)], [0])
    first, second = told_room.talks[0].state.said
    assert first.response.answer == "Only the [OBJ]left mug[SEG] is there."
    assert same([group.mask for group in first.response.groups], [better])
    assert same(list(second.masks), [better])  # the question was about what is now this
    assert told_room.own_targets(0, 0) == {mask_name(better): 0}

    told_room.talks[0].ask("And is it empty?")
    anew = answerers[0].model.dialogue(told_room.first.picture)
    anew.state.said = (first, second)
    assert anew.ask("And is it empty?").text == told_room.talks[0].answers[-1].text
    builder = answerers[0].model.talker.responder.builder
    prefix: Any = told_room.talks[0].state.prefix
    read = [token if isinstance(token, int) else token[0] for token in prefix.tokens]
    phrase = [builder.obj_id, *builder.encode("left mug"), builder.seg_id]
    assert any(read[at : at + len(phrase)] == phrase for at in range(len(read)))


def test_a_correction_that_cannot_be_saved_leaves_the_dialogue_as_it_was(told_room: Room) -> None:
    before = told_room.talks[0].state.said
    better = corrected_answer("Only the left mug.", [("left mug", square(4, 9))], [0])
    with pytest.raises(OSError, match="full"), told_room.put_right(0, 0, better):
        raise OSError("full")
    assert told_room.talks[0].state.said == before
    assert told_room.corrected == {}


def test_text_that_the_form_would_misread_is_refused_and_nothing_is_written(told_room: Room, tmp_path: Path) -> None:
    folder = CorrectionFolder(tmp_path / "corrections")
    put_right(told_room, 0, "See [MASK-DECODE:a|b|c] there.", [], [])
    with pytest.raises(DataError):
        folder.save(told_room, 0, answered_by="one")
    assert not (folder.folder / "conversations").exists()


def test_a_folder_that_is_not_ours_is_named(told_room: Room, tmp_path: Path) -> None:
    folder = CorrectionFolder(tmp_path)
    (tmp_path / "masks.json").write_text("[1]")
    put_right(told_room, 0, "Only the left cup.", [("left cup", square(2, 12))], [0])
    with pytest.raises(DataError, match="not as miras wrote it"):
        folder.save(told_room, 0, answered_by="one")
