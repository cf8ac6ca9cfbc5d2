"""The MRSeg reader and writer on records in the public form."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Picture, Region, Turn
from miras.sources.mrseg import MrsegSource, read
from miras.sources.mrseg_export import record_of, write, write_masks
from miras.sources.mrseg_markers import MaskName, rounds_of, turns_of
from miras.sources.mrseg_masks import MaskFiles
from miras.sources.pictures import FilePicture
from miras.sources.told import RejectedDialogue
from tests.unit.sources.told_files import (
    LEFT,
    LIMITS,
    RIGHT,
    annotation,
    coco,
    save_json,
    save_picture,
    shape,
    sorted_out,
)

IMAGE = "coco/train2014/COCO_train2014_000000000001.png"


def encode(name: str, *, dataset: str = "refcoco", image: str = IMAGE) -> str:
    return f"[MASK-ENCODE:{image}|{dataset}|{name}][BOX-ENCODE:{image}|{dataset}|{name}]"


def decode(name: str, *, references: str = "none", dataset: str = "refcoco", relation: str = "none") -> str:
    return f"[MASK-DECODE:{relation}:{references}:{name}:{IMAGE}:{dataset}]."


def record(*values: str, ind: dict[int, Any] | None = None, **more: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [
        {"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)
    ]
    for number, stated in (ind or {}).items():
        messages[number]["ind"] = stated
    messages[0]["value"] = f"[IMAGE256:{IMAGE}] " + messages[0]["value"]
    return {"task": "segmentation", "base": "[null]", "conversations": messages} | more


DIRECT = ("Segment a mug.", decode("7"))
NEXT_TO = (f"{encode('7')} The one next to <instance 1>.", decode("8", references="7", relation="relational"))
EVERY_FORM = {
    "int": record(*DIRECT, *NEXT_TO, ind={2: 1}),
    "list": record(*DIRECT, *NEXT_TO, ind={2: [1]}),
    "absent": record(*DIRECT, *NEXT_TO, conv_id=12),
    "minus one": record(*DIRECT, "And a table?", decode("8"), ind={2: -1}),
    "two references": record(
        *DIRECT,
        *NEXT_TO,
        f"{encode('7')}{encode('8')} Between  both",
        decode("7", references="7:8"),
        ind={2: 1, 4: [1, 2]},
    ),
    "three fields": record("Segment  it. ", f"[MASK-DECODE:{IMAGE}|refcoco|7]", base={"any": [1]}),
    "hard": record(f"{encode('7')}The other mug.", decode("8", references="7")),
    "text id": record("Who wears a hat?", decode("12_a-b", dataset="visual_genome")),
    "empty id": record("What is warm?", f"[MASK-DECODE:{IMAGE}|reason_seg|]"),
    "quote id": record("What is warm?", f"[MASK-DECODE:{IMAGE}|reason_seg|']"),
    "class id": record("Segment the sky.", decode("2", dataset="ade20k")),
    "attributes": record("The red one.", decode("a_1", dataset="description_based_coco")),
    "fake": record(
        *DIRECT, "Wrong one", f"<FAKE_MASK_OUT>{decode('8')}", f"{encode('8')} Its side", decode("7"), ind={4: 2}
    ),
    "words": record("Which?", f"It is {decode('7')} Good.", conv_id="a"),
    "no mask": record("Hello?", "Good day."),
}


@pytest.fixture
def masks_of(tmp_path: Path) -> dict[str, MaskFiles]:
    save_picture(tmp_path / "images" / IMAGE)
    name = IMAGE.rsplit("/", 1)[1]
    instances = coco(annotation(7), annotation(8, polygon=RIGHT), names=(name,))
    rle = {"12_a-b": {"size": [20, 30], "counts": [5, 10, 585]}}
    attributes = {"a_1": {"segmentation": [LEFT], "image_dim": [20, 30]}}
    classes = np.zeros((20, 30), np.uint8)
    classes[:4] = 3
    (tmp_path / "ade").mkdir()
    Image.fromarray(classes).save(tmp_path / "ade" / name)
    save_json(tmp_path / "reason" / f"{Path(name).stem}.json", {"shapes": [shape("target", RIGHT)]})
    files = {
        "refcoco": ("coco", save_json(tmp_path / "instances.json", instances)),
        "visual_genome": ("rle", save_json(tmp_path / "vg.json", rle)),
        "description_based_coco": ("attributes", save_json(tmp_path / "attributes.json", attributes)),
        "reason_seg": ("reason_seg", tmp_path / "reason"),
    }
    made = {key: MaskFiles.model_validate({"form": form, "path": str(path)}) for key, (form, path) in files.items()}
    names = save_json(tmp_path / "names.json", ["wall", "floor", "sky"])
    ade = MaskFiles(form="class_png", path=str(tmp_path / "ade"), first_value=1, names=str(names))
    return made | {"ade20k": ade}


def read_all(folder: Path, records: object, masks_of: dict[str, MaskFiles]) -> tuple[list[FilePicture], list[Any]]:
    conversations = str(save_json(folder / "mr_mix.json", records))
    made = MrsegSource(reader="mrseg", conversations=conversations, pictures=str(folder / "images"), masks=masks_of)
    return sorted_out(read(made, limits=LIMITS))


def test_every_form_comes_back_as_it_was(tmp_path: Path, masks_of: dict[str, MaskFiles]) -> None:
    records = list(EVERY_FORM.values())
    before = copy.deepcopy(records)
    (picture,), rejected = read_all(tmp_path, records, masks_of)
    originals = {item.dialogue_id: item for item in picture.originals}
    regions = {region.region_id: region for region in picture.regions}
    assert rejected == []
    assert write(picture.dialogues, regions, {}, tmp_path / "out.json", originals=originals) == []
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == before


def test_what_the_forms_mean(tmp_path: Path, masks_of: dict[str, MaskFiles]) -> None:
    (picture,), _ = read_all(tmp_path, list(EVERY_FORM.values()), masks_of)
    regions = {region.region_id: region for region in picture.regions}
    told = dict(zip(EVERY_FORM, picture.dialogues, strict=True))
    seven, eight = (
        next(key for key, region in regions.items() if region.attributes["annotation"] == number) for number in "78"
    )
    for name in ("int", "list", "absent"):
        assert [turn.refers_to for turn in told[name].turns] == [(), (0,)]
        assert [turn.targets for turn in told[name].turns] == [(seven,), (eight,)]
        assert (told[name].kind, told[name].turns[1].question) == ("mrseg", "The one next to <instance 1>.")
    assert [turn.refers_to for turn in told["two references"].turns] == [(), (0,), (0, 1)]
    assert (told["hard"].kind, told["hard"].turns[0].points_at) == ("mrseg", (seven,))
    # The wrong round is left out, so what it showed is now pointed at.
    assert [(turn.refers_to, turn.points_at) for turn in told["fake"].turns] == [((), ()), ((), (eight,))]
    assert told["words"].turns[0].answer == "It is {target}. Good."
    assert [told[name].kind for name in ("class id", "empty id", "no mask")] == ["semantic", "referring", "vqa"]
    areas = {region.attributes["dataset"]: masks.area_px(region.mask) for region in regions.values() if region.mask}
    assert areas["ade20k"] == 4 * 30
    assert (areas["visual_genome"], areas["description_based_coco"], areas["reason_seg"]) == (10, 100, 100)
    assert regions[told["class id"].turns[0].targets[0]].category == "sky"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (record("Segment.", decode("99")), "no such annotation"),
        (record("Segment.", decode("7", dataset="other")), "not configured"),
        (record("Segment.", decode("x", dataset="ade20k")), "number of a class"),
        (record("Segment.", decode("9", dataset="ade20k")), "no pixel"),
        (record("Segment.", f"[MASK-DECODE:none:7:{IMAGE}:refcoco]"), "4 fields"),
        (record("Segment.", "[MASK-DECODE:a|b]"), "1 fields"),
        (record("Segment.", f"[MASK-DRAW:{IMAGE}]"), "unknown marker"),
        (record("Segment.", "[MASK-DECODE:other.png|refcoco|7]"), "picture 'other.png'"),
        (record(f"[MASK-ENCODE:{IMAGE}|refcoco] x", decode("7")), "2 fields"),
        (record(*DIRECT, "And?", decode("8"), ind={2: 2}), "ind is 2"),
        (record(*DIRECT, "And?", decode("8"), ind={2: "1"}), "ind is '1'"),
        (record("Segment.", "."), "neither words nor a mask"),
        (record("", decode("7")), "the question is empty"),
        (record("Segment."), "an answer to every question"),
        (record("Segment.", f"<FAKE_MASK_OUT>{decode('7')}"), "nothing is left"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}, "IMAGE256"),
        ([], "conversations"),
    ],
)
def test_a_record_that_is_not_of_the_form_is_rejected(
    tmp_path: Path, masks_of: dict[str, MaskFiles], broken: Any, reason: str
) -> None:
    (picture,), (rejected,) = read_all(tmp_path, [broken, record(*DIRECT)], masks_of)
    assert isinstance(rejected, RejectedDialogue)
    assert reason in rejected.reason
    assert "record 0" in rejected.where
    assert (len(picture.dialogues), len(picture.regions)) == (1, 1)


def test_an_annotation_of_another_picture_is_refused(tmp_path: Path, masks_of: dict[str, MaskFiles]) -> None:
    instances = coco(annotation(7), names=("COCO_train2014_000000000002.png",))
    save_json(tmp_path / "instances.json", instances)
    _, (rejected,) = read_all(tmp_path, [record(*DIRECT)], masks_of)
    assert "not of 'coco/train2014" in rejected.reason


def test_a_changed_message_is_written_anew_and_the_others_stay(tmp_path: Path, masks_of: dict[str, MaskFiles]) -> None:
    before = EVERY_FORM["two references"]
    (picture,), _ = read_all(tmp_path, [before], masks_of)
    (dialogue,), (original,) = picture.dialogues, picture.originals
    turns = list(dialogue.turns)
    turns[1] = turns[1].model_copy(update={"question": "Its neighbour."})
    regions = {region.region_id: region for region in picture.regions}
    after = record_of(dialogue.model_copy(update={"turns": tuple(turns)}), regions, {}, original)
    changed = [
        number for number, message in enumerate(after["conversations"]) if message != before["conversations"][number]
    ]
    assert changed == [2]
    assert after["conversations"][2] == {"from": "human", "value": f"{encode('7')} Its neighbour.", "ind": 1}


def test_our_own_dialogues_go_out_and_come_back(tmp_path: Path, masks_of: dict[str, MaskFiles]) -> None:
    save_picture(tmp_path / "images" / "a.png")
    codes = [masks.from_polygons([polygon], height=20, width=30) for polygon in (LEFT, RIGHT)]
    regions = {
        f"a-r{number}": Region(region_id=f"a-r{number}", image_id="a", phrase="mug", mask=code)
        for number, code in enumerate(codes)
    }
    turns = (
        Turn(question="Segment both.", answer="Here: {target} and {target}.", targets=("a-r0", "a-r1")),
        Turn(question="Which is left of it?", answer="The {target}.", targets=("a-r0",), refers_to=(0,)),
        Turn(question="And a cat?", answer="There is none."),
    )
    own = Dialogue(dialogue_id="a-mrseg-0", image_id="a", kind="mrseg", focus="", turns=turns)
    pictures = {"a": Picture(image_id="a", file_name="a.png", height=20, width=30, sha256="")}
    assert write([own], regions, pictures, tmp_path / "own.json") == []
    assert write_masks(regions.values(), tmp_path / "own_masks.json") == 2
    masks_of["miras"] = MaskFiles(form="rle", path=str(tmp_path / "own_masks.json"))
    (picture,), rejected = read_all(tmp_path, json.loads((tmp_path / "own.json").read_text()), masks_of)
    (back,) = picture.dialogues
    assert rejected == []
    assert [turn.question for turn in back.turns] == [turn.question for turn in turns]
    assert [turn.answer for turn in back.turns] == [turn.answer for turn in turns]
    assert [(turn.targets, turn.refers_to) for turn in back.turns] == [(turn.targets, turn.refers_to) for turn in turns]
    assert [region.mask for region in picture.regions] == codes


def test_dialogues_that_markers_cannot_hold_are_refused(tmp_path: Path) -> None:
    turn = Turn(question="Segment it.", answer="The {target}.", targets=("a|b",))
    own = Dialogue(dialogue_id="x", image_id="a", kind="mrseg", focus="", turns=(turn,))
    pictures = {"a": Picture(image_id="a", file_name="a.png", height=20, width=30, sha256="")}
    regions = {"a|b": Region(region_id="a|b", image_id="a", phrase="mug", mask=None)}
    refused = [*write([own], regions, pictures, tmp_path / "o.json"), *write([own], {}, pictures, tmp_path / "o.json")]
    refused += write([own], regions, {}, tmp_path / "o.json")
    assert [len(refused), "separates" in refused[0].reason] == [3, True]
    assert json.loads((tmp_path / "o.json").read_text()) == []


def test_without_ind_the_latest_round_with_that_mask_is_meant() -> None:
    rounds = rounds_of(record(*DIRECT, *DIRECT, f"{encode('7')} And?", decode("8")), key="k")
    assert turns_of(rounds)[2].refers_to == (1,)
    assert rounds[2].shown == (MaskName("refcoco", "7"),)
