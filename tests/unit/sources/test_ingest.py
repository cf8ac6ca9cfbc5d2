"""The stage `ingest`: what it writes, and what it leaves when it cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from miras.config import parse_sections
from miras.dialogue.records import Dialogue, Picture, Region, Rejected
from miras.errors import ConfigError, DataError
from miras.files import read_records
from miras.paths import Paths
from miras.sources import stage
from miras.sources.config import IngestConfig
from miras.sources.readers import READERS

HEIGHT, WIDTH = 20, 30
SQUARE = [2, 3, 12, 3, 12, 13, 2, 13]
HOSTILE_NAMES = ("a b.png", "it's [1] (copy).png", "été 写真.png", '"; rm -rf ".png', "..png")


class Workspace:
    """A folder to run the stage in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        others = {name: str(folder / name) for name in Paths.model_fields}
        self.paths = Paths(**others | {"ingest": str(folder / "data" / "ingest")})

    def run(self, **changes: Any) -> None:
        coco = {"reader": "coco", "annotations": str(self.folder / "annotations.json")}
        values: dict[str, Any] = {
            "sources": {"mine": coco},
            "watched": "miras",
            "max_pictures": 100,
            "max_rejected_share": 0.1,
            "max_megapixels": 1,
            "ignore_categories": [],
        }
        stage.run(paths=self.paths, work=self.work, ingest=IngestConfig(**values | changes))

    @property
    def pictures(self) -> list[Picture]:
        return list(read_records(self.paths.picture_table, Picture))

    @property
    def regions(self) -> list[Region]:
        return list(read_records(self.paths.region_table, Region))

    def rejected(self, table: Path | None = None) -> list[Rejected]:
        return list(read_records(table or self.paths.rejected_table, Rejected))

    def write_coco(self, names: tuple[str, ...], segmentation: object = (SQUARE,)) -> dict[str, Any]:
        """A COCO file about pictures of different colours with these names; each has one mug."""
        for number, name in enumerate(names):
            Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(self.folder / name, format="PNG")
        size = {"height": HEIGHT, "width": WIDTH}
        content = {
            "images": [{"id": number, "file_name": name} | size for number, name in enumerate(names)],
            "categories": [{"id": 1, "name": "mug"}],
            "annotations": [
                {"id": number, "image_id": number, "category_id": 1, "segmentation": segmentation}
                for number in range(len(names))
            ],
        }
        self.write(content)
        return content

    def write(self, content: object) -> None:
        (self.folder / "annotations.json").write_text(json.dumps(content))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_pictures_and_tables_agree(workspace: Workspace) -> None:
    workspace.write_coco(("1.png", "2.png", "3.png"))
    workspace.run()
    assert [picture.image_id for picture in workspace.pictures] == ["1", "2", "3"]
    assert [region.image_id for region in workspace.regions] == ["1", "2", "3"]
    stored = sorted(path.name for path in workspace.paths.pictures.iterdir())
    assert stored == [picture.file_name for picture in workspace.pictures]
    assert (workspace.paths.pictures / "1.png").read_bytes() == (workspace.folder / "1.png").read_bytes()
    assert workspace.rejected() == []


def test_the_same_source_gives_the_same_tables(workspace: Workspace) -> None:
    workspace.write_coco(HOSTILE_NAMES)
    workspace.run()
    first = workspace.paths.picture_table.read_bytes(), workspace.paths.region_table.read_bytes()
    workspace.run()
    assert (workspace.paths.picture_table.read_bytes(), workspace.paths.region_table.read_bytes()) == first


def test_hostile_file_names_become_safe_ones(workspace: Workspace) -> None:
    workspace.write_coco(HOSTILE_NAMES)
    workspace.run()
    assert [picture.origin for picture in workspace.pictures] == list(HOSTILE_NAMES)
    for path in workspace.paths.pictures.iterdir():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.png", path.name)
    assert len(list(workspace.paths.pictures.iterdir())) == len(HOSTILE_NAMES)


