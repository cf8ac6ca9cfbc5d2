"""Backbone weights on disk: one folder that holds or points to LLaVA, ConvNeXt, SAM and their pins.

`backbones.json` says for each part where it lies and the hash of its weights. Mini and public backbones have the
same form, so the same code loads both: LLaVA and ConvNeXt as transformers saves them, SAM as a `sam_vit_*.pth`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    ConvNextModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from miras.dialogue.rendering import IMAGE, MARKERS
from miras.errors import DataError
from miras.files import write_json
from miras.model.config import NetworkConfig
from miras.model.network import MirasNetwork
from miras.model.sam import Sam, SamShape, load_sam
from miras.model.vision import VisionEncoders
from miras.model.weight_files import UNREADABLE, check_report, check_weights, read_weights, unreadable, weights_sha256

MANIFEST = "backbones.json"
MINING = "mining.safetensors"


class BackbonesManifest(BaseModel):
    """What `backbones.json` holds. Folders are relative to it, or absolute."""

    kind: str
    llava: str
    convnext: str
    """Empty: no second encoder."""
    convnext_image_size_px: int
    convnext_grid: int
    sam: str
    sam_shape: SamShape
    sha256: dict[str, str]
    """Part -> hash of its weight files."""
    fingerprint: str
    """Hash over everything above that decides the encoders' outputs."""


