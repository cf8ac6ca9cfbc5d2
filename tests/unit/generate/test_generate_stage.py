"""The stage: files of typed records, the same bytes again, pictures that do not influence each other."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from miras.dialogue.records import Dialogue, Picture, Region
from miras.errors import DataError
from miras.files import read_records, write_records
from miras.generate import stage
from miras.generate.annotated import part_names, write_about
from miras.generate.config import GenerateConfig
from miras.generate.elements import PictureElements
from miras.generate.tree import ReasoningTree
from miras.paths import Paths
from miras.sources.scenes import CATEGORIES
from tests.unit.generate.conftest import CONFIG


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    folders = {name: str(tmp_path / name) for name in Paths.model_fields}
    return Paths(**folders)


def ingest(paths: Paths, regions: dict[str, list[Region]]) -> None:
    pictures = [
        Picture(image_id=image_id, file_name=f"{image_id}.png", height=128, width=128, sha256="0")
        for image_id in regions
    ]
    write_records(paths.picture_table, pictures)
    write_records(paths.source_dialogues, [])
    write_records(paths.region_table, (region for group in regions.values() for region in group))


def read_all(paths: Paths) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(paths.generate).iterdir()}


def test_the_stage_writes_dialogues_elements_and_trees(paths: Paths, scene_regions_with_phrases) -> None:
    ingest(paths, scene_regions_with_phrases)
    stage.run(paths=paths, work=Path(paths.generate).parent, generate=CONFIG)
    dialogues = list(read_records(paths.generated_dialogues, Dialogue))
    elements = list(read_records(Path(paths.generate) / "elements.jsonl", PictureElements))
    trees = list(read_records(Path(paths.generate) / "trees.jsonl", ReasoningTree))
    assert {d.image_id for d in dialogues} == set(scene_regions_with_phrases)
    for written, regions in zip(elements, scene_regions_with_phrases.values(), strict=True):
        assert [element.region_id for element in written.elements] == [r.region_id for r in regions]
        assert [element.caption for element in written.elements] == [r.phrase for r in regions]
    paths_by_dialogue = {path.dialogue_id for tree in trees for path in tree.paths}
    assert paths_by_dialogue == {d.dialogue_id for d in dialogues if d.kind == "prist"}


def test_the_same_input_gives_the_same_bytes_and_another_seed_others(paths: Paths, scene_regions_with_phrases) -> None:
    ingest(paths, scene_regions_with_phrases)
    results = []
    for config in (CONFIG, CONFIG, CONFIG.model_copy(update={"seed": 1})):
        stage.run(paths=paths, work=Path(paths.generate).parent, generate=config)
        results.append(read_all(paths))
    assert results[0] == results[1]
    assert results[0]["dialogues.jsonl"] != results[2]["dialogues.jsonl"]


def test_adding_pictures_changes_nothing_for_the_others(paths: Paths, scene_regions_with_phrases) -> None:
    few = dict(list(scene_regions_with_phrases.items())[:20])
    ingest(paths, few)
    stage.run(paths=paths, work=Path(paths.generate).parent, generate=CONFIG)
    before = read_all(paths)["dialogues.jsonl"].decode()
    ingest(paths, scene_regions_with_phrases)
    stage.run(paths=paths, work=Path(paths.generate).parent, generate=CONFIG)
    assert read_all(paths)["dialogues.jsonl"].decode().startswith(before)


def test_mrseg_dialogues_and_hard_pairs_come_with_their_keys_alone(paths: Paths, scene_regions_with_phrases) -> None:
    ingest(paths, scene_regions_with_phrases)
    ids: dict[tuple[int, int], list[str]] = {}
    for count, pairs in ((0, 0), (2, 0), (0, 1)):
        config = CONFIG.model_copy(update={"mrseg_per_picture": count, "hard_pairs_per_picture": pairs})
        stage.run(paths=paths, work=Path(paths.generate).parent, generate=config)
        written = read_records(paths.generated_dialogues, Dialogue)
        ids[count, pairs] = [dialogue.dialogue_id for dialogue in written if dialogue.kind == "mrseg"]
    assert ids[0, 0] == []
    assert sum("-mrseg-" in name for name in ids[2, 0]) == 2 * len(scene_regions_with_phrases)
    assert not any("-hard-" in name for name in ids[2, 0])
    assert {name.split("-", 3)[3].rsplit("-", 1)[0] for name in ids[0, 1]} == {"mrseg", "hard-other", "hard-same"}


def test_mrseg_dialogues_leave_the_others_as_they_are(scene_regions_with_phrases) -> None:
    image_id, regions = next(iter(scene_regions_with_phrases.items()))
    more = CONFIG.model_copy(update={"mrseg_per_picture": 3, "hard_pairs_per_picture": 1})
    without, with_them = (write_about(image_id, regions, CATEGORIES, config) for config in (CONFIG, more))
    assert with_them.dialogues[: len(without.dialogues)] == without.dialogues
    added = with_them.dialogues[len(without.dialogues) :]
    assert {d.kind for d in added if "-attribute-" not in d.dialogue_id} == {"mrseg"}
    assert {d.kind for d in added if "-attribute-" in d.dialogue_id} <= {"referring"}


def test_held_out_wording_changes_the_questions(scene_regions_with_phrases) -> None:
    questions = []
    for wording in ("train", "held_out"):
        config = CONFIG.model_copy(update={"mrseg_per_picture": 3, "wording": wording})
        written = [write_about(key, group, CATEGORIES, config) for key, group in scene_regions_with_phrases.items()]
        questions.append(
            {turn.question for each in written for d in each.dialogues if d.kind == "mrseg" for turn in d.turns}
        )
    assert not questions[0] & questions[1]


def test_part_names_are_those_of_the_whole_data_set(box) -> None:
    regions = [
        box("a", "mug", (0, 0, 20, 20)),
        box("a.1", "handle", (0, 0, 5, 5), parent="a"),
        box("b", "mug", (40, 0, 60, 20)),
        box("b.1", "front_rim", (40, 0, 50, 5), parent="b"),
        box("c", "clock", (70, 70, 90, 90)),
    ]
    assert part_names(regions) == {"mug": frozenset({"handle", "front rim"})}


def test_pictures_without_usable_regions_stop_the_stage_with_a_reason(paths: Paths) -> None:
    ingest(paths, {"p": []})
    with pytest.raises(DataError, match="no region that a dialogue could be about"):
        stage.run(paths=paths, work=Path(paths.generate).parent, generate=CONFIG)
    assert not Path(paths.generate).exists()


def test_turn_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_turns"):
        GenerateConfig.model_validate(CONFIG.model_dump() | {"min_turns": 5, "max_turns": 3})
