"""An exported model, ready to be asked: `Miras.from_pretrained("exported").ask("cup.jpg", ["Where is the mug?"])`.

The directory that `miras export` writes is a LLaVA checkpoint at its root and a backbones folder (miras.model.weights)
at the same time: the trained language side and mask decoder lie in the places of the published ones, so the loader of
the pipeline opens it. What no published model has (mining, prompt head, alignment, memory) is one file beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import BaseModel, ValidationError
from torch import Tensor
from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration

from miras.errors import ConfigError, DataError
from miras.model.config import NetworkConfig
from miras.model.network import MirasNetwork, prefixes
from miras.model.records import Response
from miras.model.responder import Responder
from miras.model.talker import Talker
from miras.model.tokens import RowBuilder
from miras.model.vision import VisionEncoders
from miras.model.weight_files import check_weights, read_weights
from miras.model.weights import Backbones
from miras.open_dialogue import Answer, OpenDialogue, ask_many
from miras.registry_address import PREFIX, fetch
from miras.sources.pictures import open_picture, to_rgb, upright_picture

DESCRIPTION = "miras.json"
OWN_WEIGHTS = "parts/network.safetensors"
OWN_PARTS = ("mining", "prompt_head", "alignment", "memory")  # the others lie in LLaVA's and SAM's files
NOT_QUANTIZED = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]
MAX_MEGAPIXELS = 100  # as ingest.max_megapixels in the presets

Picture = str | Path | bytes | Image.Image | np.ndarray
Precision = Literal["float32", "bfloat16", "float16"]


class ExportDescription(BaseModel):
    """What `miras.json` holds."""

    format: Literal[1]
    network: NetworkConfig
    """With `language_training` full: adapters are merged."""
    shapes: dict[str, int]
    """Image tokens, widths, vocabulary, side of the masks."""
    source: dict[str, Any]
    """Hashes of the weights and backbones it was made of, and how they were trained."""
    versions: dict[str, str]
    """Package -> version that wrote it."""
    sha256: dict[str, str]
    """Every other file, relative to the directory -> hash."""


@dataclass(frozen=True)
class OpenedModel:
    """The parts of a model in memory."""

    llava: LlavaForConditionalGeneration
    """Its language model and projector are the network's, its CLIP is that of the encoders."""
    network: MirasNetwork
    builder: RowBuilder
    encoders: VisionEncoders


