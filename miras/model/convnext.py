"""ConvNeXt weights in any published form, as transformers' `ConvNextModel`.

Forms: a transformers folder, or one weight file with timm's names, alone or inside OpenCLIP's checkpoint
(LAION's `CLIP-convnext_large_d_320`). Both networks compute the same: exact GELU, LayerNorm epsilon 1e-6 in the
stem, the stages and between them. They differ only in the norm after the last stage, which miras does not read:
timm's is left out and ours stays as it is made.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from transformers import ConvNextConfig, ConvNextModel

from miras.errors import DataError
from miras.model.weight_files import check_report, check_weights, read_weights, unreadable

TIMM_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
OPENCLIP_PREFIX = "visual.trunk."
EPSILON_1E5_WIDTH = 384  # stem of timm's convnext_xxlarge: norms with epsilon 1e-5, which ConvNextModel has not

_UNUSED = ("head.", "norm_pre.")  # what timm puts after the last stage
_RENAMES = (
    (r"^stem\.0\.", "embeddings.patch_embeddings."),
    (r"^stem\.1\.", "embeddings.layernorm."),
    (r"^stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.gamma$", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.", r"encoder.stages.\1.layers.\2.dwconv."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.norm\.", r"encoder.stages.\1.layers.\2.layernorm."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc(\d)\.", r"encoder.stages.\1.layers.\2.pwconv\3."),
)
_BLOCK = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.weight")


def load_convnext(folder: Path) -> ConvNextModel:
    """ConvNeXt with the weights of a folder in transformers', timm's or OpenCLIP's form.

    Raises:
        DataError: there is no weight file, it cannot be read, or names or shapes are not a ConvNeXt's.
    """
    if _is_transformers(folder):
        return _load_transformers(folder)
    path = timm_file(folder)
    weights = to_transformers(read_weights(path))
    model = ConvNextModel(config_of(weights, path=path))
    expected = {name: value.shape for name, value in model.state_dict().items() if not name.startswith("layernorm.")}
    check_weights({name: value.shape for name, value in weights.items()}, expected, path=path)
    model.load_state_dict(weights, strict=False)  # strict but for the last norm: checked above
    return model


def timm_file(folder: Path) -> Path:
    """The weight file of a timm or OpenCLIP folder.

    Raises:
        DataError: none of the known names is there.
    """
    for name in TIMM_FILES:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder}: no ConvNeXt weights there. Expected a transformers folder (config.json with model_type convnext) "
        f"or one of {', '.join(TIMM_FILES)}; name the right folder in backbones.public.convnext."
    )


def to_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A timm or OpenCLIP state dict under `ConvNextModel`'s names; unknown names stay as they are.

    Of an OpenCLIP state dict only the picture trunk is kept.
    """
    if any(name.startswith(OPENCLIP_PREFIX) for name in weights):
        trunk = {name: value for name, value in weights.items() if name.startswith(OPENCLIP_PREFIX)}
        weights = {name.removeprefix(OPENCLIP_PREFIX): value for name, value in trunk.items()}
    return {_renamed(name): value for name, value in weights.items() if not name.startswith(_UNUSED)}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def config_of(weights: dict[str, Tensor], *, path: Path) -> ConvNextConfig:
    """The sizes that renamed weights show: width and number of blocks of every stage.

    Raises:
        DataError: no stages, or those of a ConvNeXt-XXL, which computes with another epsilon.
    """
    widths: dict[int, int] = {}
    depths: dict[int, int] = {}
    for name, value in weights.items():
        if match := _BLOCK.fullmatch(name):
            stage, block = int(match[1]), int(match[2])
            widths[stage] = value.shape[0]
            depths[stage] = max(depths.get(stage, 0), block + 1)
    if sorted(widths) != list(range(len(widths))) or not widths:
        found = ", ".join(sorted(weights)[:3]) or "nothing"
        raise DataError(
            f"{path}: no ConvNeXt in timm's form: found {found}; expected stem.0.weight, "
            "stages.0.blocks.0.conv_dw.weight and so on, with or without visual.trunk. in front."
        )
    if widths[0] == EPSILON_1E5_WIDTH:
        raise DataError(
            f"{path}: a ConvNeXt-XXL: its norms use epsilon 1e-5, those of transformers' ConvNeXt 1e-6. "
            "Name a ConvNeXt of size L or XL in backbones.public.convnext."
        )
    stages = sorted(widths)
    return ConvNextConfig(
        num_stages=len(stages),
        hidden_sizes=[widths[stage] for stage in stages],
        depths=[depths[stage] for stage in stages],
    )


def _is_transformers(folder: Path) -> bool:
    """Whether the folder's config.json is transformers' (timm's has no model_type)."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        return False
    except ValueError as error:
        raise DataError(f"{folder / 'config.json'}: not JSON: {error}. Download the checkpoint again.") from None
    return isinstance(config, dict) and config.get("model_type") == "convnext"


def _load_transformers(folder: Path) -> ConvNextModel:
    """By transformers' own loader, which alone would fill what is missing with random numbers."""
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        loaded: Any = ConvNextModel.from_pretrained(folder, **options)
    except (OSError, SafetensorError) as error:
        raise unreadable(folder, error) from None
    model, report = loaded
    check_report(model, report, path=folder)
    return model
