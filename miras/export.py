"""`miras export`: one directory with everything needed to use a trained model anywhere.

Its root is a LLaVA checkpoint in the Hugging Face `-hf` form: adapters merged, new words in embedding and head, the
trained projector, so that transformers opens it alone. `parts/` holds SAM with the trained decoder, ConvNeXt and the
network's own parts, apart because tools that load LLaVA read every weight file at the root. `miras.json` says what it
is and where it came from; `miras.pretrained` opens it.

The directory is opened again before it takes its name, and its logits are compared with those of the trained network.
Limit: plain transformers shows LLaVA the image tokens without mining, so only text is equal there.
Letters: T tokens, V vocabulary, W language width, n targets and their references, s mask side.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import miras
from miras.errors import DataError, DiskFullError
from miras.files import finished_folder, write_json
from miras.machine import free_bytes
from miras.model.batch import MemoryTokens
from miras.model.memory import encode_regions, frame_box
from miras.model.network import MirasNetwork, gather_spans
from miras.model.new_rows import NewRowsEmbedding, NewRowsHead
from miras.model.responder import NETWORK, WEIGHTS, read_network_config
from miras.model.sam import Sam, save_sam
from miras.model.tokens import TokenRow, TurnText
from miras.model.vision import PictureFeatures
from miras.model.weights import Backbones, load_trained, write_manifest
from miras.origins import recorded_origins
from miras.pretrained import DESCRIPTION, OWN_WEIGHTS, OpenedModel, file_sha256, open_export, open_model, own_weights

SAM_WEIGHTS = "parts/sam.safetensors"
CONVNEXT = "parts/convnext"
SHARD_SIZE = "5GB"
OTHER_BYTES = 64 * 2**20  # tokenizer, configurations and headers, generously
PACKAGES = ("torch", "transformers", "peft", "safetensors", "segment-anything")

# Largest difference of a logit, as share of the largest one. Float32 rounds at 6e-8 and that adds up over layers:
# measured 0 without adapters; with merged ones up to 1.2e-6 at 2 layers of width 32, 3.4e-6 at 32 layers of width 512.
# Lost adapters move logits by more than 1e-2 (tests).
TOLERANCE = 1e-4

PICTURE_SIZES = ((96, 64), (64, 96))  # width, height in pixels: padding at the bottom, and at the right
TURNS = (
    TurnText("Where is the mug?", "Here: {target} and {target}.", ("the left mug", "the right one")),
    TurnText("And the other one?", "{target}", ("the other mug",), references=1),
)


@dataclass(frozen=True)
class Logits:
    """What a model says of made-up dialogues about made-up pictures."""

    text: Tensor
    """[T, V] of all rows."""
    masks: Tensor
    """[n, s, s]."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    num_bytes: int
    text_difference: float
    """Largest difference of a text logit, as share of the largest one."""
    mask_difference: float


def export(*, weights: Path, backbones: Path, out: Path, lineage: Mapping[str, Any] | None = None) -> Exported:
    """Writes the model as one directory, float32, and checks it against the trained network.

    Two models of the full size are never in memory together.

    Args:
        weights: folder of `stage1` or `stage2`.
        backbones: folder of the stage `backbones` that they were trained on.
        out: the directory; an earlier export there is replaced when all is well.
        lineage: what else is known of the model's origin (commit, parameters, scores); `miras.json` takes it up.

    Raises:
        DataError: weights or backbones are missing, damaged or of another configuration; `out` holds something else;
            or the export differs from the trained network. Nothing is left behind.
        DiskFullError: there is not enough room.
    """
    out = out.resolve()
    check_target(out)
    trained = open_trained(backbones, weights)
    check_space(out, needed_bytes(trained))
    before = made_up_logits(trained)
    source = provenance(backbones, weights) | ({"lineage": dict(lineage)} if lineage else {})
    merge(trained)
    with finished_folder(out) as folder:
        try:
            write(folder, trained, backbones=backbones, source=source)
        except SafetensorError as error:  # it has no errno; "No space left" is all it says
            raise DiskFullError(f"{out}: cannot be written: {error}. Free some space and export again.") from None
        del trained
        after = made_up_logits(open_export(folder))
        text, masks = difference(before.text, after.text), difference(before.masks, after.masks)
        check_difference(out, text=text, masks=masks)
        num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Exported(out, num_bytes, text_difference=text, mask_difference=masks)


