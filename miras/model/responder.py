"""Asking a trained network: greedy answers in batches, and the masks of the `[OBJ]...[SEG]` groups in them.

The state that predicted each token is kept while decoding, so the mask prompt is the very state that chose
`[SEG]`; nothing is run twice and no position is computed from text.
Letters: B requests, T prompt tokens, W language width, m referenced masks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from miras.dialogue.rendering import split_groups
from miras.errors import DataError
from miras.files import write_json
from miras.model.batch import MemoryTokens
from miras.model.config import NetworkConfig
from miras.model.decoding import MAX_NEW_TOKENS, Prefix, PromptRow, Spoken, finish, generate
from miras.model.devices import to_device
from miras.model.features import FeatureStore
from miras.model.memory import encode_regions, frame_box
from miras.model.network import MirasNetwork
from miras.model.records import Group, Request, Response
from miras.model.talk import mask_name
from miras.model.tokens import RowBuilder, TokenRow, TurnText
from miras.model.vision import PictureFeatures, VisionEncoders, masks_from_frame
from miras.model.weights import Backbones, load_trained, save_trained

WEIGHTS = "weights.safetensors"
NETWORK = "network.json"
MAX_KEPT_BYTES = 8 * 2**30  # keys and values of a batch that are handed out for the next turn


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a batch of requests."""

    features: PictureFeatures
    """Of the distinct pictures; `sam` is not looked at."""
    index: Tensor
    """int [B], the picture of each request."""
    sam: Callable[[Sequence[int]], Tensor]
    """SAM's embeddings [n, D, g, g] of the pictures of the given requests; called when there are masks to make."""
    sizes: list[tuple[int, int]]
    """(height, width) per request."""
    open: list[Callable[[], Image.Image]]
    """Per request the picture itself, for the view of referenced masks."""