def new_words(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the markers that no published language model knows."""
    ids: Any = tokenizer.convert_tokens_to_ids([marker for marker in MARKERS if marker != IMAGE])
    return list(ids)


def assemble(
    config: NetworkConfig,
    *,
    llava: LlavaForConditionalGeneration,
    sam: Sam,
    convnext: ConvNextModel | None,
    new_words: Sequence[int],
) -> MirasNetwork:
    """The network around its backbones; what is its own is random."""
    return MirasNetwork(
        config,
        llava=llava,
        prompt_encoder=sam.prompt_encoder,
        mask_decoder=sam.mask_decoder,
        high_width=sum(convnext.config.hidden_sizes or []) if convnext else 0,
        new_words=new_words,
    )


class Backbones:
    """Opened backbones: builds the tokenizer, the frozen encoders and an untrained network from them."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError when the folder holds no backbones."""
        self.folder = folder
        try:
            text = (folder / MANIFEST).read_text("utf-8")
        except FileNotFoundError:
            raise DataError(f"{folder / MANIFEST}: no such file; run `dvc repro backbones`.") from None
        self.manifest = BackbonesManifest.model_validate(json.loads(text))

    def places(self) -> tuple[Path, ...]:
        """All that is read: the folder, and public weights that lie elsewhere."""
        named = (self.manifest.llava, self.manifest.convnext, self.manifest.sam)
        return (self.folder, *(Path(place) for place in named if Path(place).is_absolute()))

    @property
    def num_image_tokens(self) -> int:
        """Tokens a picture takes in a row."""
        vision: Any = LlavaConfig.from_pretrained(self._place(self.manifest.llava)).vision_config
        return int(vision.image_size // vision.patch_size) ** 2

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """LLaVA's tokenizer with the markers as special tokens."""
        place = self._place(self.manifest.llava)
        try:
            tokenizer = AutoTokenizer.from_pretrained(place)
        except UNREADABLE as error:
            raise unreadable(Path(place) / "tokenizer.json", error) from None
        tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
        return tokenizer

    def llava(self, **options: Any) -> LlavaForConditionalGeneration:
        """LLaVA with its weights.

        Args:
            options: of transformers' `from_pretrained`, such as dtype or quantization_config.

        Raises:
            DataError: files are missing or damaged, or weights are missing or of another shape.
        """
        return load_llava(Path(self._place(self.manifest.llava)), **options)

    def encoders(self, given: LlavaForConditionalGeneration | None = None) -> VisionEncoders:
        """The frozen CLIP, ConvNeXt and SAM encoders; CLIP is that of the given LLaVA, if one is."""
        llava: Any = given or self.llava()
        return VisionEncoders(
            clip=llava.model.vision_tower,
            clip_layer=llava.config.vision_feature_layer,
            convnext=self._convnext(),
            high_size_px=self.manifest.convnext_image_size_px,
            high_grid=self.manifest.convnext_grid,
            sam=self._sam().image_encoder,
        )

    def network(
        self,
        config: NetworkConfig,
        tokenizer: PreTrainedTokenizerBase,
        given: LlavaForConditionalGeneration | None = None,
    ) -> MirasNetwork:
        """The network with backbone weights; its own parts are random (seed torch before).

        Args:
            config: which parts it has.
            tokenizer: with the markers; embeddings grow to its size.
            given: the LLaVA to build it of, instead of opening another.
        """
        llava: Any = given or self.llava()
        sam, convnext = self._sam(), self._convnext()
        if llava.get_input_embeddings().weight.shape[0] < len(tokenizer):
            llava.resize_token_embeddings(len(tokenizer))
        network = assemble(config, llava=llava, sam=sam, convnext=convnext, new_words=new_words(tokenizer))
        mining = self.folder / MINING
        if network.mining is not None and mining.exists():
            network.mining.load_state_dict(read_weights(mining))
        return network

    def _convnext(self) -> ConvNextModel | None:
        if not self.manifest.convnext:
            return None
        from miras.model.convnext import load_convnext  # which checks names by this module's check_weights

        return load_convnext(Path(self._place(self.manifest.convnext)))

    def _sam(self) -> Sam:
        return load_sam(self.manifest.sam_shape, Path(self._place(self.manifest.sam)))

    def _place(self, name: str) -> str:
        inside = self.folder / name
        return str(inside) if inside.exists() else name


def load_llava(folder: Path, **options: Any) -> LlavaForConditionalGeneration:
    """LLaVA by transformers' own loader, which alone would fill what is missing with random numbers.

    Args:
        folder: in the Hugging Face `-hf` form.
        options: of `from_pretrained`.

    Raises:
        DataError: files are missing or damaged, or weights are missing or of another shape.
    """
    try:
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
        if kind not in ("llava", "llava_next"):  # transformers would build its default, a 7B, of another model's sizes
            raise ValueError(f"config.json describes a {kind} model, expected llava or llava_next")
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        loaded: Any = LlavaForConditionalGeneration.from_pretrained(folder, **options)
    except UNREADABLE as error:
        raise unreadable(folder, error) from None
    model, report = loaded
    check_report(model, report, path=folder)
    return model


def write_manifest(folder: Path, manifest: dict[str, Any], *, parts: dict[str, Path]) -> None:
    """Writes `backbones.json` with the hash of every part's weight files.

    Args:
        folder: where to write.
        manifest: the fields of `BackbonesManifest` but the hashes.
        parts: part -> file or folder of its weights.
    """
    hashes = {part: weights_sha256(place) for part, place in parts.items()}
    encoders = {key: manifest[key] for key in ("convnext_image_size_px", "convnext_grid", "sam_shape")}
    fingerprint = hashlib.sha256(json.dumps([hashes, encoders], sort_keys=True).encode()).hexdigest()
    write_json(folder / MANIFEST, {**manifest, "sha256": hashes, "fingerprint": fingerprint})


def save_trained(network: MirasNetwork, path: Path, *, fingerprint: str) -> None:
    """Writes what training changed, as safetensors, and the fingerprint of the backbones that it belongs to."""
    weights = {name: value.detach().contiguous().cpu() for name, value in network.learned()}
    save_file(weights, path, metadata={"backbones": fingerprint})


def load_trained(network: MirasNetwork, path: Path, *, fingerprint: str) -> None:
    """Loads parameters written by `save_trained` into a network of the same configuration and backbones.

    Raises:
        DataError: no such file, damaged, of another configuration or of other backbones.
    """
    stored = read_weights(path)
    own = dict(network.learned())
    check_weights(
        {name: value.shape for name, value in stored.items()},
        {name: value.shape for name, value in own.items()},
        path=path,
    )
    with safe_open(path, framework="pt") as opened:
        found = (opened.metadata() or {}).get("backbones", "none")
    if found != fingerprint:
        raise DataError(
            f"{path}: trained on backbones {found[:12]}, but the backbones here are {fingerprint[:12]}. "
            "Train again, or name the backbones that belong to these weights."
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(stored[name])