def test_regions_get_phrases_that_tell_them_apart(workspace: Workspace) -> None:
    content = workspace.write_coco(("1.png",))
    right = [[value + 16 * (index % 2 == 0) for index, value in enumerate(SQUARE)]]
    content["annotations"].append(content["annotations"][0] | {"id": 9, "segmentation": right})
    workspace.write(content)
    workspace.run()
    assert [region.phrase for region in workspace.regions] == ["left mug", "right mug"]


def test_regions_that_words_cannot_tell_apart_are_called_by_their_category(workspace: Workspace) -> None:
    content = workspace.write_coco(("1.png",))
    content["annotations"].append(content["annotations"][0] | {"id": 9})
    workspace.write(content)
    workspace.run()
    assert [region.phrase for region in workspace.regions] == ["mug", "mug"]


def test_a_picture_is_kept_once_under_whatever_names(workspace: Workspace) -> None:
    workspace.write_coco(("1.png", "2.png"))
    (workspace.folder / "2.png").write_bytes((workspace.folder / "1.png").read_bytes())
    workspace.run(max_rejected_share=0.5)
    assert [picture.image_id for picture in workspace.pictures] == ["1"]
    assert [item.where for item in workspace.rejected()] == ["2.png"]
    assert "same picture as 1.png" in workspace.rejected()[0].reason


def test_no_more_pictures_than_asked_for_are_kept(workspace: Workspace) -> None:
    workspace.write_coco(("1.png", "2.png", "3.png"))
    workspace.run(max_pictures=2)
    assert len(workspace.pictures) == 2


def test_points_and_lines_do_not_count_as_faults(workspace: Workspace) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(workspace.folder / "a.png")
    polygon = {"label": "mug", "shape_type": "polygon", "points": [[2, 3], [12, 3], [12, 13]]}
    point = {"label": "tip", "shape_type": "point", "points": [[2, 3]]}
    workspace.folder.joinpath("a.json").write_text(
        json.dumps({"imagePath": "a.png", "imageData": None, "shapes": [polygon, point, point]})
    )
    workspace.run(sources={"mine": {"reader": "labelme", "annotations": str(workspace.folder)}}, max_rejected_share=0.0)
    assert (len(workspace.regions), len(workspace.rejected())) == (1, 2)


def test_too_many_rejected_regions_stop_the_stage_and_are_listed(workspace: Workspace) -> None:
    content = workspace.write_coco(tuple(f"{number}.png" for number in range(4)))
    content["annotations"][2]["segmentation"] = []
    workspace.write(content)
    with pytest.raises(DataError) as caught:
        workspace.run()
    message = str(caught.value)
    assert "1 of 4 regions" in message
    assert "no segmentation" in message
    assert str(workspace.work / "rejected-mine.jsonl") in message
    assert len(workspace.rejected(workspace.work / "rejected-mine.jsonl")) == 1
    workspace.run(max_rejected_share=0.25)
    assert len(workspace.regions) == 3


def test_too_many_rejected_pictures_stop_the_stage(workspace: Workspace) -> None:
    workspace.write_coco(("1.png", "2.png"))
    (workspace.folder / "2.png").unlink()
    with pytest.raises(DataError, match="1 of 2 pictures"):
        workspace.run()


def test_an_empty_source_is_named(workspace: Workspace) -> None:
    workspace.write_coco(())
    with pytest.raises(DataError, match=r"annotations\.json: an empty source"):
        workspace.run()


def test_a_source_without_masks_is_told_what_gives_masks(workspace: Workspace) -> None:
    workspace.write_coco(("1.png",), segmentation=[])
    with pytest.raises(DataError, match=r"a source without masks.*polygons"):
        workspace.run()


