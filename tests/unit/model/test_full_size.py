"""The published sizes, built on the meta device: no weights, no memory.

ConvNeXt is compared with timm where that is installed; the rest with transformers' and segment_anything's classes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from transformers import ConvNextModel, LlavaConfig, LlavaForConditionalGeneration

from miras.errors import ConfigError
from miras.model.blueprint import Blueprint, PartSize, convnext_config, draw_blueprint, llava_config, part_sizes
from miras.model.config import BackbonesConfig
from miras.model.mini import build_llava, train_tokenizer
from miras.model.sam import SAM_SHAPES, build_sam
from tests.unit.model.tiny_network import TEXTS, network_config, tiny_mini

LLAVA_7B, CONVNEXT_LARGE = "llava-hf/llava-1.5-7b-hf", "facebook/convnext-large-384-22k-1k"
NEW_WORDS = 5  # [OBJ], [SEG], [REF], <mask>, <box>


def public(**changes: object) -> BackbonesConfig:
    settings = {
        "llava": LLAVA_7B,
        "convnext": CONVNEXT_LARGE,
        "sam": "weights/sam_vit_h_4b8939.pth",
        "sam_type": "vit_h",
        "convnext_image_size_px": 768,
        "convnext_grid": 48,
    }
    return BackbonesConfig.model_validate({"mini": None, "public": settings | changes})


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    return draw_blueprint(public(), network_config(language_training="lora", mask_memory="both", reference_loss=True))


def by_part(blueprint: Blueprint, frozen: tuple[str, ...] = ()) -> dict[str, PartSize]:
    return {size.part: size for size in part_sizes(blueprint, frozen=frozen)}


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_parts_have_the_fact_sheets_sizes(blueprint: Blueprint) -> None:
    """Appendix A, parameter budget; where ours differs by design the difference is spelled out."""
    total = {part: size.total for part, size in by_part(blueprint).items()}
    assert total["LoRA"] == 32 * 2 * 8 * (4096 + 4096) == 4_194_304
    assert total["prompt head"] == (4096 + 1) * 4096 + (4096 + 1) * 256 + 2 * 256  # 17.83 M, and our LayerNorm
    assert total["prompt head"] - 2 * 256 == 17_830_144
    assert total["mining"] == 6_963_456
    assert total["projector"] == 20_979_712
    assert total["mask decoder"] == 4_058_340
    assert total["alignment"] == 4 * 256 * 257 + 2 * 2 * 256  # the sheet's 0.33 M has one more 256 x 256 layer
    assert total["alignment"] - 2 * 2 * 256 + 256 * 257 == 328_960


def test_backbones_have_the_published_sizes(blueprint: Blueprint) -> None:
    total = {part: size.total for part, size in by_part(blueprint).items()}
    assert total["CLIP"] == 303_507_456
    assert total["embedding and head"] + total["language model"] == 6_738_415_616 + 64 * 2 * 4096
    assert total["ConvNeXt"] == 196_230_336
    assert total["SAM encoder"] + total["prompt encoder"] + total["mask decoder"] == 641_090_608


def test_of_the_vocabulary_only_new_words_are_trained(blueprint: Blueprint) -> None:
    parts = by_part(blueprint)
    assert parts["embedding and head"].trainable == 0
    assert parts["new-token rows"].trainable == parts["new-token rows"].total == 2 * NEW_WORDS * 4096


def test_a_frozen_part_is_counted_but_not_trained(blueprint: Blueprint) -> None:
    before, after = by_part(blueprint), by_part(blueprint, frozen=("projector",))
    assert after["projector"] == PartSize("projector", before["projector"].total, 0)
    assert after["mining"] == before["mining"]
    assert by_part(blueprint) == before  # and thawed again


def test_nothing_has_memory(blueprint: Blueprint) -> None:
    values = [*blueprint.network.parameters(), *blueprint.network.buffers(), *blueprint.encoders.parameters()]
    assert {value.device.type for value in values} == {"meta"}


def test_a_stored_config_wins_and_the_papers_vocabulary_gives_the_papers_rows(tmp_path: Path) -> None:
    config = llava_config(LLAVA_7B).to_dict()
    config["text_config"]["vocab_size"] = 32005
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    size = by_part(draw_blueprint(public(llava=str(tmp_path)), network_config(language_training="full")))
    assert size["embedding and head"].total == size["embedding and head"].trainable == 262_184_960


@pytest.mark.parametrize(
    ("name", "base", "width"),
    [
        ("llava-hf/llava-1.5-7b-hf", 6_738_415_616, 4096),
        ("llava-hf/llava-1.5-13b-hf", 13_015_864_320, 5120),
        ("llava-hf/llava-v1.6-mistral-7b-hf", 7_241_732_096, 4096),
    ],
)
def test_language_models_are_their_bases_with_spare_rows(name: str, base: int, width: int) -> None:
    """LLaMA-7B, LLaMA-13B and Mistral-7B have 32000 words; the `-hf` files have rows for 64 more."""
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(llava_config(name))
    language = [*llava.model.language_model.parameters(), *llava.lm_head.parameters()]
    assert sum(value.numel() for value in language) == base + 64 * 2 * width


def test_language_side_has_the_names_and_shapes_of_transformers(blueprint: Blueprint) -> None:
    with torch.device("meta"):
        expected = shapes(LlavaForConditionalGeneration(llava_config(LLAVA_7B)))
    network = blueprint.network
    found = {f"model.vision_tower.{name}": shape for name, shape in shapes(blueprint.encoders.clip).items()}
    found |= {f"model.multi_modal_projector.{name}": shape for name, shape in shapes(network.projector).items()}
    found |= {f"model.language_model.{name}": shape for name, shape in shapes(network.language).items()}
    found |= {f"lm_head.{name}": shape for name, shape in shapes(network.text_output).items()}
    own = re.compile(r"\.lora_[AB]\.|\.rows$")  # what we add
    published = {re.sub(r"\.(base_layer|base)\.", ".", name): s for name, s in found.items() if not own.search(name)}
    assert published == expected


@pytest.mark.parametrize("sam_type", list(SAM_SHAPES))
def test_sam_has_the_names_and_shapes_of_segment_anything(sam_type: str) -> None:
    with torch.device("meta"):
        expected = shapes(sam_model_registry[sam_type](checkpoint=None))
        own = build_sam(SAM_SHAPES[sam_type])
    found = {f"{part}.{name}": shape for part, module in vars(own).items() for name, shape in shapes(module).items()}
    assert found == {name: shape for name, shape in expected.items() if name not in ("pixel_mean", "pixel_std")}


def test_convnext_has_the_shapes_of_timm() -> None:
    import timm  # takes a second

    with torch.device("meta"):
        expected = shapes(timm.create_model("convnext_large", num_classes=0))
        own = shapes(ConvNextModel(convnext_config(CONVNEXT_LARGE)))
    assert {_timm_name(name): shape for name, shape in own.items()} == expected


def _timm_name(name: str) -> str:
    for pattern, replacement in (
        (r"^embeddings\.patch_embeddings\.", "stem.0."),
        (r"^embeddings\.layernorm\.", "stem.1."),
        (r"^encoder\.", ""),
        (r"downsampling_layer\.", "downsample."),
        (r"\.layers\.(\d+)\.", r".blocks.\1."),
        (r"layer_scale_parameter$", "gamma"),
        (r"dwconv", "conv_dw"),
        (r"pwconv(\d)", r"mlp.fc\1"),
        (r"(blocks\.\d+)\.layernorm", r"\1.norm"),
        (r"^layernorm\.", "head.norm."),
    ):
        name = re.sub(pattern, replacement, name)
    return name


def test_weights_under_the_names_of_the_hub_load_completely(tmp_path: Path) -> None:
    """The published `-hf` files use names from before transformers 4.52; every one must find its place."""
    torch.manual_seed(0)
    llava = build_llava(tiny_mini(), train_tokenizer(TEXTS, vocabulary=320))
    hub = {_hub_name(name): value.contiguous() for name, value in llava.state_dict().items()}
    llava.config.save_pretrained(tmp_path)
    save_file(hub, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, report = LlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, value in llava.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def _hub_name(name: str) -> str:
    """E.g. `language_model.model.layers.0...`, `vision_tower.vision_model...`, `language_model.lm_head.weight`."""
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    name = re.sub(r"^lm_head\.", "language_model.lm_head.", name)
    name = re.sub(r"^model\.vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)
    return re.sub(r"^model\.", "", name)


def test_an_unknown_name_says_which_are_known() -> None:
    with pytest.raises(ConfigError, match=r"backbones\.public\.llava: someone/their-llava .*llava-hf/llava-1\.5-7b-hf"):
        draw_blueprint(public(llava="someone/their-llava"), network_config())
    with pytest.raises(ConfigError, match=r"backbones\.public\.convnext: a/b/c is neither"):
        draw_blueprint(public(convnext="a/b/c"), network_config())


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    with pytest.raises(ConfigError, match="a bert model, expected llava or llava_next"):
        draw_blueprint(public(llava=str(tmp_path)), network_config())
    (tmp_path / "config.json").write_text("no json", "utf-8")
    with pytest.raises(ConfigError, match="no configuration of a checkpoint"):
        draw_blueprint(public(llava=str(tmp_path)), network_config())


def test_a_dual_encoder_needs_a_second_encoder() -> None:
    with pytest.raises(ConfigError, match=r"network\.dual_encoder is true, but backbones\.public\.convnext is empty"):
        draw_blueprint(public(convnext=""), network_config(dual_encoder=True))
    assert "ConvNeXt" not in by_part(draw_blueprint(public(convnext=""), network_config(dual_encoder=False)))


def test_a_mini_model_is_drawn_with_its_full_vocabulary() -> None:
    mini = tiny_mini()
    drawn = draw_blueprint(BackbonesConfig(mini=mini, public=None), network_config())
    assert by_part(drawn)["embedding and head"].total == 2 * mini.language.vocabulary * mini.language.width
    assert isinstance(llava_config(LLAVA_7B), LlavaConfig)
