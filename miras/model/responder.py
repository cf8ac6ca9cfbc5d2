"""Asking a trained network: greedy answers in batches, and the masks of the `[OBJ]...[SEG]` groups in them.

The state that predicted each token is kept while decoding, so the mask prompt is the very state that chose
`[SEG]`; nothing is run twice and no position is computed from text.
Letters: B requests, T prompt tokens, W language width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from miras.errors import DataError
from miras.files import write_json
from miras.model.config import NetworkConfig
from miras.model.features import FeatureStore
from miras.model.network import MirasNetwork
from miras.model.records import Group, Request, Response
from miras.model.tokens import RowBuilder, TokenRow
from miras.model.vision import PictureFeatures, VisionEncoders, masks_from_frame
from miras.model.weights import Backbones, load_trained, save_trained

WEIGHTS = "weights.safetensors"
NETWORK = "network.json"
MAX_NEW_TOKENS = 96  # of one answer; the longest answers of the data sets have about half of that


@dataclass(frozen=True)
class _Spoken:
    """What one row generated."""

    ids: list[int]
    states: Tensor
    """[len(ids) + 1, W]: the state that predicted each id, and the one after the last."""


@dataclass(frozen=True)
class _Pictures:
    """Features of the distinct pictures of a batch, and their sizes."""

    features: PictureFeatures
    index: Tensor
    sizes: list[tuple[int, int]]
    """(height, width) per request."""


class Responder:
    """A network with its tokenizer, ready to answer."""

    def __init__(
        self,
        network: MirasNetwork,
        builder: RowBuilder,
        *,
        device: str,
        store: FeatureStore | None = None,
        encoders: Callable[[], VisionEncoders] | None = None,
        picture_sizes: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """`store` and `picture_sizes` answer requests by image id; `encoders` is called for new pictures."""
        self.network = network.to(device).eval()
        self.builder = builder
        self.device = device
        self.store = store
        self.picture_sizes = picture_sizes or {}
        self._make_encoders = encoders
        self._encoders: VisionEncoders | None = None
        self._blank = False

    @classmethod
    def load(
        cls,
        backbones: Path,
        weights: Path,
        *,
        features: Path | None = None,
        picture_sizes: dict[str, tuple[int, int]] | None = None,
        device: str = "cpu",
    ) -> Responder:
        """Opens the weights that a training stage wrote.

        Args:
            backbones: folder of the stage `backbones`.
            weights: folder of `stage1` or `stage2`.
            features: folder of the stage `features`, for `respond`.
            picture_sizes: image id -> (height, width), for `respond`.
            device: torch device.
        """
        opened = Backbones(backbones)
        tokenizer = opened.tokenizer()
        config = read_network_config(weights)
        network = opened.network(config, num_tokens=len(tokenizer))
        load_trained(network, weights / WEIGHTS)
        store = FeatureStore(features, fingerprint=opened.manifest.fingerprint) if features else None
        builder = RowBuilder(
            tokenizer,
            num_image_tokens=opened.num_image_tokens,
            system_prompt=config.system_prompt,
            max_tokens=config.max_tokens,
        )
        return cls(
            network,
            builder,
            device=device,
            store=store,
            encoders=opened.encoders,
            picture_sizes=picture_sizes,
        )

    def without_picture(self) -> Responder:
        """The same network shown a grey picture whatever the request: the no-picture baseline."""
        blind = Responder(
            self.network,
            self.builder,
            device=self.device,
            store=self.store,
            encoders=self._make_encoders,
            picture_sizes=self.picture_sizes,
        )
        blind._blank = True
        return blind

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        """Answers to requests about stored pictures, in their order; equal to asking one by one.

        Raises:
            DataError: a picture has no stored features, or a history is longer than `network.max_tokens`.
        """
        if self.store is None:
            raise DataError("this model was opened without stored features; use `ask` with a picture.")
        image_ids = sorted({request.image_id for request in requests})
        sizes = [self.picture_sizes[request.image_id] for request in requests]
        if self._blank:
            features = self.encoders([Image.new("RGB", (64, 64), (128, 128, 128))])
            index = torch.zeros(len(requests), dtype=torch.long)
        else:
            features = self.store.read(image_ids)
            index = torch.tensor([image_ids.index(request.image_id) for request in requests])
        turns = [(request.history, request.question, request.image_id) for request in requests]
        return self._answer(turns, _Pictures(features, index, sizes))

    def ask(self, picture: Image.Image, questions: Sequence[str]) -> list[Response]:
        """Answers to successive questions about a new upright RGB picture; each sees the answers before it."""
        features = self.encoders([picture])
        pictures = _Pictures(features, torch.zeros(1, dtype=torch.long), [(picture.height, picture.width)])
        history: list[tuple[str, str]] = []
        responses = []
        for question in questions:
            (response,) = self._answer([(tuple(history), question, "dialogue")], pictures)
            history.append((question, response.answer))
            responses.append(response)
        return responses

    @property
    def encoders(self) -> VisionEncoders:
        """The frozen encoders, opened at first use."""
        if self._encoders is None:
            if self._make_encoders is None:
                raise DataError("this model was opened without encoders; it can only use stored features.")
            self._encoders = self._make_encoders().to(self.device)
        return self._encoders

    @torch.inference_mode()
    def _answer(
        self, turns: Sequence[tuple[Sequence[tuple[str, str]], str, str]], pictures: _Pictures
    ) -> list[Response]:
        started = time.perf_counter()
        features = _to(pictures.features, self.device)
        rows = [self.builder.prompt_row(history, question, where=where) for history, question, where in turns]
        spoken = self._generate(rows, self.network.image_tokens(features)[pictures.index.to(self.device)])
        groups = self._groups(spoken, features, pictures)
        seconds = (time.perf_counter() - started) / len(turns)
        return [
            Response(answer=self._text(row.ids), groups=tuple(found), seconds=seconds)
            for row, found in zip(spoken, groups, strict=True)
        ]

    def _generate(self, rows: Sequence[TokenRow], image_tokens: Tensor) -> list[_Spoken]:
        """Greedy decoding of all rows together; padded on the left, so that every row ends where answers begin."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.builder.end_id, device=self.device)
        attention = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, longest - len(row.ids) :] = torch.tensor(row.ids)
            attention[number, longest - len(row.ids) :] = 1
        starts = torch.tensor([longest - len(row.ids) + row.image_start for row in rows], device=self.device)
        embedded = self.network.embed(ids, image_start=starts, image_tokens=image_tokens)
        positions = (attention.cumsum(dim=1) - 1).clamp(min=0)
        cache = DynamicCache()
        states = [self.network.states(embedded, attention=attention, positions=positions, cache=cache)[:, -1]]
        chosen: list[Tensor] = []
        running = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        while running.any() and len(chosen) < MAX_NEW_TOKENS:
            token = self.network.text_output(states[-1]).argmax(dim=-1)
            chosen.append(torch.where(running, token, self.builder.end_id))
            running = running & (token != self.builder.end_id)
            attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
            word = self.network.language.get_input_embeddings()(chosen[-1][:, None])
            states.append(self.network.states(word, attention=attention, positions=positions, cache=cache)[:, -1])
        all_states = torch.stack(states, dim=1)
        tokens = torch.stack(chosen, dim=1).tolist()
        return [_spoken(tokens[number], all_states[number], self.builder.end_id) for number in range(len(rows))]

    def _groups(self, spoken: Sequence[_Spoken], features: PictureFeatures, pictures: _Pictures) -> list[list[Group]]:
        found = [(row, first, last) for row, said in enumerate(spoken) for first, last in self._spans(said.ids)]
        groups: list[list[Group]] = [[] for _ in spoken]
        if not found:
            return groups
        longest = max(last - first + 1 for _, first, last in found)
        spans = torch.zeros(len(found), longest, spoken[0].states.shape[-1], device=self.device)
        is_padding = torch.ones(len(found), longest, dtype=torch.bool, device=self.device)
        for number, (row, first, last) in enumerate(found):  # the state AT token k lies at k + 1
            spans[number, : last - first + 1] = spoken[row].states[first + 1 : last + 2]
            is_padding[number, : last - first + 1] = False
        query_at = torch.tensor([last - first for _, first, last in found], device=self.device)
        aligned = torch.ones_like(query_at, dtype=torch.bool)
        prompts = self.network.prompts(spans, is_padding=is_padding, query_at=query_at, aligned=aligned)
        index = pictures.index.to(self.device)[[row for row, _, _ in found]]
        logits = self.network.mask_logits(prompts, image_embeddings=features.sam, picture_index=index)
        for number, (row, first, last) in enumerate(found):
            height, width = pictures.sizes[row]
            mask = masks_from_frame(logits[number : number + 1], height=height, width=width)[0]
            phrase = self._text(spoken[row].ids[first + 1 : last + 1])
            groups[row].append(Group(phrase=phrase, mask=np.asarray(mask.cpu())))
        return groups

    def _spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """(first, last) of every target: from its `[OBJ]` to the token before its `[SEG]`.

        A `[SEG]` without `[OBJ]` still points at a mask: its span is the one token before it.
        """
        spans, opened = [], -1
        for place, token in enumerate(ids):
            if token == self.builder.obj_id:
                opened = place
            elif token == self.builder.seg_id:
                spans.append((opened if opened >= 0 else place - 1, place - 1))
                opened = -1
        return spans

    def _text(self, ids: Sequence[int]) -> str:
        text = str(self.builder.tokenizer.decode(list(ids), skip_special_tokens=False))
        return text.replace(str(self.builder.tokenizer.eos_token), "").strip()


def _spoken(tokens: list[int], states: Tensor, end_id: int) -> _Spoken:
    length = tokens.index(end_id) if end_id in tokens else len(tokens)
    return _Spoken(tokens[:length], states[: length + 1])


def _to(features: PictureFeatures, device: str) -> PictureFeatures:
    return replace(
        features,
        clip=features.clip.to(device),
        high=None if features.high is None else features.high.to(device),
        sam=features.sam.to(device),
    )


def save_weights(network: MirasNetwork, folder: Path) -> None:
    """Writes the trained parameters and the network's configuration, as `Responder.load` reads them."""
    save_trained(network, folder / WEIGHTS)
    write_json(folder / NETWORK, network.config.model_dump())


def read_network_config(folder: Path) -> NetworkConfig:
    """The configuration that a training stage's weights belong to.

    Raises:
        DataError: the folder holds no weights.
    """
    try:
        return NetworkConfig.model_validate(json.loads((folder / NETWORK).read_text("utf-8")))
    except FileNotFoundError:
        raise DataError(f"{folder / NETWORK}: no such file; run the training stage that makes it.") from None
