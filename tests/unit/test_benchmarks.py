"""Benchmarks: the form of their results, and that the sides of a comparison do the same thing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks import train, train_setup
from benchmarks.plain_lisa import EncodingStore, PlainLisa, all_logits_cross_entropy, plain_batch
from benchmarks.report import added_bytes, compare, device_name, measure, publish
from benchmarks.train_setup import Data, Model, Settings
from miras.model.features import FeatureStore
from miras.model.losses import LossWeights, text_cross_entropy

CPU = torch.device("cpu")
COUNT = 3


@pytest.fixture(scope="module")
def settings() -> Settings:
    return train_setup.read_settings(
        train_setup.Scale("smoke", "smoke", picture_px=64, steps=(), quick_steps=(), is_bf16=False)
    )


@pytest.fixture(scope="module")
def data(settings: Settings) -> Data:
    assert settings.backbones.mini is not None
    return train_setup.make_data(settings, pictures=COUNT, picture_px=settings.backbones.mini.sam.image_size_px)


@pytest.fixture(scope="module")
def models(settings: Settings, data: Data) -> list[Model]:
    """Ours and the plain one's."""
    return [
        train_setup.make_model(settings, data.tokenizer, device=CPU, is_bf16=False, is_plain=is_plain)
        for is_plain in (False, True)
    ]


@pytest.fixture(scope="module")
def store(models: list[Model], data: Data, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return train_setup.write_store(tmp_path_factory.mktemp("features"), models[0], data.pictures)


def test_results_have_the_promised_keys_and_ratios_say_how_much_better_ours_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        compare("speed", ours=6.0, other=2.0, unit="dialogues/s", more_is_better=True, least_ratio=3),
        compare("memory", ours=4.0, other=2.0, unit="GB", least_ratio=1),
        compare("too large", ours=1.0, other=None, unit="s"),
    ]
    publish("train", "cpu-2-cores", rows, is_quick=True, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    quick = capsys.readouterr().out.splitlines()
    publish("train", "cpu-2-cores", rows, folder=tmp_path)
    found = json.loads((tmp_path / "train-cpu-2-cores.json").read_text())
    keys = {"measure", "ours", "other", "ratio", "unit", "target", "met", "commit", "date"}
    assert [set(row) for row in found] == [keys] * 3
    assert [(row["ratio"], row["target"], row["met"]) for row in found] == [
        (3.0, "ratio >= 3", True),
        (0.5, "ratio >= 1", False),
        (None, "", None),
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["measure", "ours", "other", "ratio", "unit", "target", "met"]
    assert printed[:4] == quick[:4]
    assert len(printed) == len(quick) == 5  # the last one says where it was written


def test_the_device_is_part_of_a_file_name() -> None:
    assert device_name(CPU).startswith("cpu-")
    assert device_name(CPU).endswith("-cores")


def test_added_memory_is_the_most_that_a_call_holds_at_a_time() -> None:
    def call() -> None:
        first = torch.ones(1000, 250)  # 1 MB
        second = first + 1
        del first
        (second + 1).sum()

    assert added_bytes(call, CPU) == pytest.approx(2e6, rel=0.01)


def test_every_call_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []
    costs = measure({name: partial(made.append, name) for name in "ab"}, device=CPU, repetitions=2)
    assert made == ["a", "a", "b", "b", "a", "b", "b", "a"]  # first calls, memory, then taking turns
    assert all(cost.wall_s >= 0 and cost.bytes == 0 for cost in costs.values())
    assert "a: seconds" in capsys.readouterr().out


def test_the_plain_step_has_our_loss_and_gradients(
    settings: Settings, data: Data, models: list[Model], store: FeatureStore
) -> None:
    """At the picture's resolution, which the plain step compares masks at."""
    ours, plain = models
    side = next(iter(data.pictures.values())).height
    collator = train_setup.make_collator(settings, data, ours, store, mask_side=side)
    rows = train_setup.packed_rows(settings, data, COUNT)
    single = train_setup.unpacked(rows)
    assert len(single) > len(rows)
    batch = collator(rows, collator.token_rows(rows))
    assert len(batch.target_row) > 1
    expected = ours.network(batch, LossWeights()).total
    expected.backward()
    found = PlainLisa(plain.network, plain.encoders).loss(
        plain_batch(
            single,
            collator.token_rows(single),
            pictures=data.pictures,
            regions=data.regions,
            encoders=plain.encoders,
        ),
        LossWeights(),
    )
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)  # stored features are float16
    theirs = dict(plain.network.named_parameters())
    for name in ("prompt_head.0.weight", "text_output.weight", "mask_decoder.mask_tokens.weight"):
        wanted, gradient = ours.network.get_parameter(name).grad, theirs[name].grad
        assert wanted is not None
        assert gradient is not None
        assert (gradient - wanted).norm() < 0.02 * wanted.norm(), name
    for model in models:
        model.optimiser.zero_grad()


def test_features_computed_in_the_step_are_the_stored_ones(
    settings: Settings, data: Data, models: list[Model], store: FeatureStore
) -> None:
    ids = list(data.pictures)
    computed = EncodingStore(models[0].encoders, data.pictures, torch.float32).read(ids, num_sam=2)
    stored = store.read(ids, num_sam=2)
    for part in ("clip", "high", "sam"):
        torch.testing.assert_close(getattr(computed, part), getattr(stored, part), rtol=2e-3, atol=2e-3)


def test_logits_of_all_positions_give_the_loss_of_supervised_ones() -> None:
    torch.manual_seed(0)
    head, states = nn.Linear(8, 50, bias=False), torch.randn(2, 7, 8)
    labels = torch.randint(50, (2, 7)).masked_fill(torch.rand(2, 7) < 0.5, -100)
    expected: Tensor = text_cross_entropy(states, head, labels, chunks=1)
    torch.testing.assert_close(all_logits_cross_entropy(states, head, labels), expected)


def test_all_sides_of_a_step_learn_from_the_same_dialogues(
    settings: Settings, data: Data, models: list[Model], store: FeatureStore
) -> None:
    ours, plain = models
    sides = train.make_sides(settings, data, ours, plain, store, count=COUNT, per_pass=2)
    assert set(sides) == {"ours", *train.TITLES}
    for name, side in sides.items():
        weight = side.model.network.get_parameter("prompt_head.0.weight")
        before = weight.detach().clone()
        side.run()
        assert not torch.equal(weight, before), name
    assert [rows for rows, _ in sides["ours"].padded] == [2, 1]
    assert sum(rows for rows, _ in sides["plain"].padded) == len(
        train_setup.unpacked(train_setup.packed_rows(settings, data, COUNT))
    )


@pytest.mark.parametrize("arguments", [["--size", "7b", "--device", "cpu"], ["--device", "cuda"]])
def test_what_this_machine_cannot_measure_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        train.main(arguments)
    assert "error: --" in capsys.readouterr().err.splitlines()[-1]
