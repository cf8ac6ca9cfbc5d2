"""Reading token by token gives the library's own states, however rows are padded, cut short or left out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, MistralConfig, Qwen2Config

from miras.errors import ConfigError
from miras.model.decoding import Prefix, PromptRow, Spoken, finish, generate
from miras.model.network import MirasNetwork
from miras.model.reading import GROWTH_TOKENS, Reading
from miras.model.weights import Backbones
from tests.unit.model.tiny_network import make_network

END = 3


@pytest.fixture(scope="module")
def network(backbones: Backbones) -> MirasNetwork:
    torch.manual_seed(4)
    return make_network(backbones)[0].eval()


def embeddings(network: MirasNetwork, rows: int, tokens: int, *, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(rows, tokens, network.language.config.hidden_size)


def by_library(network: MirasNetwork, embedded: Tensor) -> Tensor:
    """States [T, W] of one row [T, W] that the library reads whole."""
    return network.states(embedded[None])[0]


def open_rows(network: MirasNetwork, is_token: Tensor) -> Reading:
    return Reading(network.language, is_token=is_token, dtype=torch.float32)


@torch.inference_mode()
def test_states_are_the_librarys_at_every_step(network: MirasNetwork) -> None:
    tokens = 5 + 2 * GROWTH_TOKENS  # memory grows twice
    embedded = embeddings(network, 1, tokens)
    expected = by_library(network, embedded[0])
    reading = open_rows(network, torch.ones(1, 4, dtype=torch.bool))
    found = [reading.read(embedded[:, :4], torch.arange(4)[None])[0]]
    for place in range(4, tokens):
        found.append(reading.read(embedded[:, place : place + 1], torch.tensor([[place]]))[0])
    torch.testing.assert_close(torch.stack(found), expected[3:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-4, 1e4])
@torch.inference_mode()
def test_states_of_any_size_are_the_librarys(network: MirasNetwork, size: float) -> None:
    embedded = size * embeddings(network, 1, 6)
    reading = open_rows(network, torch.ones(1, 6, dtype=torch.bool))
    found = reading.read(embedded, torch.arange(6)[None])[0]
    torch.testing.assert_close(found, by_library(network, embedded[0])[-1], rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_norms_in_smaller_dtypes_round_where_the_librarys_do(backbones: Backbones) -> None:
    language = make_network(backbones)[0].eval().language.to(torch.bfloat16)
    torch.nn.init.normal_(language.norm.weight)
    language.layers = language.layers[:0]
    embedded = torch.randn(1, 40, language.config.hidden_size, dtype=torch.bfloat16)
    reading = Reading(language, is_token=torch.ones(1, 40, dtype=torch.bool), dtype=torch.bfloat16)
    assert torch.equal(reading.read(embedded, torch.arange(40)[None])[0], language.norm(embedded)[0, -1])


@torch.inference_mode()
def test_adapters_are_read_through(backbones: Backbones) -> None:
    network = make_network(backbones, language_training="lora")[0].eval()
    without = by_library(network, embeddings(network, 1, 7)[0])
    for name, parameter in network.language.named_parameters():
        if "lora_B" in name:  # starts at zero
            torch.nn.init.normal_(parameter)
    embedded = embeddings(network, 1, 7)
    expected = by_library(network, embedded[0])
    assert not torch.allclose(expected, without, atol=1e-2)
    reading = open_rows(network, torch.ones(1, 6, dtype=torch.bool))
    reading.read(embedded[:, :6], torch.arange(6)[None])
    found = reading.read(embedded[:, 6:], torch.tensor([[6]]))[0]
    torch.testing.assert_close(found, expected[-1], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_padding_before_rows_changes_nothing(network: MirasNetwork) -> None:
    embedded = embeddings(network, 2, 6)
    is_token = torch.ones(2, 4, dtype=torch.bool)
    is_token[1, :3] = False  # the second row has one token, then steps
    positions = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0]])
    reading = open_rows(network, is_token)
    rows = torch.stack([embedded[0, :4], torch.nn.functional.pad(embedded[1, :1], (0, 0, 3, 0))])
    first = reading.read(rows, positions)
    second = reading.read(torch.stack([embedded[0, 4:5], embedded[1, 1:2]]), torch.tensor([[4], [1]]))
    both = torch.stack([first, second], dim=1)
    expected = torch.stack([by_library(network, embedded[0, :5])[3:], by_library(network, embedded[1, :2])])
    torch.testing.assert_close(both, expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_rows_that_are_left_out_do_not_touch_the_others(network: MirasNetwork) -> None:
    embedded = embeddings(network, 3, 5)
    reading = open_rows(network, torch.ones(3, 4, dtype=torch.bool))
    reading.read(embedded[:, :4], torch.arange(4).expand(3, -1))
    reading.only([2, 0])
    found = reading.read(embedded[[2, 0], 4:], torch.full((2, 1), 4))
    expected = torch.stack([by_library(network, embedded[2])[-1], by_library(network, embedded[0])[-1]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_several_new_tokens_on_what_was_kept(network: MirasNetwork) -> None:
    embedded = embeddings(network, 1, 9)
    before = open_rows(network, torch.ones(1, 6, dtype=torch.bool))
    before.read(embedded[:, :6], torch.arange(6)[None])
    kept = before.kept(0, range(6))
    after = open_rows(network, torch.ones(1, 9, dtype=torch.bool))
    after.take([(keys[None], values[None]) for keys, values in kept])
    found = after.read(embedded[:, 6:], torch.arange(6, 9)[None])
    torch.testing.assert_close(found[0], by_library(network, embedded[0])[-1], rtol=1e-5, atol=1e-6)


def test_what_is_kept_is_not_written_on(network: MirasNetwork) -> None:
    embedded = embeddings(network, 1, 6)
    reading = open_rows(network, torch.ones(1, 5, dtype=torch.bool))
    with torch.inference_mode():
        reading.read(embedded[:, :5], torch.arange(5)[None])
        kept = reading.kept(0, range(5))
        copies = [(keys.clone(), values.clone()) for keys, values in kept]
        reading.read(embedded[:, 5:], torch.tensor([[5]]))
    for (keys, values), (same_keys, same_values) in zip(kept, copies, strict=True):
        assert torch.equal(keys, same_keys)
        assert torch.equal(values, same_values)


SIZES = {
    "vocab_size": 20,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SIZES, sliding_window=None),
        MistralConfig(**SIZES, sliding_window=6),
        Qwen2Config(**SIZES),
    ],
    ids=["mistral", "mistral with a window", "qwen2"],
)
@torch.inference_mode()
def test_other_kinds_of_language_models_are_read_as_the_library_reads_them(config: MistralConfig | Qwen2Config) -> None:
    torch.manual_seed(0)
    language = AutoModel.from_config(config, attn_implementation="eager").eval()
    embedded = torch.randn(1, 12, 32)
    expected = language(inputs_embeds=embedded).last_hidden_state[0]
    reading = Reading(language, is_token=torch.ones(1, 4, dtype=torch.bool), dtype=torch.float32)
    found = [reading.read(embedded[:, :4], torch.arange(4)[None])[0]]
    found += [reading.read(embedded[:, i : i + 1], torch.tensor([[i]]))[0] for i in range(4, 9)]
    found += [reading.read(embedded[:, 9:], torch.arange(9, 12)[None])[0]]
    torch.testing.assert_close(torch.stack(found), expected[[3, 4, 5, 6, 7, 8, 11]], rtol=1e-5, atol=1e-6)


def test_layers_of_two_kinds_are_refused() -> None:
    config = Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    with pytest.raises(ConfigError, match="windows in some layers"):
        Reading(AutoModel.from_config(config), is_token=torch.ones(1, 1, dtype=torch.bool), dtype=torch.float32)


def test_another_kind_of_language_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear"):
        Reading(torch.nn.Linear(2, 2), is_token=torch.ones(1, 1, dtype=torch.bool), dtype=torch.float32)  # type: ignore[arg-type]


def row_of(network: MirasNetwork, length: int, *, prefix: Prefix | None = None) -> PromptRow:
    return PromptRow(list(range(length)), embeddings(network, 1, length, seed=length)[0], prefix)


@torch.inference_mode()
def say(network: MirasNetwork, rows: Sequence[PromptRow], **settings: object) -> list[Spoken]:
    return finish(generate(network, rows, end_id=END, keep=True, **settings))  # type: ignore[arg-type]


def test_a_row_that_nobody_waits_for_ends_at_once_and_the_others_go_on(network: MirasNetwork) -> None:
    rows = [row_of(network, 5), row_of(network, 9), row_of(network, 7)]
    alone = say(network, rows[:1], limit=12)[0]
    with torch.inference_mode():
        steps = generate(network, rows, end_id=END, keep=True, limit=12)
        next(steps)
        assert [token is None for token in steps.send([1])] == [False, True, False]
        with pytest.raises(StopIteration) as end:
            while True:
                next(steps)
    first, left, _ = end.value.value
    assert first.ids == alone.ids
    assert len(left.ids) <= 1
    assert left.prefix is None
    assert left.is_cut


def test_no_row_is_read_beyond_its_answer(network: MirasNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, read = [], Reading.read

    def counted(reading: Reading, embedded: Tensor, positions: Tensor) -> Tensor:
        sizes.append(tuple(embedded.shape[:2]))
        return read(reading, embedded, positions)

    monkeypatch.setattr(Reading, "read", counted)
    answers = iter([[5, 5], [END, 5], [5], [END]])  # the first row ends a token after it began
    vocabulary = network.text_output.out_features

    def chosen(_: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(next(answers)), vocabulary)

    monkeypatch.setattr(network.text_output, "forward", chosen)
    one, other = say(network, [row_of(network, 5), row_of(network, 7)])
    assert sizes == [(2, 7), (2, 1), (1, 1), (1, 1)]
    assert (one.ids, other.ids) == ([5], [5, 5, 5])


def test_an_answer_is_kept_up_to_the_last_token_read(network: MirasNetwork) -> None:
    row = row_of(network, 6)
    (cut,) = say(network, [row], limit=4)
    assert cut.is_cut
    assert cut.prefix is not None
    assert cut.prefix.tokens == (*row.tokens, *cut.ids[:-1])
    assert {part.shape[1] for layer in cut.prefix.layers for part in layer} == {len(cut.prefix.tokens)}
    assert len(cut.states) == len(cut.ids) == 4
