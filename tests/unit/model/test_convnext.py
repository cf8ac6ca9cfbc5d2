"""ConvNeXt weights under timm's and OpenCLIP's names against the network written out, and against timm itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import ConvNextConfig, ConvNextModel

from miras.errors import DataError
from miras.model.convnext import load_convnext, to_transformers
from miras.model.vision import high_resolution_map

WIDTHS, DEPTHS = [8, 12, 16, 20], [1, 2, 1, 1]
LARGE_WIDTHS, LARGE_DEPTHS = [192, 384, 768, 1536], [3, 3, 27, 3]  # of ConvNeXt-L


def timm_shapes(widths: list[int], depths: list[int]) -> dict[str, tuple[int, ...]]:
    """timm's names and shapes up to the last stage, by rule."""
    modules: dict[str, tuple[int, ...]] = {"stem.0": (widths[0], 3, 4, 4), "stem.1": (widths[0],)}
    scales = {}
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            modules[f"stages.{stage}.downsample.0"] = (widths[stage - 1],)
            modules[f"stages.{stage}.downsample.1"] = (width, widths[stage - 1], 2, 2)
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            modules |= {f"{name}.conv_dw": (width, 1, 7, 7), f"{name}.norm": (width,)}
            modules |= {f"{name}.mlp.fc1": (4 * width, width), f"{name}.mlp.fc2": (width, 4 * width)}
            scales[f"{name}.gamma"] = (width,)
    weights = {f"{name}.weight": shape for name, shape in modules.items()}
    biases = {f"{name}.bias": shape[:1] for name, shape in modules.items()}
    return weights | biases | scales


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Random weights under timm's names, with the norm after the last stage."""
    torch.manual_seed(0)
    shapes = timm_shapes(WIDTHS, DEPTHS) | {"head.norm.weight": (WIDTHS[-1],), "head.norm.bias": (WIDTHS[-1],)}
    return {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}


