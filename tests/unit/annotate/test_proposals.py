"""SAM's proposals, with random weights of a mini SAM: the code runs and its outlines are sound."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from miras.annotate import proposals
from miras.annotate.errors import WaitingForPeopleError
from miras.errors import DataError
from miras.model.sam import SamShape, build_sam, save_sam
from miras.sources.annotations import outline_mask
from tests.unit.annotate.workspace import HEIGHT, WIDTH, Workspace

SHAPE = SamShape(
    image_size_px=64,
    patch_px=8,
    width=16,
    layers=1,
    heads=2,
    global_attention=[0],
    window=0,
    prompt_width=32,
    relative_position=False,
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "sam_vit_mini.pth"
    save_sam(build_sam(SHAPE), path)
    return path


def test_sams_masks_become_numbered_outlines(weights: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.radial_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").save(picture)
    propose = proposals.SamProposals(weights, SHAPE, quality=-10.0, stability=0.0, points_per_side=3)
    shapes = propose(picture)
    assert shapes
    assert propose(picture) is shapes  # a second sample of the picture costs nothing
    assert {shape["label"].split()[0] for shape in shapes} == {"proposal"}
    for shape in shapes:
        flat = [value for point in shape["points"] for value in point]
        outline_mask([flat], height=HEIGHT, width=WIDTH)


def test_proposals_are_handed_out_where_there_is_no_mask(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(proposals.SAM_SHAPES, "vit_b", SHAPE)
    monkeypatch.setattr(proposals, "QUALITY", -10.0)  # random weights are sure of nothing
    monkeypatch.setattr(proposals, "STABILITY", 0.0)
    monkeypatch.setattr(proposals, "POINTS_PER_SIDE", 2)
    workspace = Workspace(tmp_path, sam=str(weights), sam_type="vit_b")
    with pytest.raises(WaitingForPeopleError):
        workspace.run()
    labels = [shape["label"] for shape in json.loads(workspace.file("a").read_text("utf-8"))["shapes"]]
    assert labels[0] == "proposal 1"
    assert {line["state"] for line in workspace.status() if line["group"] == "a"} == {"open"}


def test_weights_of_another_size_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not fit"):
        proposals.proposer(weights, sam_type="vit_b")
