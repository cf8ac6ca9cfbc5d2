"""The mask memory: where its tokens stand, what they depend on, and what hangs on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from miras.model.batch import MemoryTokens
from miras.model.losses import LossWeights
from miras.model.memory import MaskMemory, encode_regions, frame_box, region_crop
from miras.model.records import Request
from miras.model.responder import Responder, save_weights
from miras.model.tokens import TurnText
from miras.model.vision import PictureFeatures
from miras.model.weights import Backbones
from tests.unit.model.tiny_network import make_batch, make_network

MEMORY = {"mask_memory": "both", "reference_loss": True, "region_alignment": "off", "dual_encoder": False}
FIRST = TurnText("segment it", "{target}", ("red mug",))
SECOND = TurnText("what is the red mug on the left", "here {target}", ("handle",), references=1)


def features(count: int = 1) -> PictureFeatures:
    torch.manual_seed(2)
    return PictureFeatures(torch.randn(count, 16, 16), None, torch.randn(count, 16, 8, 8))


def tokens_of(places: list[tuple[int, int]], *, box: tuple[float, ...] = (8, 8, 40, 40)) -> MemoryTokens:
    torch.manual_seed(3)
    at = torch.tensor(places)
    count = len(places)
    vectors = torch.randn(count, 16)
    return MemoryTokens(torch.zeros(count, dtype=torch.long), at[:, 0], at[:, 1], vectors, torch.tensor([box] * count))


def test_memory_tokens_stand_before_the_question_that_speaks_of_the_mask(backbones: Backbones) -> None:
    _, builder = make_network(backbones, **MEMORY)
    row = builder.training_row([[FIRST, SECOND]], names=["test"])
    ((mask_at, box_at),) = row.memory
    question = builder.encode(SECOND.question)
    assert [row.ids[mask_at], row.ids[box_at]] == [builder.mask_id, builder.box_id]
    assert row.ids[box_at + 1 : box_at + 1 + len(question)] == question
    assert row.references[0] == -1
    assert row.ids[row.references[1]] == builder.ref_id
    assert row.spans[1][0] == row.references[1] + 1
    assert row.labels[row.references[1]] == builder.ref_id, "the model has to say [REF] itself"


@pytest.mark.parametrize(("kind", "per_mask"), [("mask", 1), ("box", 1), ("both", 2), ("off", 0)])
def test_each_kind_of_memory_has_its_own_tokens(backbones: Backbones, kind: str, per_mask: int) -> None:
    _, builder = make_network(backbones, **MEMORY | {"mask_memory": kind, "reference_loss": kind != "off"})
    with_memory = builder.training_row([[replace(SECOND, references=2)]], names=["test"])
    without = builder.training_row([[replace(SECOND, references=0)]], names=["test"])
    has_ref = kind != "off"
    assert len(with_memory.ids) == len(without.ids) + 2 * per_mask + has_ref


@pytest.mark.parametrize("changed", ["box", "vector"])
def test_the_masks_depend_on_what_is_referred_to(backbones: Backbones, changed: str) -> None:
    network, builder = make_network(backbones, **MEMORY)
    row = builder.training_row([[FIRST, SECOND]], names=["test"])
    one = tokens_of(row.memory)
    other = replace(one, boxes=one.boxes + 10) if changed == "box" else replace(one, vectors=-one.vectors)
    with torch.no_grad():
        before, after = (network.forward_logits(make_batch([row], features(), [0], m))[1] for m in (one, other))
    torch.testing.assert_close(before.targets[0], after.targets[0])  # the turn before the reference
    assert not torch.allclose(before.targets[1], after.targets[1], atol=1e-6)
    assert not torch.allclose(before.references[0], after.references[0], atol=1e-6)


def test_the_reference_loss_trains_the_copy_and_can_be_left_out(backbones: Backbones) -> None:
    for wanted in (True, False):
        network, builder = make_network(backbones, **MEMORY | {"reference_loss": wanted})
        row = builder.training_row([[FIRST, SECOND]], names=["test"])
        losses = network(make_batch([row], features(), [0], tokens_of(row.memory)), LossWeights())
        assert (losses.reference > 0) == wanted
        losses.total.backward()
        assert network.memory.pad.requires_grad == wanted
        assert network.memory.box_projector.weight.grad.abs().sum() > 0


def test_every_parameter_is_used_whatever_the_batch_holds(backbones: Backbones) -> None:
    """Else processes with and without references would wait for each other's gradients."""
    network, builder = make_network(backbones, **MEMORY)
    plain = TurnText("what is it", "a mug")
    for turns in ([plain], [FIRST], [FIRST, SECOND]):
        network.zero_grad()
        row = builder.training_row([turns], names=["test"])
        memory = tokens_of(row.memory) if row.memory else None
        network(make_batch([row], features(), [0], memory), LossWeights()).total.backward()
        assert [name for name, value in network.trainable() if value.grad is None] == []