def test_a_failed_ingest_keeps_the_earlier_result_and_nothing_half_written(workspace: Workspace) -> None:
    workspace.write_coco(("1.png",))
    workspace.run()
    workspace.write_coco(("2.png",), segmentation=[])
    with pytest.raises(DataError):
        workspace.run()
    assert [picture.image_id for picture in workspace.pictures] == ["1"]
    assert [path.name for path in (workspace.folder / "data").iterdir()] == ["ingest"]


def test_an_interrupted_ingest_leaves_nothing_and_runs_through_afterwards(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_coco(("1.png", "2.png"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_picture_record", interrupt)  # stands in for Ctrl-C after the first picture
        with pytest.raises(KeyboardInterrupt):
            workspace.run()
    assert list((workspace.folder / "data").iterdir()) == []
    workspace.run()
    assert len(workspace.pictures) == 2


def test_a_missing_folder_of_pictures_is_named(workspace: Workspace) -> None:
    workspace.write_coco(("1.png",))
    with pytest.raises(DataError, match=r"gone: no such folder\. Set `pictures`"):
        workspace.run(
            sources={
                "mine": {
                    "reader": "coco",
                    "annotations": str(workspace.folder / "annotations.json"),
                    "pictures": str(workspace.folder / "gone"),
                }
            }
        )


def parse(**source: Any) -> None:
    values: dict[str, Any] = {"sources": {"mine": source}, "watched": "miras", "max_pictures": 1}
    values |= {"max_rejected_share": 0.1, "max_megapixels": 1, "ignore_categories": []}
    parse_sections({"ingest": values}, {"ingest": IngestConfig}, source="params.yaml")


def test_mistakes_in_a_source_are_named() -> None:
    with pytest.raises(ConfigError, match=r"ingest\.sources\.mine\.coco\.annotations"):
        parse(reader="coco", annotations="")
    with pytest.raises(ConfigError, match=r"ingest\.sources\.mine.*'cocoa'"):
        parse(reader="cocoa", annotations="a.json")
    with pytest.raises(ConfigError, match=r"ingest\.sources\.mine\.coco\.picture: unknown key; did you mean pictures"):
        parse(reader="coco", annotations="a.json", picture="x")


def test_every_reader_that_settings_may_name_is_there() -> None:
    source = next(iter(get_args(IngestConfig.model_fields["sources"].annotation)[1:]))
    named = {tag for kind in get_args(get_args(source)[0]) for tag in get_args(kind.model_fields["reader"].annotation)}
    assert named == set(READERS)


def test_several_sources_keep_their_ids_apart_and_share_equal_pictures(workspace: Workspace) -> None:
    workspace.write_coco(("1.png", "2.png"))
    coco = {"reader": "coco", "annotations": str(workspace.folder / "annotations.json")}
    scenes = {"reader": "scenes", "count": 2, "size_px": 64, "seed": 0}
    workspace.run(sources={"a": coco, "b": coco, "c": scenes})
    ids = [picture.image_id for picture in workspace.pictures]
    assert ids[:4] == ["a-1", "a-2", "b-1", "b-2"]
    assert [picture.source for picture in workspace.pictures] == ["a", "a", "b", "b", "c", "c"]
    assert [picture.file_name for picture in workspace.pictures[:4]] == ["a-1.png", "a-2.png", "a-1.png", "a-2.png"]
    assert len(list(workspace.paths.pictures.iterdir())) == 4
    regions = workspace.regions
    assert len({region.region_id for region in regions}) == len(regions)
    assert all(region.region_id.startswith(region.image_id) for region in regions)
    known = {region.region_id for region in regions}
    assert all(region.parent_id in known for region in regions if region.parent_id)
    assert any(region.parent_id for region in regions)


def test_dialogues_of_a_source_are_kept_with_their_pictures_or_without(workspace: Workspace) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(workspace.folder / "1.png")
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A mug."}]
    alone = [{"from": "human", "value": "Say hello."}, {"from": "gpt", "value": "Hello."}]
    records = [{"id": "a", "image": "1.png", "conversations": talk}, {"id": "b", "conversations": alone}]
    (workspace.folder / "talk.json").write_text(json.dumps(records))
    llava = {
        "reader": "llava_instruct",
        "records": str(workspace.folder / "talk.json"),
        "pictures": str(workspace.folder),
    }
    workspace.run(sources={"talk": llava, "scenes": {"reader": "scenes", "count": 1, "size_px": 64, "seed": 0}})
    dialogues = list(read_records(workspace.paths.source_dialogues, Dialogue))
    assert [(dialogue.image_id, dialogue.kind) for dialogue in dialogues] == [("talk-1", "vqa"), ("", "vqa")]
    assert all(dialogue.dialogue_id.startswith("talk-") for dialogue in dialogues)
    assert dialogues[1].turns[0].answer == "Hello."


def test_five_rendered_scenes_are_ingested(workspace: Workspace) -> None:
    workspace.run(sources={"scenes": {"reader": "scenes", "count": 5, "size_px": 64, "seed": 0}})
    assert len(workspace.pictures) == 5
    assert {(picture.height, picture.width) for picture in workspace.pictures} == {(64, 64)}
    with_regions = {region.image_id for region in workspace.regions}
    assert with_regions == {picture.image_id for picture in workspace.pictures}
    assert all(region.phrase and region.mask and region.mask.size == (64, 64) for region in workspace.regions)


# --- what is not outlined


def labelme(workspace: Workspace, **changes: Any) -> dict[str, Any]:
    Image.new("RGB", (WIDTH, HEIGHT)).save(workspace.folder / "1.png")
    points = [[2, 3], [12, 3], [12, 13], [2, 13]]
    content = {"imagePath": "1.png", "shapes": [{"label": "mug", "points": points, "shape_type": "polygon"}]}
    (workspace.folder / "in").mkdir()
    (workspace.folder / "in" / "1.json").write_text(json.dumps(content | {"imagePath": "1.png"}))
    source = {"reader": "labelme", "annotations": str(workspace.folder / "in"), "pictures": str(workspace.folder)}
    return {"mine": source | changes}


def test_labelme_files_are_not_taken_to_show_everything_unless_said(workspace: Workspace) -> None:
    sources = labelme(workspace)
    workspace.run(sources=sources)
    assert not workspace.pictures[0].is_exhaustive
    assert workspace.regions[0].attributes == {"others": "maybe"}
    workspace.run(sources={"mine": sources["mine"] | {"is_exhaustive": True}})
    assert workspace.pictures[0].is_exhaustive
    assert workspace.regions[0].attributes == {}


def test_coco_files_are_taken_to_show_everything_unless_said(workspace: Workspace) -> None:
    workspace.write_coco(("1.png",))
    workspace.run()
    assert workspace.pictures[0].is_exhaustive
    assert workspace.regions[0].attributes == {}
    coco = {"reader": "coco", "annotations": str(workspace.folder / "annotations.json"), "is_exhaustive": False}
    workspace.run(sources={"mine": coco})
    assert not workspace.pictures[0].is_exhaustive
    assert workspace.regions[0].attributes == {"others": "maybe"}


def test_a_federated_source_says_itself_what_is_not_all_outlined(workspace: Workspace) -> None:
    """LVIS: a class that its picture's record does not name is outlined as a whole."""
    content = workspace.write_coco(("1.png",))
    content["images"][0] |= {"not_exhaustive_category_ids": [2], "neg_category_ids": [3]}
    content["categories"] += [{"id": 2, "name": "cup"}, {"id": 3, "name": "jar"}]
    content["annotations"].append(content["annotations"][0] | {"id": 9, "category_id": 2})
    workspace.write(content)
    lvis = {"reader": "lvis", "annotations": str(workspace.folder / "annotations.json")}
    workspace.run(sources={"mine": lvis})
    assert not workspace.pictures[0].is_exhaustive
    assert workspace.pictures[0].absent == ("jar",)
    assert [region.attributes for region in workspace.regions] == [{}, {"others": "yes"}]
