"""Dealing samples, what lies in the folders, and that nobody's work is ever written over."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from miras.annotate.errors import WaitingForPeopleError
from miras.annotate.guide import GUIDE_FILE
from miras.annotate.manifest import MANIFEST, Manifest
from miras.dialogue.records import Region
from miras.files import read_records, write_records
from miras.sources.annotations import outline_mask
from tests.unit.annotate.workspace import HEIGHT, WIDTH, Workspace, config, dialogue, draw, region


def waits(workspace: Workspace) -> str:
    with pytest.raises(WaitingForPeopleError) as caught:
        workspace.run()
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_sample_is_picture_labelme_file_and_text_in_both_groups(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    waits(workspace)
    for group in ("a", "b"):
        file = workspace.file(group)
        content = json.loads(file.read_text("utf-8"))
        assert (file.parent / content["imagePath"]).read_bytes() == (workspace.paths.pictures / "i0.png").read_bytes()
        assert (content["imageHeight"], content["imageWidth"], content["imageData"]) == (HEIGHT, WIDTH, None)
        assert content["flags"] == {"finished": False, "not in the picture": False}
        assert content["shapes"] == []
        text = workspace.file(group, suffix=".txt").read_text("utf-8")
        assert "# Draw: mug 0" in text
        assert "A1: A mug, at 8 o'clock." in text
    assert "finished" in (workspace.people / GUIDE_FILE).read_text("utf-8")


def test_a_region_with_a_mask_starts_with_its_outline(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, scope="all")
    workspace.fill([0], drawn=True)
    waits(workspace)
    (shape,) = json.loads(workspace.file("a").read_text("utf-8"))["shapes"]
    assert shape["label"] == "mug 0"
    flat = [value for point in shape["points"] for value in point]
    assert outline_mask([flat], height=HEIGHT, width=WIDTH) == region(0, drawn=True).mask


def test_what_has_a_mask_or_no_dialogue_is_not_handed_out(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.fill([0, 1, 2], drawn=False, dialogues=[dialogue(0)])
    waits(workspace)
    assert [item.region_id for item in Manifest(workspace.people).samples.values()] == ["i0-r"]


def test_samples_are_dealt_evenly_to_groups_pairs_and_first_places(tmp_path: Path) -> None:
    groups = ["a", "b", "c", "d"]
    workspace = Workspace(tmp_path, count=12, groups=groups)
    waits(workspace)
    dealt = [tuple(item.outline_sha256) for item in Manifest(workspace.people).samples.values()]
    loads = Counter(group for pair in dealt for group in pair)
    assert loads == dict.fromkeys(groups, 6)
    assert Counter(frozenset(pair) for pair in dealt) == {frozenset(pair): 2 for pair in combinations(groups, 2)}
    assert max(Counter(pair[0] for pair in dealt).values()) <= 4


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=3)
    waits(workspace)
    before = contents(workspace.people)
    waits(workspace)
    assert contents(workspace.people) == before


def test_new_samples_are_added_and_saved_ones_kept(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=2)
    waits(workspace)
    draw(workspace.file("a"))
    saved = workspace.file("a").read_bytes()
    workspace.file("b").unlink()
    (workspace.people / GUIDE_FILE).unlink()
    workspace.fill(range(5))
    waits(workspace)
    assert workspace.file("a").read_bytes() == saved
    assert workspace.file("b").exists()
    assert len(Manifest(workspace.people).samples) == 5


def test_another_phrase_is_another_sample_and_the_old_drawing_stays(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    waits(workspace)
    old = workspace.file("a")
    draw(old)
    saved = old.read_bytes()
    write_records(workspace.paths.generated_regions, [region(0, phrase="blue mug")])
    waits(workspace)
    assert old.read_bytes() == saved
    assert len(list((workspace.people / "a").glob("*.json"))) == 2
    assert {line["state"] for line in workspace.status()} == {"open"}  # the new one; the old one is nobody's fault


def test_a_run_killed_while_handing_out_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=3, groups=["a", "b", "c"])
    waits(workspace)
    before = contents(workspace.people)
    manifest = workspace.people / MANIFEST
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(lines[0] + lines[1][:40])  # the second line was being written, the third sample not begun
    for path in workspace.people.rglob("i2-r-*"):
        path.unlink()
    waits(workspace)
    assert contents(workspace.people) == before


def test_dialogues_written_anew_replace_texts_that_nobody_touched(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    waits(workspace)
    text_b = workspace.file("b", suffix=".txt")
    text_b.write_text(text_b.read_text("utf-8").replace("8 o'clock", "9 o'clock"), "utf-8")
    corrected = text_b.read_bytes()
    turns = dialogue(0).turns
    anew = dialogue(0).model_copy(update={"turns": (turns[0].model_copy(update={"answer": "A red mug."}), turns[1])})
    workspace.fill([0], dialogues=[anew])
    for group in ("a", "b"):
        draw(workspace.file(group))
    waits(workspace)
    assert "A1: A red mug." in workspace.file("a", suffix=".txt").read_text("utf-8")
    assert text_b.read_bytes() == corrected
    (line,) = workspace.status()
    assert (line["group"], line["state"]) == ("b", "rejected")
    assert "written anew" in line["reason"]


def test_a_picture_that_is_gone_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=2)
    (workspace.paths.pictures / "i1.png").unlink()
    waits(workspace)
    for group in ("a", "b"):
        draw(workspace.file(group))
    workspace.run()
    regions = {r.region_id for r in read_records(workspace.paths.annotated_regions, Region)}
    assert "i0-r" in regions
    assert "i1-r" not in regions
    rejected = (Path(workspace.paths.annotate) / "rejected.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["where"] for line in rejected] == ["region i1-r", "dialogue d1"]
    assert "i1.png is gone" in rejected[0]


def test_region_ids_that_no_file_can_be_called_are_made_safe(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    ids = ["../../etc/x", "a b", "a_b", "A_B", "ü" * 200, "."]
    write_records(workspace.paths.generated_regions, [region(0).model_copy(update={"region_id": i}) for i in ids])
    turns = dialogue(0).turns
    speaking = dialogue(0).model_copy(update={"turns": (turns[0], turns[1].model_copy(update={"targets": tuple(ids)}))})
    write_records(workspace.paths.generated_dialogues, [speaking])
    waits(workspace)
    names = [path.name for path in (workspace.people / "a").glob("*.json")]
    assert len({name.lower() for name in names}) == len(ids)
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": ["a"]}, "per_sample is 2, but there are only 1"),
        ({"groups": ["a", "A"]}, "names one group twice"),
        ({"groups": ["a", "../b"]}, "cannot be a group's folder"),
        ({"groups": ["a", "adjudication"]}, "cannot be a group's folder"),
    ],
)
def test_groups_that_cannot_be_dealt_to_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)
    config(**changes, mode="off")  # then they do not matter