def test_gating_silences_tokens_in_training_and_scales_them_in_use(backbones: Backbones) -> None:
    memory = MaskMemory("both", clip_width=4, width=8, prompt_width=16, gating=0.5, copies=True)
    vectors = torch.randn(1000, 4)
    silent = (memory.train().mask_tokens(vectors) == 0).all(dim=1).float().mean()
    assert 0.4 < silent < 0.6
    torch.testing.assert_close(memory.eval().mask_tokens(vectors), 0.5 * memory.mask_projector(vectors))


def test_a_region_is_cut_out_on_black_and_boxed_in_sams_frame() -> None:
    picture = Image.new("RGB", (40, 20), (9, 9, 9))
    mask = np.zeros((20, 40), bool)
    mask[5:10, 30:40] = True
    mask[5, 30] = False
    crop = np.asarray(region_crop(picture, mask))
    assert crop.shape == (10, 10, 3)
    assert crop[0, 0].tolist() == [0, 0, 0]
    assert crop[:5].reshape(-1, 3)[1:].min() == 9
    assert crop[5:].max() == 0
    assert frame_box(mask, 80) == (60, 10, 80, 20)


def test_the_vector_of_a_region_is_clips_view_of_its_cut_out(backbones: Backbones) -> None:
    encoders = backbones.encoders()
    picture = Image.effect_noise((40, 20), 80).convert("RGB")
    masks = [np.zeros((20, 40), bool) for _ in range(2)]
    masks[0][5:10, 30:40] = masks[1][0:4, 0:4] = True
    both = encode_regions(encoders, [picture, picture], masks)
    assert both.shape == (2, 16)
    torch.testing.assert_close(both[1:], encode_regions(encoders, [picture], masks[1:]))
    assert not torch.allclose(both[0], both[1])


def test_asking_about_a_mask_equals_training_with_it(backbones: Backbones, tmp_path: Path) -> None:
    """What the decoder gets while answering is what it got in training: same prompt, same memory tokens."""
    network, builder = make_network(backbones, **MEMORY)
    save_weights(network, tmp_path, fingerprint=backbones.manifest.fingerprint)
    responder = Responder.load(backbones.folder, tmp_path)
    picture = Image.effect_noise((64, 64), 80).convert("RGB")
    mask = np.zeros((64, 64), bool)
    mask[8:40, 8:40] = True
    request = Request("p", (), SECOND.question, ((mask,),))
    prompt = builder.prompt_row([TurnText(SECOND.question, references=1)], where="test")
    encoders = responder.encoders
    seen = encoders([picture])
    row = builder.training_row([[SECOND]], names=["test"])
    memory = replace(tokens_of(row.memory), vectors=encode_regions(encoders, [picture], [mask]))
    with torch.no_grad():
        trained = network.forward_logits(make_batch([row], seen, [0], memory))[1]
    forced = iter(row.ids[len(prompt.ids) :])
    responder.network.text_output.forward = lambda _: torch.nn.functional.one_hot(  # type: ignore[method-assign]
        torch.tensor([next(forced)]), len(builder.tokenizer)
    ).float()
    found = {}
    decode = responder.network.mask_logits
    responder.network.mask_logits = lambda *a, **k: found.setdefault("logits", decode(*a, **k))  # type: ignore[method-assign]
    from miras.model.responder import _Pictures

    pictures = _Pictures(seen, torch.zeros(1, dtype=torch.long), lambda _: seen.sam, [(64, 64)], [lambda: picture])
    (response,) = responder._answer([request], pictures)
    assert response.groups[0].phrase == "handle"
    torch.testing.assert_close(found["logits"], trained.targets, rtol=1e-3, atol=1e-4)
