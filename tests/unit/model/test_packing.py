"""Packed rows: dialogues about one picture share its tokens, do not see each other, and lose nothing by it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from miras.model.losses import LossWeights
from miras.model.new_rows import NewRowsEmbedding, NewRowsHead
from miras.model.packed_attention import packed_attention, packing
from miras.model.tokens import TurnText
from miras.model.vision import PictureFeatures
from miras.model.weights import Backbones
from tests.unit.model.tiny_network import make_batch, make_network

DIALOGUES = [
    [TurnText("what is the red mug on the left", "here {target} it is", ("red mug",))],
    [TurnText("what is it", "a red mug"), TurnText("segment it", "{target}", ("handle of the left red mug",))],
    [TurnText("segment what we have been talking about", "{target} and {target}", ("red mug", "handle"))],
]


def features() -> PictureFeatures:
    torch.manual_seed(2)
    return PictureFeatures(torch.randn(1, 16, 16), torch.randn(1, 24, 8, 8), torch.randn(1, 16, 8, 8))


def test_the_loss_and_masks_of_a_packed_row_equal_those_of_its_dialogues_alone(backbones: Backbones) -> None:
    network, builder = make_network(backbones)
    packed = builder.training_row(DIALOGUES, names=["test"] * len(DIALOGUES))
    alone = [builder.training_row([dialogue], names=["test"]) for dialogue in DIALOGUES]
    assert len(packed.ids) < sum(len(row.ids) for row in alone) - builder.num_image_tokens
    torch.manual_seed(5)
    one = make_batch([packed], features(), [0])
    torch.manual_seed(5)
    three = make_batch(alone, features(), [0, 0, 0])
    found, expected = network.forward_logits(one)[1], network.forward_logits(three)[1]
    torch.testing.assert_close(found.targets, expected.targets, rtol=1e-3, atol=1e-4)
    losses = [network(batch, LossWeights()) for batch in (one, three)]
    torch.testing.assert_close(losses[0].total, losses[1].total)
    gradients = [torch.autograd.grad(loss.total, network.prompt_head[0].weight)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def masked(parts: torch.Tensor) -> torch.Tensor:
    """Who sees whom, bool [B, 1, T, T], said the plain way."""
    here, there = parts[:, :, None], parts[:, None, :]
    is_before = torch.ones(parts.shape[1], parts.shape[1], dtype=torch.bool).tril()
    return (is_before & ((here == there) | (there == 0)))[:, None]


@pytest.mark.parametrize("key_heads", [4, 2])
def test_attention_is_that_under_a_mask_over_the_whole_row(key_heads: int) -> None:
    torch.manual_seed(0)
    parts = torch.tensor(
        [
            [0, 0, 0, 1, 1, 2, 2, 2, 3],
            [0, 0, 1, 1, 1, 1, -1, -1, -1],
            [1, 1, 2, 2, 2, -1, -1, -1, -1],  # no prefix
            [0, 2, 2, -1, -1, -1, -1, -1, -1],
            [-1] * 9,
        ]
    )
    query = torch.randn(5, 4, 9, 8, requires_grad=True)
    key, value = (torch.randn(5, key_heads, 9, 8, requires_grad=True) for _ in range(2))
    found, _ = packed_attention(nn.Module(), query, key, value, None, packed=packing(parts), scaling=0.3)
    expected = scaled_dot_product_attention(
        query, key, value, attn_mask=masked(parts), scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    is_token = parts >= 0
    torch.testing.assert_close(found[is_token], expected[is_token])
    assert not found[~is_token].any()
    weight = torch.randn(found[is_token].shape)
    gradients = [
        torch.autograd.grad((each[is_token] * weight).sum(), (query, key, value)) for each in (found, expected)
    ]
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("has_picture", [True, False])
def test_rows_without_picture_train_beside_others(backbones: Backbones, has_picture: bool) -> None:
    network, builder = make_network(backbones)
    turns = [[TurnText("what is it", "a red mug")]]
    row = builder.training_row(turns, names=["test"], has_picture=has_picture)
    assert (row.image_start >= 0) == has_picture
    network(make_batch([row], features(), [0]), LossWeights()).total.backward()
    assert [name for name, value in network.trainable() if value.grad is None] == []
    if not has_picture:
        assert network.projector.linear_1.weight.grad.abs().sum() == 0


def test_new_words_are_read_and_written_by_rows_of_their_own() -> None:
    torch.manual_seed(0)
    embedding, head, ids = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7, bias=False), [2, 5]
    read, write = NewRowsEmbedding(embedding, ids), NewRowsHead(head, ids)
    words, states = torch.tensor([[0, 2, 5, 6]]), torch.randn(3, 4)
    torch.testing.assert_close(read(words), torch.nn.functional.embedding(words, read.weight))
    torch.testing.assert_close(write(states), states @ write.weight.T)
    torch.testing.assert_close(read(words)[0, [0, 3]], embedding(words)[0, [0, 3]])
    (read(words).sum() + write(states).sum()).backward()
    assert embedding.weight.grad is None
    assert head.weight.grad is None
    assert read.rows.grad.abs().sum(dim=1).min() > 0
    assert write.rows.grad.shape == (2, 4)
