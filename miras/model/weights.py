"""Backbone weights on disk: one folder that holds or points to LLaVA, ConvNeXt, SAM and their pins.

`backbones.json` says for each part where it lies and the hash of its weights. Mini and public backbones have the
same form, so the same code loads both: LLaVA and ConvNeXt as transformers saves them, SAM as a `sam_vit_*.pth`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import Tensor, nn
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
from miras.model.vision import VisionEncoders

MANIFEST = "backbones.json"
MINING = "mining.safetensors"

# What transformers and safetensors raise on damaged files, and what torch.load does (IndexError: no pickle at all).
_UNREADABLE = (OSError, ValueError, SafetensorError)
_UNLOADABLE = (RuntimeError, EOFError, IndexError, UnpicklingError)


class SamShape(BaseModel):
    """Sizes of a SAM; the published ones are `SAM_SHAPES`."""

    image_size_px: int = 1024
    patch_px: int = 16
    width: int
    layers: int
    heads: int
    global_attention: list[int]
    """Layers that attend globally; the others in windows."""
    window: int = 14
    prompt_width: int = 256
    relative_position: bool = True


SAM_SHAPES = {
    "vit_b": SamShape(width=768, layers=12, heads=12, global_attention=[2, 5, 8, 11]),
    "vit_l": SamShape(width=1024, layers=24, heads=16, global_attention=[5, 11, 17, 23]),
    "vit_h": SamShape(width=1280, layers=32, heads=16, global_attention=[7, 15, 23, 31]),
}


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


@dataclass(frozen=True)
class Sam:
    """The three parts of SAM."""

    image_encoder: ImageEncoderViT
    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder


def build_sam(shape: SamShape) -> Sam:
    """SAM of the given sizes with random weights, made of segment_anything's own classes."""
    side = shape.image_size_px // shape.patch_px
    return Sam(
        ImageEncoderViT(
            img_size=shape.image_size_px,
            patch_size=shape.patch_px,
            embed_dim=shape.width,
            depth=shape.layers,
            num_heads=shape.heads,
            out_chans=shape.prompt_width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=shape.relative_position,
            window_size=shape.window,
            global_attn_indexes=tuple(shape.global_attention),
        ),
        PromptEncoder(
            embed_dim=shape.prompt_width,
            image_embedding_size=(side, side),
            input_image_size=(shape.image_size_px, shape.image_size_px),
            mask_in_chans=16,
        ),
        MaskDecoder(
            transformer_dim=shape.prompt_width,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=shape.prompt_width, mlp_dim=8 * shape.prompt_width, num_heads=8
            ),
        ),
    )


def save_sam(sam: Sam, path: Path) -> None:
    """Writes the parts as one `.pth` or `.safetensors` with the published checkpoints' names."""
    weights = {f"{part}.{name}": value for part, name, value in _sam_weights(sam)}
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)


def load_sam(shape: SamShape, path: Path) -> Sam:
    """SAM with the weights of a `sam_vit_*.pth`, or of a `.safetensors` that `save_sam` wrote.

    Raises:
        DataError: no such file, damaged, or names or shapes differ from the given sizes.
    """
    stored = read_weights(path)
    sam = build_sam(shape)
    expected = {f"{part}.{name}": value.shape for part, name, value in _sam_weights(sam)}
    ignored = {"pixel_mean", "pixel_std"}
    check_weights({k: v.shape for k, v in stored.items() if k not in ignored}, expected, path=path)
    for part, module in vars(sam).items():
        prefix = f"{part}."
        module.load_state_dict({k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)})
    return sam


def _sam_weights(sam: Sam) -> Iterable[tuple[str, str, Tensor]]:
    for part, module in vars(sam).items():
        for name, value in module.state_dict().items():
            yield part, name, value


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name in a `.safetensors` file, or in one that `torch.save` wrote.

    Raises:
        DataError: no such file, damaged, or something else in it.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected weights. Copy it there or run what makes it again.") from None
    except (*_UNREADABLE, *_UNLOADABLE) as error:
        raise unreadable(path, error) from None
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise DataError(f"{path}: expected names with tensors, found something else. Name the right weights.")
    return stored


def unreadable(path: Path, error: Exception) -> DataError:
    """The error to raise for weights that cannot be read."""
    reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return DataError(f"{path}: weights cannot be read: {reason}. Copy or download them again.")


def check_weights(found: dict[str, torch.Size], expected: dict[str, torch.Size], *, path: Path) -> None:
    """Raises a DataError that names missing, unknown and wrong-shaped weights, the first few of each."""
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} {tuple(found[name])}, expected {tuple(expected[name])}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", wrong))
        if names
    ]
    if problems:
        raise DataError(
            f"{path}: weights do not fit the network: {'; '.join(problems)}. "
            "They belong to another configuration; train again or choose the matching file."
        )


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
        except _UNREADABLE as error:
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
    except _UNREADABLE as error:
        raise unreadable(folder, error) from None
    model, report = loaded
    check_report(model, report, path=folder)
    return model


def check_report(model: nn.Module, report: Mapping[str, Any], *, path: Path) -> None:
    """Raises a DataError where transformers' loading report says that weights are missing or of another shape."""
    own = {name: value.shape for name, value in model.state_dict().items()}
    misshapen = {name: shape for name, shape, _ in report["mismatched_keys"]}
    absent = set(report["missing_keys"]) - misshapen.keys()
    check_weights({k: misshapen.get(k, shape) for k, shape in own.items() if k not in absent}, own, path=path)


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


def weights_sha256(place: Path) -> str:
    """Hash over the weight files (and configuration) of a checkpoint, a file or a folder."""
    kinds = ("*.safetensors", "*.json", "*.bin")
    files = [place] if place.is_file() else [file for kind in kinds for file in sorted(place.glob(kind))]
    if not files:
        raise DataError(f"{place}: no weights there; expected a .pth file or a folder with .safetensors files.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


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