def openclip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same inside an OpenCLIP checkpoint, beside its text tower."""
    other = {
        "logit_scale": torch.ones(1),
        "token_embedding.weight": torch.ones(2, 3),
        "visual.head.proj.weight": torch.ones(2, 2),
    }
    return other | {f"visual.trunk.{name}": value for name, value in weights.items()}


def stages_written_out(weights: dict[str, Tensor], pixels: Tensor) -> list[Tensor]:
    """Every stage's output, computed from timm's names alone."""

    def affine(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def norm(cells: Tensor, name: str) -> Tensor:
        weight, bias = affine(name)
        return F.layer_norm(cells.movedim(1, -1), weight.shape, weight, bias, eps=1e-6).movedim(-1, 1)

    def block(cells: Tensor, name: str) -> Tensor:
        inner = F.conv2d(cells, *affine(f"{name}.conv_dw"), padding=3, groups=cells.shape[1])
        inner = norm(inner, f"{name}.norm").movedim(1, -1)
        inner = F.linear(F.gelu(F.linear(inner, *affine(f"{name}.mlp.fc1"))), *affine(f"{name}.mlp.fc2"))
        return cells + (weights[f"{name}.gamma"] * inner).movedim(-1, 1)

    cells = norm(F.conv2d(pixels, *affine("stem.0"), stride=4), "stem.1")
    stages = []
    for stage, depth in enumerate(DEPTHS):
        if stage:
            cells = F.conv2d(
                norm(cells, f"stages.{stage}.downsample.0"), *affine(f"stages.{stage}.downsample.1"), stride=2
            )
        for number in range(depth):
            cells = block(cells, f"stages.{stage}.blocks.{number}")
        stages.append(cells)
    return stages


def stages_of(model: ConvNextModel, pixels: Tensor) -> list[Tensor]:
    """The four maps that `high_resolution_map` mines."""
    with torch.no_grad():
        return list(model.eval()(pixel_values=pixels, output_hidden_states=True).hidden_states[1:])


def assert_same_stages(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert [stage.shape[1] for stage in ours] == WIDTHS
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "is_openclip"),
    [
        ("model.safetensors", False),
        ("pytorch_model.bin", False),
        ("open_clip_model.safetensors", True),
        ("open_clip_pytorch_model.bin", True),
    ],
)
def test_weights_under_timms_names_give_the_network_that_they_name(
    weights: dict[str, Tensor], tmp_path: Path, file: str, is_openclip: bool
) -> None:
    stored = openclip(weights) if is_openclip else weights
    (save_file if file.endswith("safetensors") else torch.save)(stored, tmp_path / file)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "convnext_large", "num_classes": 0}))
    model, pixels = load_convnext(tmp_path), torch.randn(2, 3, 64, 64)
    assert_same_stages(stages_of(model, pixels), stages_written_out(weights, pixels))
    assert high_resolution_map(model, pixels, grid=8).shape == (2, sum(WIDTHS), 8, 8)


def test_weights_of_timm_itself_give_timms_stages(tmp_path: Path) -> None:
    import timm  # takes a second

    torch.manual_seed(0)
    theirs = timm.create_model("convnext_large", depths=DEPTHS, dims=WIDTHS, num_classes=0, ls_init_value=1.0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    stored = {name: value for name, value in theirs.state_dict().items() if not name.startswith("head.")}
    assert {name: tuple(value.shape) for name, value in stored.items()} == timm_shapes(WIDTHS, DEPTHS)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        stages = theirs.forward_intermediates(pixels, intermediates_only=True)
    assert_same_stages(stages_of(load_convnext(tmp_path), pixels), stages)


def test_a_convnext_large_of_timm_has_the_names_and_shapes_of_ours() -> None:
    with torch.device("meta"):
        ours = ConvNextModel(ConvNextConfig(hidden_sizes=LARGE_WIDTHS, depths=LARGE_DEPTHS))
        theirs = {name: torch.empty(shape) for name, shape in timm_shapes(LARGE_WIDTHS, LARGE_DEPTHS).items()}
    expected = {name: value.shape for name, value in ours.state_dict().items() if not name.startswith("layernorm.")}
    assert {name: value.shape for name, value in to_transformers(theirs).items()} == expected


def test_a_transformers_folder_loads_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, pixels = ConvNextModel(ConvNextConfig(hidden_sizes=WIDTHS, depths=DEPTHS)), torch.randn(1, 3, 64, 64)
    model.save_pretrained(tmp_path)
    assert_same_stages(stages_of(load_convnext(tmp_path), pixels), stages_of(model, pixels))


def test_a_transformers_folder_with_missing_or_misshapen_weights_is_refused(tmp_path: Path) -> None:
    ConvNextModel(ConvNextConfig(hidden_sizes=WIDTHS, depths=DEPTHS)).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    del stored["encoder.stages.0.layers.0.dwconv.weight"]
    stored["embeddings.layernorm.bias"] = torch.zeros(3)
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 missing: .*dwconv\.weight; 1 of another shape: .*layernorm\.bias \(3,\)"):
        load_convnext(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages.1.blocks.0.gamma": None}, r"1 missing: encoder\.stages\.1\.layers\.0\.layer_scale_parameter"),
        ({"stages.2.blocks.0.mlp.grn.weight": torch.ones(4)}, r"1 unknown: stages\.2\.blocks\.0\.mlp\.grn\.weight"),
        ({"stages.0.blocks.0.mlp.fc1.weight": torch.ones(32, 8, 1, 1)}, r"1 of another shape: .*pwconv1\.weight"),
        ({"stages.1.blocks.0.conv_dw.weight": None}, r"1 missing: .*stages\.1\.layers\.0\.dwconv\.weight"),
        ({"stages.0.blocks.0.conv_dw.weight": torch.ones(384, 1, 7, 7)}, "XXL"),
    ],
)
def test_weights_of_another_network_are_refused(
    weights: dict[str, Tensor], tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    changed = {name: value for name, value in (weights | changes).items() if value is not None}
    save_file(changed, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=message):
        load_convnext(tmp_path)


def test_a_folder_without_a_convnext_is_named_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no ConvNeXt weights there.*open_clip_pytorch_model\.bin"):
        load_convnext(tmp_path)
    save_file({"layer1.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"found layer1\.weight; expected stem\.0\.weight"):
        load_convnext(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_damaged_weight_file_is_named(weights: dict[str, Tensor], tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    (save_file if file.endswith("safetensors") else torch.save)(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{file}: weights cannot be read"):
        load_convnext(tmp_path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")  # a pointer in place of the file
    with pytest.raises(DataError, match=f"{file}: weights cannot be read"):
        load_convnext(tmp_path)
