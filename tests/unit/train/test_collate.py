"""The collator: what each row's masks, memory tokens and references are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from miras.dialogue import masks
from miras.dialogue.records import Dialogue, Region
from miras.files import read_records
from miras.model.batch import Batch
from miras.model.features import FeatureStore
from miras.model.memory import frame_box
from miras.model.vision import mask_to_frame
from miras.model.weights import Backbones
from miras.paths import Paths
from miras.train.collate import Collator
from miras.train.mixture import Row
from tests.unit.model.tiny_network import make_network
from tests.unit.train.workspace import build_workspace

SIDE, FRAME_PX = 32, 64


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return build_workspace(tmp_path_factory.mktemp("workspace"))


def test_every_mask_vector_and_box_is_that_of_its_own_region(paths: Paths) -> None:
    backbones = Backbones(Path(paths.backbones))
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    store = FeatureStore(Path(paths.features), fingerprint=backbones.manifest.fingerprint)
    network, builder = make_network(backbones, mask_memory="both", reference_loss=True)
    collator = Collator(builder, store, regions, mask_side=SIDE, frame_px=FRAME_PX)
    spoken = [
        dialogue for dialogue in read_records(paths.split_dialogues("train"), Dialogue) if dialogue.kind == "mrseg"
    ]
    # Targets and references differ: the second turn asks for another region than the one it speaks of.
    others = [next(key for key, region in regions.items() if region.image_id == each.image_id) for each in spoken]
    spoken = [
        each.model_copy(update={"turns": (each.turns[0], each.turns[1].model_copy(update={"targets": (other,)}))})
        for each, other in zip(spoken, others, strict=True)
    ]
    rows = [Row(number, (dialogue,), is_aligned=number == 0) for number, dialogue in enumerate(spoken[:2])]
    batch: Batch = collator(rows, collator.token_rows(rows))
    targets = [dialogue.turns[turn].targets[0] for dialogue in spoken[:2] for turn in (0, 1)]
    references = [dialogue.references(1)[0] for dialogue in spoken[:2]]
    assert set(references).isdisjoint(targets[1::2])
    pixels = {key: masks.decode(regions[key].mask) for key in {*targets, *references}}
    torch.testing.assert_close(batch.target_masks, _framed(pixels, targets))
    torch.testing.assert_close(batch.reference_masks, _framed(pixels, references))
    torch.testing.assert_close(batch.memory.vectors, store.read_regions(references))
    boxes = torch.tensor([frame_box(pixels[key], FRAME_PX) for key in references], dtype=torch.float32)
    torch.testing.assert_close(batch.memory.boxes, boxes)
    assert batch.target_aligned.tolist() == [True, True, False, False]
    assert network.alignment is not None
    torch.nn.init.normal_(network.alignment.attention.out_proj.weight)
    with torch.no_grad():
        half = network.forward_logits(batch)[1].targets
        whole = network.forward_logits(replace(batch, target_aligned=torch.ones(4, dtype=torch.bool)))[1].targets
    assert torch.equal(half[:2], whole[:2])
    assert not torch.allclose(half[2:], whole[2:], atol=1e-6)


def _framed(pixels: dict, keys: list[str]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(mask_to_frame(pixels[key], SIDE)) for key in keys])