class Miras:
    """A trained model that answers questions about pictures with text and masks."""

    def __init__(self, responder: Responder, *, precision: torch.dtype, name: str = "") -> None:
        """`precision`: what matrix products are computed in; `name`: where it came from."""
        self.name = name
        kind, is_mixed = torch.device(responder.device).type, precision != torch.float32
        self._talker = Talker(responder, precision=lambda: torch.autocast(kind, dtype=precision, enabled=is_mixed))

    @property
    def talker(self) -> Talker:
        """What answers, for servers of many dialogues."""
        return self._talker

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        dtype: Precision = "float32",
        quantize: Literal[4, 8] | None = None,
    ) -> Miras:
        """Opens a directory that `miras export` wrote; every file is compared with its recorded hash.

        Args:
            path: the directory, or the address of a registered model (`models:/miras@champion`).
            device: torch device.
            dtype: of LLaVA's weights and of all matrix products; bfloat16 halves the memory on a GPU.
            quantize: bits of the language model's weights (bitsandbytes), on a CUDA device only.

        Raises:
            DataError: no export, or a file is missing or damaged.
            ConfigError: this machine has no such device or cannot quantise; no such address.
            ServiceUnavailableError: the registry does not answer or has no such model.
        """
        if dtype not in get_args(Precision):
            raise ConfigError(f"dtype is {dtype!r}; give one of {', '.join(get_args(Precision))}.")
        precision: torch.dtype = getattr(torch, dtype)
        options: dict[str, Any] = {"dtype": precision}
        check_device(device)
        if quantize is not None:
            options |= {"quantization_config": quantization(quantize, device, precision), "device_map": {"": device}}
        folder = fetch(str(path), holds=DESCRIPTION) if str(path).startswith(PREFIX) else Path(path)
        check_files(folder)
        opened = open_export(folder, **options)
        responder = Responder(opened.network, opened.builder, device=device, encoders=lambda: opened.encoders)
        return cls(responder, precision=precision, name=str(path))

    def ask(
        self, picture: Picture, questions: Sequence[str], *, refers_to: Sequence[Sequence[int]] = ()
    ) -> list[Response]:
        """Answers to successive questions about a picture; each sees the questions and answers before it.

        Args:
            picture: path or bytes of a picture file, a PIL image, or uint8 [H, W], [H, W, 3] or [H, W, 4] in RGB order.
            questions: in order.
            refers_to: per question the indices of earlier ones whose masks it speaks of; empty: none speaks of any.

        Returns:
            One response per question; masks are boolean (H, W) in pixels of the upright picture.

        Raises:
            DataError: the picture cannot be read, `refers_to` does not fit, or a dialogue is longer than
                `network.max_tokens`.
        """
        self._check(questions, refers_to)
        return self._talker.ask(read_picture(picture), questions, refers_to=refers_to)

    def dialogue(self, picture: Picture) -> OpenDialogue:
        """A dialogue about a picture, which keeps what was worked out from turn to turn.

        Raises:
            DataError: the picture cannot be read.
        """
        return OpenDialogue(self._talker, read_picture(picture), model=self.name)

    def load_dialogue(self, path: str | Path) -> OpenDialogue:
        """A dialogue that `OpenDialogue.save` wrote, to go on with.

        Raises:
            DataError: it is no saved dialogue.
        """
        return OpenDialogue.load(self._talker, path, model=self.name)

    def ask_many(
        self, pictures: Sequence[Picture], questions: Sequence[Sequence[str]], *, batch_size: int = 8
    ) -> list[list[Answer]]:
        """Several dialogues at a time: the answers to each picture's questions, equal to asking one by one.

        Raises:
            DataError: not one list of questions per picture, or one of them cannot be taken.
        """
        if len(pictures) != len(questions) or any(isinstance(texts, str) for texts in questions):
            raise DataError(
                f"questions: expected a list of texts for each of {len(pictures)} pictures, got {len(questions)}."
            )
        return ask_many(self._talker, [read_picture(p) for p in pictures], questions, batch_size=batch_size)

    def _check(self, questions: Sequence[str], refers_to: Sequence[Sequence[int]]) -> None:
        if isinstance(questions, str):
            raise DataError(f"questions: found the text {questions!r}, expected a list of texts.")
        if refers_to and len(refers_to) != len(questions):
            raise DataError(
                f"refers_to: {len(refers_to)} entries for {len(questions)} questions; give each its own, () for none."
            )
        for number, places in enumerate(refers_to):
            if any(place not in range(number) for place in places):
                raise DataError(
                    f"refers_to: question {number} refers to {list(places)}; it can refer to earlier ones only, "
                    "counted from 0."
                )
        if any(refers_to) and not self._talker.responder.builder.has_memory:
            raise DataError("refers_to: this model was trained with network.mask_memory off; leave refers_to empty.")


def read_picture(picture: Picture) -> Image.Image:
    """The picture upright, mode RGB; transparent pixels show white.

    Raises:
        DataError: the file is missing or damaged, or the array is no picture.
    """
    if isinstance(picture, str | Path):
        return open_picture(Path(picture), max_megapixels=MAX_MEGAPIXELS)
    if isinstance(picture, bytes):
        return upright_picture(picture, where="picture", max_megapixels=MAX_MEGAPIXELS).pixels
    if isinstance(picture, np.ndarray):
        is_picture = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))
        if picture.dtype != np.uint8 or not is_picture or not picture.size:
            raise DataError(
                f"picture: found an array of {picture.dtype} {picture.shape}; expected uint8 with shape "
                "(height, width), (height, width, 3) or (height, width, 4), colours in RGB order."
            )
        picture = Image.fromarray(picture)
    return to_rgb(ImageOps.exif_transpose(picture), where="picture")


