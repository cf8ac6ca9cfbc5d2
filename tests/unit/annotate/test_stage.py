"""The stage from end to end: agreement, adjudication, corrected text, what is published and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miras.annotate.errors import WaitingForPeopleError
from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region, Relation
from miras.errors import DataError
from miras.files import read_records, write_records
from tests.unit.annotate.workspace import ELSEWHERE, NEARLY, SQUARE, Workspace, dialogue, draw, edit, region


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    """One sample handed out to two groups."""
    workspace = Workspace(tmp_path)
    waits(workspace)
    return workspace


def waits(workspace: Workspace) -> str:
    with pytest.raises(WaitingForPeopleError) as caught:
        workspace.run()
    assert not Path(workspace.paths.annotate).exists()
    return str(caught.value)


def tick(content: dict[str, Any], *names: str) -> None:
    content["flags"].update(dict.fromkeys(names, True))


def regions(workspace: Workspace) -> dict[str, Region]:
    return {region.region_id: region for region in read_records(workspace.paths.annotated_regions, Region)}


def dialogues(workspace: Workspace) -> list[Dialogue]:
    return list(read_records(workspace.paths.annotated_dialogues, Dialogue))


def result(workspace: Workspace, name: str) -> Any:
    text = (Path(workspace.paths.annotate) / name).read_text("utf-8")
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def area(workspace: Workspace) -> int:
    mask = regions(workspace)["i0-r"].mask
    assert mask
    return masks.area_px(mask)


def correct(workspace: Workspace, group: str, new: str, old: str = "8 o'clock") -> None:
    path = workspace.file(group, suffix=".txt")
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def test_off_lets_everything_pass_byte_by_byte(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=3, mode="off")
    workspace.run()
    paths = workspace.paths
    expected = paths.region_table.read_bytes() + paths.generated_regions.read_bytes()
    assert paths.annotated_regions.read_bytes() == expected
    assert paths.annotated_dialogues.read_bytes() == paths.generated_dialogues.read_bytes()
    assert result(workspace, "agreement.json") == {
        "all": {"samples": 0},
        "groups": {},
        "pairs": {},
        "sizes": {},
        "samples": [],
    }
    assert not workspace.people.exists()


def test_off_needs_no_generated_regions_but_the_tables_before(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, mode="off")
    workspace.paths.generated_regions.unlink()
    workspace.run()
    assert workspace.paths.annotated_regions.read_bytes() == workspace.paths.region_table.read_bytes()
    workspace.paths.generated_dialogues.unlink()
    with pytest.raises(DataError, match="no such file"):
        workspace.run()


def test_the_message_says_how_many_are_open_where_and_how_to_go_on(out: Workspace) -> None:
    draw(out.file("a"), label="mugg")
    message = waits(out)
    for words in (
        "of 2 answers 0 are taken, 1 open, 1 rejected",
        "mugg",
        "people/a: 1 rejected",
        "status.jsonl",
        "resume",
    ):
        assert words in message


def test_masks_that_agree_are_published_with_their_agreement(out: Workspace) -> None:
    draw(out.file("a"))
    draw(out.file("b"), NEARLY)
    out.run()
    assert area(out) == 400  # the first group's own outline
    table = result(out, "agreement.json")
    assert table["pairs"]["a and b"]["iou"] == pytest.approx(380 / 400)
    assert table["sizes"]["coarse"]["samples"] == 1
    assert dialogues(out) == [dialogue(0)]
    assert regions(out)["i1000-r"].mask is not None
    assert out.status() == []


def test_the_first_place_rotates_so_that_no_group_decides_for_all(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=2)
    waits(workspace)
    for number in (0, 1):
        draw(workspace.file("a", number), label=f"mug {number}")
        draw(workspace.file("b", number), NEARLY, label=f"mug {number}")
    workspace.run()
    kept = [regions(workspace)[f"i{number}-r"].mask for number in (0, 1)]
    assert sorted(masks.area_px(mask) for mask in kept if mask) == [380, 400]


def test_of_three_groups_each_pixel_goes_with_two(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, groups=["a", "b", "c"], per_sample=3)
    waits(workspace)
    for group, right in (("a", 30), ("b", 31), ("c", 32)):
        draw(workspace.file(group), [[10, 10], [right, 10], [right, 30], [10, 30]])
    workspace.run()
    assert area(workspace) == 21 * 20


def test_a_disagreement_goes_to_the_adjudicator_who_decides(out: Workspace) -> None:
    draw(out.file("a"))
    draw(out.file("b"), ELSEWHERE)
    assert "people/adjudication: 1 open" in waits(out)
    shown = json.loads(out.file("adjudication").read_text("utf-8"))["shapes"]
    assert [shape["label"] for shape in shown] == ["mug 0 (a)", "mug 0 (b)"]
    waits(out)  # running again hands out nothing new
    edit(
        out.file("adjudication"),
        lambda content: (content["shapes"][1].update(label="mug 0"), tick(content, "finished")),
    )
    out.run()
    assert area(out) == 300
    assert result(out, "agreement.json")["all"]["iou"] == 0.0  # of the groups, before anybody decided


def test_low_kappa_alone_is_a_disagreement(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, min_iou=0.0, min_kappa=0.99)
    waits(workspace)
    draw(workspace.file("a"))
    draw(workspace.file("b"), NEARLY)
    assert "people/adjudication: 1 open" in waits(workspace)


def test_groups_that_come_to_agree_need_no_adjudicator(out: Workspace) -> None:
    draw(out.file("a"))
    draw(out.file("b"), ELSEWHERE)
    waits(out)
    edit(out.file("b"), lambda content: content["shapes"][0].update(points=SQUARE))
    out.run()
    assert area(out) == 400


def test_the_adjudicator_sees_the_groups_newest_outlines_until_he_saves(out: Workspace) -> None:
    draw(out.file("a"))
    draw(out.file("b"), ELSEWHERE)
    waits(out)
    edit(out.file("b"), lambda content: content["shapes"][0].update(points=[[0, 0], [5, 0], [5, 5], [0, 5]]))
    waits(out)
    shown = json.loads(out.file("adjudication").read_text("utf-8"))["shapes"]
    assert shown[1]["points"][0] == [0.0, 0.0]
    edit(out.file("adjudication"), lambda content: content["shapes"].pop())
    saved = out.file("adjudication").read_bytes()
    edit(out.file("b"), lambda content: content["shapes"][0].update(points=ELSEWHERE))
    waits(out)
    assert out.file("adjudication").read_bytes() == saved


def test_corrections_of_both_groups_are_joined_and_kept(out: Workspace) -> None:
    for group in ("a", "b"):
        draw(out.file(group))
    correct(out, "a", "9 o'clock")
    correct(out, "b", "Outline the mug.", old="Outline it.")
    out.run()
    (after,) = dialogues(out)
    assert after.turns[0].answer == "A mug, at 9 o'clock."
    assert after.turns[1].question == "Outline the mug."
    kept = result(out, "corrections.jsonl")
    assert [(line["groups"], line["change"]["before"]) for line in kept] == [
        (["a"], "A mug, at 8 o'clock."),
        (["b"], "Outline it."),
    ]


def test_contradicting_corrections_go_to_the_adjudicator(out: Workspace) -> None:
    for group, time in (("a", "9 o'clock"), ("b", "10 o'clock")):
        draw(out.file(group))
        correct(out, group, time)
    correct(out, "a", "Outline the mug.", old="Outline it.")
    waits(out)
    text = out.file("adjudication", suffix=".txt").read_text("utf-8")
    assert "# a would write: A mug, at 9 o'clock." in text
    assert "# b would write: A mug, at 10 o'clock." in text
    assert "Q2: Outline the mug." in text  # nobody contradicts this one
    correct(out, "adjudication", "A1: A mug, at 11 o'clock.", old="A1: A mug, at 8 o'clock.")
    draw(out.file("adjudication"))
    out.run()
    (after,) = dialogues(out)
    assert after.turns[0].answer == "A mug, at 11 o'clock."
    assert after.turns[1].question == "Outline the mug."
    assert [line["groups"] for line in result(out, "corrections.jsonl")] == [["a"], ["adjudication"]]


def test_what_both_say_is_not_there_is_left_out_with_its_dialogues(out: Workspace) -> None:
    for group in ("a", "b"):
        edit(out.file(group), lambda content: tick(content, "finished", "not in the picture"))
    out.run()
    assert set(regions(out)) == {"i1000-r"}
    assert dialogues(out) == []
    assert [line["where"] for line in result(out, "rejected.jsonl")] == ["region i0-r", "dialogue d0"]
    assert result(out, "agreement.json")["sizes"] == {"empty": result(out, "agreement.json")["all"]}


def test_nothing_points_at_what_is_left_out(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    handle = region(1000, drawn=True)
    on, by = Relation(predicate="on", object_id="i0-r"), Relation(predicate="by", object_id="elsewhere")
    handle = handle.model_copy(update={"parent_id": "i0-r", "relations": (on, by)})
    write_records(workspace.paths.region_table, [handle])
    waits(workspace)
    for group in ("a", "b"):
        edit(workspace.file(group), lambda content: tick(content, "finished", "not in the picture"))
    workspace.run()
    assert regions(workspace) == {"i1000-r": handle.model_copy(update={"parent_id": None, "relations": (by,)})}


def test_half_of_a_group_s_outline_is_no_decision(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    waits(workspace)
    for points in (SQUARE, ELSEWHERE):
        draw(workspace.file("a"), points)
    draw(workspace.file("b"), [[0, 0], [5, 0], [5, 5], [0, 5]])
    waits(workspace)
    shown = json.loads(workspace.file("adjudication").read_text("utf-8"))["shapes"]
    assert [(shape["label"], shape["group_id"]) for shape in shown] == [("mug 0 (a)", 1)] * 2 + [("mug 0 (b)", None)]
    rename = {"label": "mug 0"}
    edit(workspace.file("adjudication"), lambda c: (c["shapes"][0].update(rename), tick(c, "finished")))
    assert "Rename all of them" in waits(workspace)
    edit(workspace.file("adjudication"), lambda c: c["shapes"][1].update(rename))
    workspace.run()
    assert area(workspace) == 400 + 300


def test_there_or_not_there_is_a_disagreement(out: Workspace) -> None:
    edit(out.file("a"), lambda content: tick(content, "finished", "not in the picture"))
    draw(out.file("b"))
    waits(out)
    shown = json.loads(out.file("adjudication").read_text("utf-8"))["shapes"]
    assert [shape["label"] for shape in shown] == ["mug 0 (b)"]


def test_nothing_to_draw_passes_at_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.fill([0], drawn=True)
    workspace.run()
    assert len(regions(workspace)) == 2
    assert dialogues(workspace) == [dialogue(0)]


def test_a_group_that_is_no_longer_named_is_still_waited_for_and_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    waits(workspace)
    workspace.config = workspace.config.model_copy(update={"groups": ["c", "d"]})
    for group in ("a", "b"):
        draw(workspace.file(group))
    workspace.run()
    assert area(workspace) == 400
    assert not (workspace.people / "c").exists()