@dataclass(frozen=True)
class StoredPicture:
    """A picture that `respond` is asked about by its id."""

    path: Path
    height: int
    width: int

    def open(self) -> Image.Image:
        """Its pixels, upright RGB."""
        with Image.open(self.path) as opened:
            return opened.convert("RGB")


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
        pictures: Mapping[str, StoredPicture] | None = None,
    ) -> None:
        """`store` and `pictures` answer requests by image id; `encoders` is called for new pictures."""
        self.network = network.to(device).eval()
        self.builder = builder
        self.device = device
        self.store = store
        self.pictures = pictures or {}
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
        pictures: Mapping[str, StoredPicture] | None = None,
        device: str = "cpu",
    ) -> Responder:
        """Opens the weights that a training stage wrote.

        Args:
            backbones: folder of the stage `backbones`.
            weights: folder of `stage1` or `stage2`.
            features: folder of the stage `features`, for `respond`.
            pictures: by image id, for `respond`.
            device: torch device.
        """
        opened = Backbones(backbones)
        tokenizer = opened.tokenizer()
        config = read_network_config(weights)
        network = opened.network(config, tokenizer)
        load_trained(network, weights / WEIGHTS, fingerprint=opened.manifest.fingerprint)
        store = FeatureStore(features, fingerprint=opened.manifest.fingerprint) if features else None
        builder = RowBuilder.of(config, tokenizer, num_image_tokens=opened.num_image_tokens)
        return cls(
            network,
            builder,
            device=device,
            store=store,
            encoders=opened.encoders,
            pictures=pictures,
        )

    def without_picture(self) -> Responder:
        """The same network shown a grey picture whatever the request: the no-picture baseline."""
        blind = Responder(
            self.network,
            self.builder,
            device=self.device,
            store=self.store,
            encoders=self._make_encoders,
            pictures=self.pictures,
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
        stored = [self.pictures[request.image_id] for request in requests]
        sizes = [(picture.height, picture.width) for picture in stored]
        if self._blank:
            features = self.encoders([Image.new("RGB", (64, 64), (128, 128, 128))])
            index = torch.zeros(len(requests), dtype=torch.long)
        else:
            features = self.store.read(image_ids, num_sam=0)
            index = torch.tensor([image_ids.index(request.image_id) for request in requests])
        opens = [picture.open for picture in stored]
        sam = self._stored_sam(requests)
        if self._blank:
            sam = lambda numbers: features.sam.expand(len(numbers), -1, -1, -1)  # noqa: E731
            opens = [partial(Image.new, "RGB", (width, height), (128, 128, 128)) for height, width in sizes]
        return self._answer(requests, _Pictures(features, index, sam, sizes, opens))

    @property
    def encoders(self) -> VisionEncoders:
        """The frozen encoders, opened at first use."""
        if self._encoders is None:
            if self._make_encoders is None:
                raise DataError("this model was opened without encoders; it can only use stored features.")
            self._encoders = self._make_encoders().to(self.device)
        return self._encoders

    @torch.inference_mode()
    def _answer(self, requests: Sequence[Request], pictures: _Pictures) -> list[Response]:
        started = time.perf_counter()
        features = to_device(pictures.features, self.device)
        rows = [self.builder.prompt_row(_turns(request), where=request.image_id) for request in requests]
        spoken_of = [
            (number, mask)
            for number, request in enumerate(requests)
            for masks in (request.references if self.builder.has_memory else ())
            for mask in masks
        ]
        vectors = None
        if spoken_of and self.builder.has_mask_token:
            opened = [pictures.open[number]() for number, _ in spoken_of]
            vectors = encode_regions(self.encoders, opened, [mask for _, mask in spoken_of])
        memory = self.memory_tokens(spoken_of, rows, vectors)
        if all(self._has_read_picture(request.kept, row) for request, row in zip(requests, rows, strict=True)):
            width = self.network.language.config.hidden_size
            image_tokens = torch.zeros(len(rows), self.builder.num_image_tokens, width, device=self.device)
        else:
            image_tokens = self.network.image_tokens(features)[pictures.index.to(self.device)]
        names = [mask_name(mask) for _, mask in spoken_of]
        prompts = [
            replace(prompt, prefix=request.kept if isinstance(request.kept, Prefix) else None)
            for prompt, request in zip(self.prompts(rows, image_tokens, memory, names=names), requests, strict=True)
        ]
        keep = len(requests) * self._prefix_bytes(max(len(row.ids) for row in rows)) <= MAX_KEPT_BYTES
        spoken = finish(generate(self.network, prompts, end_id=self.builder.end_id, keep=keep))
        groups = self.groups(spoken, pictures.sizes, pictures.sam)
        seconds = (time.perf_counter() - started) / len(requests)
        return [
            Response(self.text(row.ids), tuple(found), seconds, is_cut=row.is_cut, kept=row.prefix)
            for row, found in zip(spoken, groups, strict=True)
        ]

    def _has_read_picture(self, kept: object, row: TokenRow) -> bool:
        """Whether the row's image tokens are among those whose keys and values are kept."""
        return isinstance(kept, Prefix) and kept.common(row.ids) >= row.image_start + self.builder.num_image_tokens

    def _prefix_bytes(self, tokens: int) -> int:
        """About what the keys and values of so many tokens and an answer take."""
        config = self.network.language.config
        width = config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
        item = next(self.network.language.parameters()).element_size()
        return 2 * config.num_hidden_layers * (tokens + MAX_NEW_TOKENS) * width * item

    def memory_tokens(
        self, spoken_of: Sequence[tuple[int, np.ndarray]], rows: Sequence[TokenRow], vectors: Tensor | None
    ) -> MemoryTokens:
        """What the questions' masks (row, mask) look like and where they are, in the rows and in the picture."""
        places = torch.tensor([place for row in rows for place in row.memory], dtype=torch.long).view(-1, 2)
        side = self.network.prompt_encoder.input_image_size[0]
        boxes = [frame_box(mask, side) for _, mask in spoken_of]
        return MemoryTokens(
            row=torch.tensor([number for number, _ in spoken_of], dtype=torch.long),
            mask_at=places[:, 0],
            box_at=places[:, 1],
            vectors=torch.zeros(0, 1) if vectors is None else vectors,
            boxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        )

    def prompts(
        self, rows: Sequence[TokenRow], image_tokens: Tensor, memory: MemoryTokens, names: Sequence[str]
    ) -> list[PromptRow]:
        """The rows as the language model reads them.

        Args:
            rows: as built.
            image_tokens: [B, N, W].
            memory: the masks that questions speak of, at their places in the rows.
            names: per mask which one it is.
        """
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.builder.end_id, device=self.device)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
        starts = torch.tensor([row.image_start for row in rows], device=self.device)
        embedded = self.network.embed(
            ids, image_start=starts, image_tokens=image_tokens, memory=to_device(memory, self.device)
        )
        tokens: list[list[Hashable]] = [list(row.ids) for row in rows]
        for row, mask_at, box_at, name in zip(memory.row, memory.mask_at, memory.box_at, names, strict=True):
            for place in (int(mask_at), int(box_at)):
                if place >= 0:
                    tokens[int(row)][place] = (rows[int(row)].ids[place], name)
        return [
            PromptRow(tokens[number], embedded[number, : len(row.ids)], prefix=None) for number, row in enumerate(rows)
        ]

    def _stored_sam(self, requests: Sequence[Request]) -> Callable[[Sequence[int]], Tensor]:
        """Reads SAM's embeddings; a picture without one (no dialogue has a target there) is encoded now."""

        def embeddings(numbers: Sequence[int]) -> Tensor:
            assert self.store is not None
            ids = list(dict.fromkeys(requests[number].image_id for number in numbers))
            found = {image_id: self.store.read_sam([image_id]) for image_id in ids if self.store.has_sam(image_id)}
            for image_id in set(ids) - set(found):
                found[image_id] = self.encoders.mask_side([self.pictures[image_id].open()]).cpu()
            return torch.cat([found[requests[number].image_id] for number in numbers])

        return embeddings

    def groups(
        self, spoken: Sequence[Spoken], sizes: Sequence[tuple[int, int]], sam: Callable[[Sequence[int]], Tensor]
    ) -> list[list[Group]]:
        """The masks of what was said, row by row.

        Args:
            spoken: of every row.
            sizes: (height, width) of each row's picture.
            sam: gives SAM's embeddings [n, D, g, g] of the pictures of the given rows; called when there are masks.
        """
        found = [(row, *span) for row, said in enumerate(spoken) for span in self._spans(said.ids)]
        groups: list[list[Group]] = [[] for _ in spoken]
        if not found:
            return groups
        longest = max(last - first + 1 for _, first, last, _ in found)
        spans = torch.zeros(len(found), longest, spoken[0].states.shape[-1], device=self.device)
        is_padding = torch.ones(len(found), longest, dtype=torch.bool, device=self.device)
        for number, (row, first, last, _) in enumerate(found):  # the state AT token k lies at k + 1
            spans[number, : last - first + 1] = spoken[row].states[first + 1 : last + 2]
            is_padding[number, : last - first + 1] = False
        query_at = torch.tensor([last - first for _, first, last, _ in found], device=self.device)
        aligned = torch.ones_like(query_at, dtype=torch.bool)
        seg = self.network.seg_prompts(spans, is_padding=is_padding, query_at=query_at, aligned=aligned)
        at_reference = torch.stack([spoken[row].states[reference + 1] for row, *_, reference in found])
        has_reference = torch.tensor([reference >= 0 for *_, reference in found], device=self.device)
        prompts, _ = self.network.decoder_prompts(seg, at_reference, has_reference=has_reference)
        speakers = sorted({row for row, *_ in found})
        index = torch.tensor([speakers.index(row) for row, *_ in found], device=self.device)
        embeddings = sam(speakers).to(self.device)
        logits = self.network.mask_logits(prompts, image_embeddings=embeddings, picture_index=index)
        for number, (row, first, last, _) in enumerate(found):
            height, width = sizes[row]
            mask = masks_from_frame(logits[number : number + 1], height=height, width=width)[0]
            phrase = self.text(spoken[row].ids[first + 1 : last + 1])
            groups[row].append(Group(phrase, np.asarray(mask.cpu()), score=_score(logits[number])))
        return groups

    def _spans(self, ids: Sequence[int]) -> list[tuple[int, int, int]]:
        """(first, last, reference) of every target: from its `[OBJ]` to the token before its `[SEG]`, and the place of
        the `[REF]` right before its `[OBJ]`, -1 without.

        A `[SEG]` without `[OBJ]` still points at a mask: its span is the one token before it.
        """
        spans, opened = [], -1
        for place, token in enumerate(ids):
            if token == self.builder.obj_id:
                opened = place
            elif token == self.builder.seg_id:
                first = opened if opened >= 0 else place - 1
                refers = first > 0 and ids[first - 1] == self.builder.ref_id
                spans.append((first, place - 1, first - 1 if refers else -1))
                opened = -1
        return spans

    def text(self, ids: Sequence[int]) -> str:
        """Generated ids as text, markers included."""
        text = str(self.builder.tokenizer.decode(list(ids), skip_special_tokens=False))
        return text.replace(str(self.builder.tokenizer.eos_token), "").strip()


def _score(logits: Tensor) -> float:
    """Mean probability where the mask is; 0 where it is nowhere."""
    inside = logits[logits > 0]
    return float(inside.float().sigmoid().mean()) if len(inside) else 0.0


def _turns(request: Request) -> list[TurnText]:
    """History and question as text; markers in the model's own answers are dropped and written anew."""
    references = [len(masks) for masks in request.references] or [0] * (len(request.history) + 1)
    earlier = [
        TurnText(question, *split_groups(answer), references=count)
        for (question, answer), count in zip(request.history, references[:-1], strict=True)
    ]
    return [*earlier, TurnText(request.question, references=references[-1])]


def save_weights(network: MirasNetwork, folder: Path, *, fingerprint: str) -> None:
    """Writes the trained parameters and the network's configuration, as `Responder.load` reads them.

    `fingerprint`: of the backbones (`BackbonesManifest.fingerprint`).
    """
    save_trained(network, folder / WEIGHTS, fingerprint=fingerprint)
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