def open_export(folder: Path, **options: Any) -> OpenedModel:
    """The model in a directory that `miras export` wrote.

    Args:
        folder: the directory; its files have been checked.
        options: for LLaVA, of transformers' `from_pretrained`.

    Raises:
        DataError: weights do not fit the network that is described.
    """
    opened = open_model(Backbones(folder), read_description(folder).network, **options)
    own = own_weights(opened.network)
    stored = read_weights(folder / OWN_WEIGHTS)
    check_weights(_shapes(stored), _shapes(own), path=folder / OWN_WEIGHTS)
    opened.network.load_state_dict(stored, strict=False)  # strict for these parts: checked above
    return opened


def open_model(backbones: Backbones, config: NetworkConfig, **options: Any) -> OpenedModel:
    """Network, rows and encoders around one LLaVA; the network's own parts are random.

    Args:
        backbones: to open.
        config: which parts the network has.
        options: for LLaVA, of transformers' `from_pretrained`.
    """
    llava, tokenizer = backbones.llava(**options), backbones.tokenizer()
    builder = RowBuilder.of(config, tokenizer, num_image_tokens=backbones.num_image_tokens)
    return OpenedModel(llava, backbones.network(config, tokenizer, llava).eval(), builder, backbones.encoders(llava))


def own_weights(network: MirasNetwork) -> dict[str, Tensor]:
    """What of the network lies neither in LLaVA nor in SAM, by name."""
    return {name: value for name, value in network.state_dict().items() if name.startswith(prefixes(OWN_PARTS))}


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def read_description(folder: Path) -> ExportDescription:
    """The content of `miras.json`.

    Raises:
        DataError: there is none, or it is not one that this version reads.
    """
    path = folder / DESCRIPTION
    try:
        return ExportDescription.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path}: no such file; expected a directory that `miras export` wrote. "
            "Export your weights (`miras export --weights models/stage2 --out exported`) and open that."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path}: {where}: {first['msg']}. Damaged or of another version of miras; export the weights again."
        ) from None


def check_files(folder: Path) -> None:
    """Raises a DataError where a file of an export is missing or is not the one that was written."""
    for name, recorded in read_description(folder).sha256.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: no such file. Copy the whole directory again, or export again.")
        if file_sha256(path) != recorded:
            raise DataError(f"{path}: damaged or changed since the export. Copy it again, or export again.")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check_device(device: str) -> None:
    """Raises a ConfigError where torch cannot use a device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"device {device!r}: {reason}. `miras doctor` lists what is here; cpu always works."
        ) from None


def quantization(bits: Literal[4, 8], device: str, precision: torch.dtype) -> BitsAndBytesConfig:
    """How the language model is quantised: LLM.int8 with 8 bits, NF4 with 4; all other parts are left alone.

    Raises:
        ConfigError: not 4 or 8 bits, no CUDA device, or no bitsandbytes.
    """
    remedies = {
        f"quantize is {bits!r}; give 4, 8 or None": bits not in (4, 8),
        f"device is {device!r}; give a CUDA device": torch.device(device).type != "cuda",
        "bitsandbytes is not installed; `pip install bitsandbytes`": find_spec("bitsandbytes") is None,
    }
    problems = [remedy for remedy, applies in remedies.items() if applies]
    if problems:
        raise ConfigError(f"quantised weights need a CUDA device and bitsandbytes: {'. '.join(problems)}.")
    return BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=precision,
        llm_int8_skip_modules=NOT_QUANTIZED,
    )
