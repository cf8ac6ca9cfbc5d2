"""BERTScore with a RoBERTa of three small layers made here, against the formula in plain loops."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from miras.errors import ConfigError, DataError
from miras.evaluate.bert_score import PAIRS_AT_A_TIME, bert_score

WORDS = ("the", "red", "mug", "stands", "on", "an", "old", "shelf", "a", "man", "holds", "what", "is", "says", "EXIT")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MAX_TOKENS = 38


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roberta")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([" ".join(WORDS)] * 4, vocab_size=330, special_tokens=SPECIAL)
    trained.save_model(str(folder))
    tokenizer = RobertaTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_TOKENS + 2,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=dice.randint(1, 9))).capitalize() + "." for _ in range(count)]


def vectors(text: str, model: Path, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[T, D] of all tokens, and which of them are no special ones; one text at a time, nothing padded."""
    tokenizer = RobertaTokenizer.from_pretrained(model)
    ids = tokenizer(" " + text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    network = RobertaModel.from_pretrained(model).eval()
    with torch.no_grad():
        states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
    return states / states.norm(dim=1, keepdim=True), torch.tensor([number not in (0, 2) for number in ids])


def plain_score(answer: str, reference: str, model: Path, layer: int) -> float:
    (found, of_answer), (expected, of_reference) = vectors(answer, model, layer), vectors(reference, model, layer)
    precision = sum(max(float(a @ b) for b in expected) for a in found[of_answer]) / int(of_answer.sum())
    recall = sum(max(float(a @ b) for a in found) for b in expected[of_reference]) / int(of_reference.sum())
    return 100 * 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [None, 2])
def test_scores_are_those_of_the_formula(model: Path, layer: int | None) -> None:
    answers, references = sentences(5, seed=1), sentences(5, seed=2)
    expected = [plain_score(*pair, model, layer or 3) for pair in zip(answers, references, strict=True)]
    found = bert_score(answers=answers, references=references, model=str(model), layer=layer)
    assert found == pytest.approx(sum(expected) / 5, abs=1e-3)


def test_a_list_scores_as_its_pairs_one_by_one(model: Path) -> None:
    """More than one batch, of very different lengths."""
    count = PAIRS_AT_A_TIME + 7
    answers, references = sentences(count, seed=3), sentences(count, seed=4)
    single = [
        bert_score(answers=[a], references=[b], model=str(model), layer=2)
        for a, b in zip(answers, references, strict=True)
    ]
    found = bert_score(answers=answers, references=references, model=str(model), layer=2)
    assert found == pytest.approx(sum(single) / count, abs=1e-4)


def test_the_same_text_scores_100_and_markers_do_not_count(model: Path) -> None:
    plain, marked = "The red mug stands on a shelf.", "The [OBJ]red mug[SEG] stands on a shelf."
    assert bert_score(answers=[marked], references=[plain], model=str(model), layer=None) == pytest.approx(
        100, abs=1e-3
    )
    assert bert_score(answers=["A man."], references=[plain], model=str(model), layer=None) < 99


def test_an_empty_answer_scores_zero_and_counts(model: Path) -> None:
    texts = ["a man holds a sign", "the mug"]
    found = bert_score(answers=["", texts[1]], references=texts, model=str(model), layer=None)
    assert found == pytest.approx(50, abs=1e-3)
    assert bert_score(answers=["mug"], references=["[SEG]"], model=str(model), layer=None) == 0.0


def test_a_text_longer_than_the_model_reads_is_cut_off(model: Path) -> None:
    long = " ".join(WORDS * 10)
    found = bert_score(answers=[long + " mug"], references=[long + " sign"], model=str(model), layer=None)
    assert found == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize("layer", [0, -1, 4])
def test_a_layer_that_the_model_lacks_is_refused(model: Path, layer: int) -> None:
    with pytest.raises(ConfigError, match=f"layer {layer} of .* the layers 1 to 3"):
        bert_score(answers=["a"], references=["a"], model=str(model), layer=layer)


# --- models that are not there


def refused(model: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        bert_score(answers=["a"], references=["a"], model=model, layer=None)


def test_without_network_a_hub_name_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("some-one/no-such-model", r"neither a folder nor in the local cache.*`hf download some-one/no-such-model`")


def test_what_is_no_name_is_refused(tmp_path: Path) -> None:
    refused(str(tmp_path / "absent"), "neither a folder nor a hub name")
    refused("two words", "neither a folder nor a hub name")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    refused(str(tmp_path), "no transformers encoder that can be read")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_model_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    refused(str(folder), "damaged is no transformers encoder that can be read")


def test_a_model_that_lacks_weights_is_refused(model: Path, tmp_path: Path) -> None:
    """transformers would fill them with random numbers."""
    folder = tmp_path / "partial"
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(str(folder), r"encoder\.layer\.1\.output\.dense\.weight")
