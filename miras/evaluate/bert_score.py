"""BERTScore of answers (Zhang et al. 2020), by transformers: F1 without idf weights and without rescaling.

As the authors' own package computes it: words begin with a space for tokenizers that tell, special tokens can be
matched but are not averaged, an empty answer scores 0. With roberta-large that package takes layer 17. Importing this
module takes seconds (torch, transformers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from miras.dialogue.rendering import plain_text
from miras.errors import ConfigError, DataError
from miras.model.weight_files import check_report

PAIRS_AT_A_TIME = 32
TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
WEIGHT_FILES = ("*.safetensors", "*.bin")  # the second only where the first are not published
POOLER = "pooler."  # of no use here, and absent from many checkpoints


@dataclass(frozen=True, eq=False)
class _Texts:
    """B texts of at most T tokens."""

    tokens: Tensor
    """[B, T, D], length 1."""
    is_token: Tensor
    """bool [B, T]."""
    is_content: Tensor
    """bool [B, T]: neither padding nor a special token."""


@dataclass(frozen=True, eq=False)
class _Encoder:
    """A language model that turns texts into token vectors."""

    model: Any
    tokenizer: Any
    max_tokens: int

    def encode(self, texts: Sequence[str], layer: int) -> _Texts:
        """Vectors of a layer; a text longer than the model reads is cut off there."""
        batch = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(self.model.device)
        is_special = batch.pop("special_tokens_mask").bool()
        with torch.inference_mode():
            states = self.model(**batch, output_hidden_states=True).hidden_states[layer].float()
        is_token = batch["attention_mask"].bool()
        return _Texts(torch.nn.functional.normalize(states, dim=-1), is_token, is_token & ~is_special)


def bert_score(
    *, answers: Sequence[str], references: Sequence[str], model: str, layer: int | None, device: str = "cpu"
) -> float:
    """Mean F1, 0 to 100, of a non-empty list of answers against one reference each; markers are stripped.

    Args:
        answers: generated.
        references: as many.
        model: folder or hub name of a transformers encoder, such as "roberta-large".
        layer: whose states are compared, counted from 1; None: the last.
        device: torch device.

    Raises:
        DataError: the model is not there, damaged, or not to be had without network.
        ConfigError: it has no such layer.
    """
    assert answers, "text scores need answers"
    encoder = _open(model, device)
    last = int(encoder.model.config.num_hidden_layers)
    if layer is not None and not 1 <= layer <= last:
        raise ConfigError(f"BERTScore: layer {layer} of {model}; it has the layers 1 to {last}. Name one, or none.")
    pairs = [(plain_text(one), plain_text(other)) for one, other in zip(answers, references, strict=True)]
    pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))  # alike in length: little padding
    scores: list[float] = []
    for start in range(0, len(pairs), PAIRS_AT_A_TIME):
        generated, expected = zip(*pairs[start : start + PAIRS_AT_A_TIME], strict=True)
        scores += _f1(encoder.encode(generated, layer or last), encoder.encode(expected, layer or last)).tolist()
    return 100 * fsum(scores) / len(scores)


def _f1(answers: _Texts, references: _Texts) -> Tensor:
    """[B]: harmonic mean of precision and recall; 0 where a text has no content."""
    similarity = answers.tokens @ references.tokens.transpose(1, 2)
    nothing = similarity.new_tensor(-torch.inf)
    to_reference = similarity.where(references.is_token[:, None, :], nothing).amax(dim=2)
    to_answer = similarity.where(answers.is_token[:, :, None], nothing).amax(dim=1)
    precision, recall = _mean(to_reference, answers.is_content), _mean(to_answer, references.is_content)
    has_both = answers.is_content.any(dim=1) & references.is_content.any(dim=1) & (precision + recall != 0)
    return torch.where(has_both, 2 * precision * recall / (precision + recall), 0.0)


def _mean(values: Tensor, is_counted: Tensor) -> Tensor:
    return values.where(is_counted, 0.0).sum(dim=1) / is_counted.sum(dim=1).clamp(min=1)


@lru_cache(maxsize=1)
def _open(model: str, device: str) -> _Encoder:
    folder = _folder(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
        loaded: Any = AutoModel.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).partition("\n")[0].rstrip(".: ") or type(error).__name__
        raise DataError(
            f"BERTScore: {folder} is no transformers encoder that can be read: {reason}. "
            "Download it again, or name another."
        ) from None
    network, report = loaded
    report["missing_keys"] = {name for name in report["missing_keys"] if not name.startswith(POOLER)}
    check_report(network, report, path=folder)
    # RoBERTa counts positions from 2, and not every tokenizer states its limit.
    readable = getattr(network.config, "max_position_embeddings", tokenizer.model_max_length + 2) - 2
    return _Encoder(network.eval().to(device), tokenizer, min(tokenizer.model_max_length, readable))


def _folder(model: str) -> Path:
    """The model's files, fetched if need be."""
    if Path(model).is_dir():
        return Path(model)
    try:
        for weights in WEIGHT_FILES:
            folder = Path(snapshot_download(model, allow_patterns=[*TOKENIZER_FILES, weights]))
            if any(folder.glob(weights)):
                return folder
    except HFValidationError:
        raise DataError(f"BERTScore: {model} is neither a folder nor a hub name. Correct the name.") from None
    except OSError as error:
        raise DataError(
            f"BERTScore: {model} is neither a folder nor in the local cache, and the hub does not give it "
            f"({type(error).__name__}). Run `hf download {model}` once where there is a network, or name a folder."
        ) from None
    raise DataError(f"BERTScore: {model} has no weights for torch ({' or '.join(WEIGHT_FILES)}). Name another model.")
