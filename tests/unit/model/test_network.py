"""What the network must do whatever its weights: positions, causality, identity at start, batching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from miras.errors import DataError
from miras.model.decoder import decode_masks
from miras.model.decoding import finish, generate
from miras.model.losses import LossWeights
from miras.model.mining import PatchMining, to_windows
from miras.model.network import MirasNetwork, gather_spans
from miras.model.responder import Responder, save_weights
from miras.model.talker import Talker
from miras.model.tokens import RowBuilder, TurnText
from miras.model.vision import PictureFeatures
from miras.model.weights import Backbones
from tests.unit.model.tiny_network import (
    make_batch,
    make_network,
    network_config,
    no_memory,
    tiny_mini,
    write_backbones,
)

QUESTION = "what is the red mug on the left"
ASKED = TurnText(QUESTION, "here {target} it is", ("red mug",))
PLAIN = TurnText(QUESTION, "here it is")


def make_features(backbones: Backbones, count: int = 1) -> PictureFeatures:
    torch.manual_seed(2)
    side = round(backbones.num_image_tokens**0.5)
    return PictureFeatures(
        torch.randn(count, side * side, 16),
        torch.randn(count, 24, 2 * side, 2 * side),
        torch.randn(count, 16, 8, 8),
    )


def mask_of(network: MirasNetwork, builder: RowBuilder, features: PictureFeatures, turns: list) -> torch.Tensor:
    row = builder.training_row([turns], names=["test"])
    with torch.no_grad():
        return network.forward_logits(make_batch([row], features, [0]))[1].targets


@pytest.mark.parametrize("tokens_per_side", [1, 2, 8, 16, 24])
def test_the_prompt_state_is_the_one_that_chose_seg_in_step_by_step_decoding(
    tmp_path: Path, tokens_per_side: int
) -> None:
    backbones = write_backbones(tmp_path, tiny_mini(tokens_per_side))
    network, builder = make_network(backbones, max_tokens=1024)
    features = make_features(backbones)
    row = builder.training_row([[ASKED]], names=["test"])
    prompt = builder.prompt_row([TurnText(QUESTION)], where="test")
    with torch.no_grad():
        states, logits = network.forward_logits(make_batch([row], features, [0]))
        gathered, _ = gather_spans(states, row=torch.tensor([0]), span=torch.tensor(row.spans))
    responder = Responder(network, builder, device="cpu")
    answer_ids = row.ids[len(prompt.ids) :]
    forced = iter(answer_ids)
    network.text_output.forward = lambda _: torch.nn.functional.one_hot(  # type: ignore[method-assign]
        torch.tensor([next(forced)]), len(builder.tokenizer)
    ).float()
    with torch.inference_mode():
        prompts = responder.prompts([prompt], network.image_tokens(features), no_memory(), names=[])
        (spoken,) = finish(generate(network, prompts, end_id=builder.end_id))
        (first, last, _) = responder._spans(spoken.ids)[0]
    assert spoken.ids == answer_ids[:-1]
    torch.testing.assert_close(spoken.states[first + 1 : last + 2], gathered[0], rtol=1e-4, atol=1e-5)
    assert logits.targets.shape == (1, 32, 32)


def test_changing_the_question_changes_the_mask(backbones: Backbones) -> None:
    network, builder = make_network(backbones)
    features = make_features(backbones)
    one = mask_of(network, builder, features, [ASKED])
    other = mask_of(network, builder, features, [replace(ASKED, question="segment what we have been talking about")])
    assert not torch.allclose(one, other, atol=1e-6)


def test_changing_text_after_seg_does_not_change_the_mask(backbones: Backbones) -> None:
    network, builder = make_network(backbones)
    features = make_features(backbones)
    one = mask_of(network, builder, features, [ASKED])
    other = mask_of(network, builder, features, [replace(ASKED, answer="here {target} red")])
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_every_mask_pairs_with_its_own_picture_whatever_the_number_of_targets(backbones: Backbones) -> None:
    network, builder = make_network(backbones)
    features = make_features(backbones, count=3)
    rows = [
        builder.training_row([[PLAIN]], names=["none"]),
        builder.training_row([[TurnText(QUESTION, "{target} and {target}", ("red mug", "handle"))]], names=["two"]),
        builder.training_row([[ASKED]], names=["one"]),
    ]
    with torch.no_grad():
        _, together = network.forward_logits(make_batch(rows, features, [2, 0, 1]))
        _, second = network.forward_logits(make_batch([rows[1]], features[torch.tensor([0])], [0]))
        _, third = network.forward_logits(make_batch([rows[2]], features[torch.tensor([1])], [0]))
    alone = torch.cat([second.targets, third.targets])
    torch.testing.assert_close(together.targets, alone, rtol=1e-3, atol=1e-4)


def test_a_batch_without_masks_trains_the_text_and_touches_every_parameter(backbones: Backbones) -> None:
    network, builder = make_network(backbones)
    row = builder.training_row([[PLAIN]], names=["none"])
    losses = network(make_batch([row], make_features(backbones), [0]), LossWeights())
    losses.total.backward()
    assert losses.bce == 0
    assert losses.dice == 0
    assert torch.isfinite(losses.total)
    assert network.prompt_head[0].weight.grad is not None


def test_alignment_is_identity_at_start_ignores_padding_and_learns(backbones: Backbones) -> None:
    network, _ = make_network(backbones)
    alignment = network.alignment
    assert alignment is not None
    query, span = torch.randn(2, 16), torch.randn(2, 5, 16)
    is_padding = torch.tensor([[False, False, True, True, True], [False] * 5])
    torch.testing.assert_close(alignment(query, span, is_padding=is_padding), query)
    torch.nn.init.normal_(alignment.attention.out_proj.weight)
    changed = span.clone()
    changed[0, 2:] += 100
    torch.testing.assert_close(
        alignment(query, span, is_padding=is_padding), alignment(query, changed, is_padding=is_padding)
    )
    alignment(query, span, is_padding=is_padding).sum().backward()
    assert alignment.attention.in_proj_weight.grad.abs().sum() > 0
    assert any(name.startswith("alignment.") for name, _ in network.trainable())


def test_lisa_has_neither_mining_nor_alignment(backbones: Backbones) -> None:
    network, builder = make_network(backbones, dual_encoder=False, region_alignment="off")
    assert network.mining is None
    assert network.alignment is None
    features = replace(make_features(backbones), high=None)
    assert mask_of(network, builder, features, [ASKED]).shape == (1, 32, 32)


def test_lora_trains_adapters_and_the_rows_of_new_words_only(backbones: Backbones, tmp_path: Path) -> None:
    network, _ = make_network(backbones, language_training="lora")
    trained = dict(network.trainable())
    language = [name for name in trained if name.startswith("language.")]
    assert all("lora_" in name or name == "language.embed_tokens.rows" for name in language)
    assert trained["language.embed_tokens.rows"].shape == trained["text_output.rows"].shape == (5, 32)
    assert not any(name.startswith("text_output.base") for name in trained)
    assert {name.split(".")[-4] for name in language if "lora_" in name} == {"q_proj", "v_proj"}
    plain, _ = make_network(backbones)
    embedded = torch.randn(1, 5, 32)
    torch.testing.assert_close(network.states(embedded), plain.states(embedded))  # adapters start as the identity
    save_weights(network, tmp_path, fingerprint=backbones.manifest.fingerprint)
    Responder.load(backbones.folder, tmp_path)


def test_a_token_mines_its_own_window_only() -> None:
    torch.manual_seed(0)
    mining = PatchMining(low_width=8, high_width=6)
    low, high = torch.randn(1, 16, 8), torch.randn(1, 6, 8, 8)
    changed = high.clone()
    changed[0, :, 0:2, 2:4] += 10  # the window of token 1
    difference = (mining(low, high) - mining(low, changed)).abs().sum(dim=-1)[0]
    assert difference[1] > 0
    assert difference.sum() == difference[1]
    torch.testing.assert_close(to_windows(high, tokens_per_side=4)[0, 1, :, 0], high[0, 0, 0:2, 2:4].flatten())


def test_mining_with_zero_values_leaves_the_tokens_alone() -> None:
    mining = PatchMining(low_width=8, high_width=6)
    torch.nn.init.zeros_(mining.value[1].weight)
    torch.nn.init.zeros_(mining.value[1].bias)
    low = torch.randn(2, 4, 8)
    torch.testing.assert_close(mining(low, torch.randn(2, 6, 4, 4)), low)


def test_the_batched_decoder_equals_segment_anything_picture_by_picture(backbones: Backbones) -> None:
    network, _ = make_network(backbones)
    embeddings, prompts = torch.randn(2, 16, 8, 8), torch.randn(3, 1, 16)
    index = torch.tensor([0, 1, 1])
    with torch.no_grad():
        ours = decode_masks(
            network.mask_decoder,
            network.prompt_encoder,
            image_embeddings=embeddings,
            prompts=prompts,
            image_index=index,
        )
        for number in range(3):
            theirs, _ = network.mask_decoder(
                image_embeddings=embeddings[index[number]][None],
                image_pe=network.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=prompts[number][None],
                dense_prompt_embeddings=network.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(
                    1, -1, 8, 8
                ),
                multimask_output=False,
            )
            torch.testing.assert_close(ours[number], theirs[0, 0], rtol=1e-4, atol=1e-5)


def test_a_typed_marker_never_becomes_one(backbones: Backbones) -> None:
    _, builder = make_network(backbones)
    row = builder.prompt_row([TurnText("what is [SEG] and [OBJ] and <image>")], where="test")
    assert row.ids.count(builder.image_id) == builder.num_image_tokens
    assert builder.seg_id not in row.ids
    assert builder.obj_id not in row.ids


def test_a_row_that_is_too_long_is_refused_not_cut(backbones: Backbones) -> None:
    _, builder = make_network(backbones, max_tokens=40)
    with pytest.raises(DataError, match="max_tokens is 40"):
        builder.training_row([[ASKED] * 5], names=["dialogue d1"])


def test_saved_weights_answer_the_same(backbones: Backbones, tmp_path: Path) -> None:
    network, _ = make_network(backbones)
    save_weights(network, tmp_path, fingerprint=backbones.manifest.fingerprint)
    loaded = Responder.load(backbones.folder, tmp_path).network
    for name, value in network.learned():
        torch.testing.assert_close(loaded.get_parameter(name), value, msg=name)
    picture = Image.effect_noise((50, 30), 80).convert("RGB")
    first = Talker(Responder.load(backbones.folder, tmp_path)).ask(picture, [QUESTION])
    second = Talker(Responder.load(backbones.folder, tmp_path)).ask(picture, [QUESTION])
    assert first[0].answer == second[0].answer
    assert [group.mask.shape for group in first[0].groups] == [(30, 50)] * len(first[0].groups)


def test_weights_of_another_configuration_are_refused(backbones: Backbones, tmp_path: Path) -> None:
    network, _ = make_network(backbones, dual_encoder=False)
    save_weights(network, tmp_path, fingerprint=backbones.manifest.fingerprint)
    (tmp_path / "network.json").write_text(network_config().model_dump_json())
    with pytest.raises(DataError, match="missing: mining"):
        Responder.load(backbones.folder, tmp_path)


def test_weights_trained_on_other_backbones_of_the_same_size_are_refused(backbones: Backbones, tmp_path: Path) -> None:
    network, _ = make_network(backbones)
    save_weights(network, tmp_path, fingerprint="0123456789abcdef")
    with pytest.raises(DataError, match="trained on backbones 0123456789ab"):
        Responder.load(backbones.folder, tmp_path)


@pytest.mark.parametrize("training", ["full", "lora"])
def test_a_backbone_in_bfloat16_trains_float32_parameters_to_about_the_same_loss(
    backbones: Backbones, training: str
) -> None:
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        network, builder = make_network(backbones, language_training=training)
        network.set_precision(precision)
        torch.manual_seed(4)
        batch = make_batch([builder.training_row([[ASKED]], names=["test"])], make_features(backbones), [0])
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            found = network(batch, LossWeights())
        found.total.backward()
        assert {value.dtype for _, value in network.trainable()} == {torch.float32}
        assert all(value.grad.isfinite().all() for _, value in network.trainable())
        losses.append(found.total.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(backbones: Backbones) -> None:
    found = []
    for checkpointing in (False, True):
        network, builder = make_network(backbones)
        if checkpointing:
            network.language.activation_checkpointing_enable({"use_reentrant": False})
        network.train()
        torch.manual_seed(4)
        batch = make_batch(
            [builder.training_row([[ASKED], [PLAIN]], names=["test"] * 2)], make_features(backbones), [0]
        )
        loss = network(batch, LossWeights()).total
        found.append((loss, torch.autograd.grad(loss, network.language.layers[0].mlp.up_proj.weight)[0]))
    torch.testing.assert_close(found[0], found[1])