def check_target(out: Path) -> None:
    """Raises a DataError unless an export may be written there."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file; expected a directory to write to. Name another by --out.")
    if out.exists() and any(out.iterdir()) and not (out / DESCRIPTION).is_file():
        raise DataError(f"{out}: holds files, but no {DESCRIPTION}: no export of miras. Empty it or name another.")
    parent = next(place for place in out.parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise DataError(f"{parent}: no directory that you may write to. Name another place by --out.")


def check_space(out: Path, needed: int) -> None:
    """Raises a DiskFullError where fewer than `needed` bytes are free; an export that is replaced goes last."""
    free = free_bytes(out)
    if free < needed:
        raise DiskFullError(
            f"{out}: the export takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. "
            "Free some space or name a place on another disk by --out."
        )


def open_trained(backbones: Path, weights: Path) -> OpenedModel:
    """The network as it was trained, whole in float32: adapters must be merged in it."""
    config, found = read_network_config(weights), Backbones(backbones)
    opened = open_model(found, config, dtype=torch.float32)
    load_trained(opened.network, weights / WEIGHTS, fingerprint=found.manifest.fingerprint)
    return opened


def needed_bytes(model: OpenedModel) -> int:
    """Bytes of the export, a little more than less."""
    tensors = {
        value.data_ptr(): value.nbytes
        for module in (model.llava, model.network, model.encoders)
        for value in module.state_dict().values()
    }
    return sum(tensors.values()) + OTHER_BYTES


def provenance(backbones: Path, weights: Path) -> dict[str, Any]:
    """Where an export comes from: hashes of its inputs, how they were trained, and on which version of the data.

    `data` (SHA-256 of the data set) and `inputs` (path -> DVC's hash of all that the training read) are only there
    where dvc.lock records these very weights.
    """
    manifest = Backbones(backbones).manifest
    origins = recorded_origins(weights)
    known = {"data": origins.data, "inputs": origins.inputs} if origins else {}
    return known | {
        "weights": {name: file_sha256(weights / name) for name in (WEIGHTS, NETWORK)},
        "backbones": manifest.sha256,
        "backbones_fingerprint": manifest.fingerprint,
        "language_training": read_network_config(weights).language_training,
    }


def merge(model: OpenedModel) -> None:
    """Takes adapters and the rows of new words into the language model's own weights, in place."""
    language: Any = model.network.language
    for name, module in list(language.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)  # refuses what is not finite
            language.set_submodule(name, module.get_base_layer())
    for rows in (language.get_input_embeddings(), model.network.text_output):
        if isinstance(rows, NewRowsEmbedding | NewRowsHead):
            rows.base.weight.data = rows.weight.detach()
    if isinstance(rows := language.get_input_embeddings(), NewRowsEmbedding):
        language.set_input_embeddings(rows.base)


def write(folder: Path, model: OpenedModel, *, backbones: Path, source: dict[str, Any]) -> None:
    """Fills the directory with a merged model.

    Args:
        folder: empty.
        model: merged.
        backbones: for their manifest.
        source: provenance.
    """
    network, encoders = model.network, model.encoders
    model.llava.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    model.builder.tokenizer.save_pretrained(folder)
    (folder / OWN_WEIGHTS).parent.mkdir()
    save_file({name: value.contiguous() for name, value in own_weights(network).items()}, folder / OWN_WEIGHTS)
    save_sam(Sam(encoders.sam, network.prompt_encoder, network.mask_decoder), folder / SAM_WEIGHTS)
    places = {"llava": folder, "sam": folder / SAM_WEIGHTS}
    if network.mining is not None and encoders.convnext is not None:
        places["convnext"] = folder / CONVNEXT
        encoders.convnext.save_pretrained(places["convnext"])
    manifest = Backbones(backbones).manifest.model_dump(exclude={"sha256", "fingerprint"})
    convnext = CONVNEXT if "convnext" in places else ""
    manifest |= {"kind": "exported", "llava": ".", "sam": SAM_WEIGHTS, "convnext": convnext}
    write_manifest(folder, manifest, parts=places)
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    for name in files:  # safetensors lets nobody else read what it writes
        shutil.copymode(folder / "config.json", folder / name)
    write_json(
        folder / DESCRIPTION,
        {
            "format": 1,
            "network": network.config.model_dump() | {"language_training": "full"},
            "shapes": shapes(model),
            "source": source,
            "versions": {"miras": miras.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
            "sha256": {name: file_sha256(folder / name) for name in files},
        },
    )


def shapes(model: OpenedModel) -> dict[str, int]:
    """The sizes a reader of the export wants to know."""
    network = model.network
    return {
        "image_tokens": model.builder.num_image_tokens,
        "language_width": network.text_output.in_features,
        "vocabulary": len(network.text_output.weight),
        "prompt_width": network.mask_decoder.transformer_dim,
        "mask_side_px": 4 * network.prompt_encoder.image_embedding_size[0],
    }


@torch.inference_mode()
def made_up_logits(model: OpenedModel) -> Logits:
    """The model's logits for made-up dialogues about made-up pictures, always the same; every part has a say.

    The words and pictures mean nothing: only equality is asked for.
    """
    generator = np.random.default_rng(0)
    text, masks = [], []
    for width, height in PICTURE_SIZES:
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        row = model.builder.training_row([TURNS], names=["the dialogue that checks an export"])
        features = model.encoders([picture])
        states = _states(model, row, features, memory=_memory(model, row, picture))
        text.append(model.network.text_output(states[0]))
        masks.append(_mask_logits(model.network, row, states, features.sam))
    return Logits(torch.cat(text), torch.cat(masks))


def _states(model: OpenedModel, row: TokenRow, features: PictureFeatures, *, memory: MemoryTokens) -> Tensor:
    """[1, T, W]."""
    ids = torch.tensor([row.ids])
    embedded = model.network.embed(
        ids,
        image_start=torch.tensor([row.image_start]),
        image_tokens=model.network.image_tokens(features),
        memory=memory,
    )
    return model.network.states(embedded)


def _memory(model: OpenedModel, row: TokenRow, picture: Image.Image) -> MemoryTokens:
    """The row's questions speak of the picture's top left quarter."""
    mask = np.zeros((picture.height, picture.width), bool)
    mask[: picture.height // 2, : picture.width // 2] = True
    count = len(row.memory)
    vectors = torch.zeros(count, 1)
    if count and model.builder.has_mask_token:
        vectors = encode_regions(model.encoders, [picture] * count, [mask] * count)
    places = torch.tensor(row.memory, dtype=torch.long).view(-1, 2)
    box = frame_box(mask, model.network.prompt_encoder.input_image_size[0])
    boxes = torch.tensor([box] * count, dtype=torch.float32).view(-1, 4)
    return MemoryTokens(torch.zeros(count, dtype=torch.long), places[:, 0], places[:, 1], vectors, boxes)


def _mask_logits(network: MirasNetwork, row: TokenRow, states: Tensor, sam: Tensor) -> Tensor:
    """[n, s, s] of every target, and of what `[REF]` stands for where there is memory."""
    span, at = torch.tensor(row.spans), torch.tensor(row.references)
    spans, is_padding = gather_spans(states, row=torch.zeros_like(at), span=span)
    aligned = torch.ones_like(at, dtype=torch.bool)
    seg = network.seg_prompts(spans, is_padding=is_padding, query_at=span[:, 1] - span[:, 0], aligned=aligned)
    prompts, copied = network.decoder_prompts(seg, states[0, at.clamp(min=0)], has_reference=at >= 0)
    if copied is not None:
        prompts = torch.cat([prompts, copied])
    picture_index = torch.zeros(len(prompts), dtype=torch.long)
    return network.mask_logits(prompts, image_embeddings=sam, picture_index=picture_index)


def difference(before: Tensor, after: Tensor) -> float:
    """Largest difference as share of the largest value before; not a number where one of them is none."""
    if before.shape != after.shape:
        return float("inf")
    return float((after - before).abs().max() / before.abs().max())


def check_difference(out: Path, *, text: float, masks: float) -> None:
    """Raises a DataError unless both differences are within `TOLERANCE`."""
    if not (text <= TOLERANCE and masks <= TOLERANCE):
        raise DataError(
            f"{out}: the export differs from the trained network, so it was not kept: text logits by {text:.1e}, mask "
            f"logits by {masks:.1e} of the largest, allowed {TOLERANCE:.0e}. Were weights or backbones exchanged "
            "meanwhile? If not, this is a fault of miras or of a package: `miras doctor` compares versions."
        )
