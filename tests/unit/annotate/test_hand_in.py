"""What annotators do to the files they are given: every fault is one clear line, and nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miras.annotate.errors import WaitingForPeopleError
from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.files import read_records, write_records
from tests.unit.annotate.workspace import ELSEWHERE, SQUARE, Workspace, draw, edit, region


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    """One sample handed out to two groups; group b has drawn it."""
    workspace = Workspace(tmp_path)
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    draw(workspace.file("b"))
    return workspace


def answer(workspace: Workspace) -> dict[str, Any]:
    """The one line that is left open."""
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    (line,) = workspace.status()
    return line


def mask_area(workspace: Workspace) -> int:
    found = next(r for r in read_records(workspace.paths.annotated_regions, Region) if r.region_id == "i0-r")
    assert found.mask
    return masks.area_px(found.mask)


def tick(content: dict[str, Any], name: str = "finished") -> None:
    content["flags"][name] = True


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing": (lambda p: None, "open", "nothing has been saved"),
    "not ticked": (lambda p: (draw(p), edit(p, lambda c: c["flags"].update(finished=False))), "open", "not ticked"),
    "flags gone": (lambda p: (draw(p), edit(p, lambda c: c.pop("flags"))), "open", "not ticked"),
    "no outline": (lambda p: edit(p, tick), "rejected", "no outline with the label 'mug 0'"),
    "near label": (lambda p: draw(p, label="mugg 0"), "rejected", "the label 'mugg 0'; meant is probably 'mug 0'"),
    "far label": (lambda p: draw(p, label="xyz"), "rejected", "the label 'xyz'; expected was 'mug 0'"),
    "a label is no text": (lambda p: draw(p, label=7), "rejected", "the label 7"),  # type: ignore[arg-type]
    "another size": (lambda p: draw(p, imageHeight=80, imageWidth=120), "rejected", "120 x 80 px, handed out was"),
    "a line alone": (
        lambda p: (draw(p), edit(p, lambda c: c["shapes"][0].update(shape_type="line"))),
        "rejected",
        "no outline with the label 'mug 0'",
    ),
    "two corners": (lambda p: draw(p, [[1, 1], [9, 9]]), "rejected", "outline 1: a polygon has 2 points"),
    "outside": (lambda p: draw(p, [[100, 100], [120, 100], [120, 120]]), "rejected", "covers no pixel"),
    "text as numbers": (lambda p: draw(p, [["1", "1"], ["5", "1"], ["5", "5"]]), "rejected", "expected a number"),
    "cut off": (lambda p: (draw(p), p.write_text(p.read_text()[:300])), "rejected", "not JSON, or cut off"),
    "empty file": (lambda p: p.write_text(""), "rejected", "not JSON, or cut off"),
    "no shapes": (lambda p: (draw(p), edit(p, lambda c: c.pop("shapes"))), "rejected", "not a Labelme file"),
    "a list": (lambda p: p.write_text("[]"), "rejected", "not a Labelme file"),
    "binary": (lambda p: p.write_bytes(b"\x81\x8d" * 9), "rejected", "not text in"),
    "both": (
        lambda p: (draw(p), edit(p, lambda c: tick(c, "not in the picture"))),
        "rejected",
        "'not in the picture' is ticked, and there is an outline",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_clear_line(out: Workspace, fault: str) -> None:
    make, state, reason = FAULTS[fault]
    make(out.file("a"))
    line = answer(out)
    assert (line["group"], line["state"]) == ("a", state)
    assert re.search(reason, line["reason"]), line["reason"]
    assert "\n" not in line["reason"]
    assert not Path(out.paths.annotate).exists()


def test_the_file_of_a_fault_stays_and_is_taken_once_it_is_right(out: Workspace) -> None:
    draw(out.file("a"), label="mugg 0")
    saved = out.file("a").read_bytes()
    answer(out)
    assert out.file("a").read_bytes() == saved
    edit(out.file("a"), lambda content: content["shapes"][0].update(label="mug 0"))
    out.run()
    assert mask_area(out) == 400


def test_a_line_beside_the_outline_does_not_count(out: Workspace) -> None:
    draw(out.file("a"))
    line = {"label": "mug 0", "points": [[1, 1], [5, 5]], "shape_type": "line", "flags": {}}
    edit(out.file("a"), lambda content: content["shapes"].append(line))
    out.run()
    assert mask_area(out) == 400


def test_several_outlines_are_one_mask_and_capitals_do_not_matter(out: Workspace) -> None:
    for group in ("a", "b"):
        draw(out.file(group), ELSEWHERE, label="MUG_0 ")
    draw(out.file("a"))
    out.run()
    assert mask_area(out) == 400 + 300


def test_proposals_that_nobody_renamed_do_not_count(out: Workspace) -> None:
    draw(out.file("a"))
    draw(out.file("a"), ELSEWHERE, label="proposal 3")
    out.run()
    assert mask_area(out) == 400


def test_a_file_in_the_windows_code_page_is_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_records(workspace.paths.generated_regions, [region(0, phrase="Café “Zoë”")])
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    for group in ("a", "b"):
        draw(workspace.file(group), label="Café “Zoë”")
        for suffix in (".json", ".txt"):
            path = workspace.file(group, suffix=suffix)
            path.write_bytes(path.read_text("utf-8").replace("8 o'clock", "9 o’clock").encode("cp1252"))
    workspace.run()
    (line,) = (Path(workspace.paths.annotate) / "corrections.jsonl").read_text("utf-8").splitlines()
    found = json.loads(line)
    assert found["groups"] == ["a", "b"]
    assert found["change"]["after"] == "A mug, at 9 o’clock."
    assert mask_area(workspace) == 400


def test_an_outline_given_to_start_with_can_be_confirmed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, scope="all")
    workspace.fill([0], drawn=True)
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    for group in ("a", "b"):
        edit(workspace.file(group), tick)
    workspace.run()
    assert mask_area(workspace) == 100


@pytest.mark.parametrize("name", ["{} (1).json", "{} - Copy.json", "{}_2.JSON", "{}.json.json"])
def test_copies_that_differ_are_refused_by_name(out: Workspace, name: str) -> None:
    first = out.file("a")
    copy = first.with_name(name.format(first.stem))
    draw(first, ELSEWHERE, to=copy)
    draw(first)
    line = answer(out)
    assert line["state"] == "rejected"
    assert copy.name in line["reason"]
    assert "2 answers to one sample, and they differ" in line["reason"]
    copy.unlink()
    out.run()
    assert mask_area(out) == 400


def test_three_files_that_say_the_same_are_one_answer(out: Workspace) -> None:
    first = out.file("a")
    draw(first)
    for number in (1, 2):
        shutil.copyfile(first, first.with_name(f"{first.stem} ({number}).json"))
    out.run()
    assert mask_area(out) == 400


def test_a_copy_alone_is_the_answer_where_the_first_file_was_never_saved(out: Workspace) -> None:
    first = out.file("a")
    draw(first, SQUARE, to=first.with_name(f"{first.stem} (1).json"))
    out.run()
    assert mask_area(out) == 400


def test_a_file_of_no_sample_is_listed_and_kept(out: Workspace) -> None:
    stranger = out.people / "a" / "mug.json"
    draw(out.file("a"), to=stranger)
    draw(out.file("a"))
    out.run()
    assert stranger.exists()
    assert "belongs to no sample" in (Path(out.paths.annotate) / "rejected.jsonl").read_text("utf-8")


def test_a_drawing_of_a_group_that_was_not_asked_is_listed_not_swallowed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, count=2, groups=["a", "b", "c"])
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    asked = {group: {path.stem for path in (workspace.people / group).glob("*.json")} for group in "abc"}
    third, sample = next((group, name) for group in "abc" for name in set().union(*asked.values()) - asked[group])
    giver = next(group for group in "abc" if sample in asked[group])
    number = int(sample[1])
    copy = workspace.people / third / f"{sample}.json"
    draw(workspace.file(giver, number), to=copy)
    with pytest.raises(WaitingForPeopleError, match="was handed out to others, not to this folder"):
        workspace.run()
    assert copy.exists()
    assert [line["where"] for line in workspace.status() if "where" in line] == [str(copy)]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("a/saved/{}.json", "only files beside the pictures are read"),
        ("a/{} (1).txt", "only i0-r-.*txt is read"),
        ("a (1)/{}.json", "lies in no folder that is read"),
        ("{}.json", "lies in no folder that is read"),
        ("adjudication/{}.json", "was handed out to others"),
    ],
)
def test_work_in_the_wrong_place_is_named_in_the_message(out: Workspace, place: str, reason: str) -> None:
    stray = out.people / place.format(out.file("a").stem)
    stray.parent.mkdir(exist_ok=True)
    draw(out.file("a"), to=stray)
    with pytest.raises(WaitingForPeopleError, match=f"Files that are not read: 1\n.*{reason}"):
        out.run()
    assert stray.exists()


def test_the_notes_and_hidden_files_of_people_are_their_own(out: Workspace) -> None:
    draw(out.file("a"))
    (out.people / "a" / "labels.txt").write_text("mug 0")
    (out.people / "a" / f"._{out.file('a').name}").write_bytes(b"\0")
    out.run()
    assert out.status() == []


def test_a_text_in_utf16_is_refused_by_its_encoding(out: Workspace) -> None:
    draw(out.file("a"))
    text = out.file("a", suffix=".txt")
    text.write_bytes(text.read_text("utf-8").encode("utf-16"))
    assert "saved as UTF-16" in answer(out)["reason"]


def test_half_of_an_outline_in_parts_is_refused(out: Workspace) -> None:
    def two_parts(content: dict[str, Any]) -> None:
        content["shapes"][0]["group_id"] = 4
        content["shapes"].append(content["shapes"][0] | {"label": "proposal 1", "points": ELSEWHERE})

    draw(out.file("a"))
    edit(out.file("a"), two_parts)
    assert "of the parts of one outline (group 4) some have the label 'mug 0'" in answer(out)["reason"]
    edit(out.file("a"), lambda content: content["shapes"][1].update(label="mug 0"))
    draw(out.file("b"), ELSEWHERE)
    out.run()
    assert mask_area(out) == 400 + 300


def test_a_folder_called_like_a_file_and_a_label_that_is_no_unicode_break_nothing(out: Workspace) -> None:
    first = out.file("a")
    first.with_name(f"{first.stem} (1).json").mkdir()
    draw(first)
    first.write_text(first.read_text("utf-8").replace('"mug 0"', '"mug \\ud800 0"'), "utf-8")
    assert "meant is probably 'mug 0'" in answer(out)["reason"]


def test_a_thing_called_like_a_proposal_can_be_drawn(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_records(workspace.paths.generated_regions, [region(0, phrase="proposal 1")])
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    for group in ("a", "b"):
        draw(workspace.file(group), label="proposal 1")
    workspace.run()
    assert mask_area(workspace) == 400


def test_a_text_that_is_gone_comes_back(out: Workspace) -> None:
    draw(out.file("a"))
    text = out.file("a", suffix=".txt")
    before = text.read_bytes()
    text.unlink()
    out.run()
    assert text.read_bytes() == before


def test_labelme_files_of_the_shared_bad_inputs_never_break_the_stage(out: Workspace, shared_data: Path) -> None:
    for bad in sorted((shared_data / "bad_inputs" / "labelme").glob("*.json")):
        shutil.copyfile(bad, out.file("a"))
        line = answer(out)
        assert (line["group"], line["state"]) in {("a", "open"), ("a", "rejected")}
        content = out.file("a").read_bytes()
        assert content == bad.read_bytes()
