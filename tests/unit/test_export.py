"""`miras export` and `Miras`: what was trained is what is written, opened and answered."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import miras
from miras import cli, pretrained
from miras import export as export_module
from miras.config import read_yaml
from miras.errors import ConfigError, DataError, DiskFullError
from miras.export import check_space, difference, export, made_up_logits, open_trained, provenance
from miras.model.network import PARTS, MirasNetwork
from miras.model.records import Response
from miras.model.responder import NETWORK, WEIGHTS, Responder, save_weights
from miras.model.sam import build_sam, load_sam, save_sam
from miras.model.talker import Talker
from miras.model.weight_files import read_weights
from miras.model.weights import Backbones, load_llava, load_trained
from miras.origins import dvc_hash, recorded_origins
from miras.pretrained import DESCRIPTION, OWN_WEIGHTS, Miras, file_sha256, open_export, read_picture
from tests.unit.model.tiny_network import make_network, network_config, tiny_mini, write_backbones

ROOT = Path(__file__).parents[2]
PRESETS = ("lisa", "miras", "segllm", "miras-memory")
QUESTIONS = ["what is the red mug on the left", "segment what we have been talking about"]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    return write_backbones(tmp_path_factory.mktemp("backbones"), tiny_mini())


def settings(preset: str) -> dict[str, object]:
    return read_yaml(ROOT / "presets" / "network" / f"{preset}.yaml")["network"]


def train(backbones: Backbones, folder: Path, **changes: object) -> MirasNetwork:
    """Weights as a training stage leaves them: all that is learned has moved, and answers are full of markers."""
    network, builder = make_network(backbones, **changes)
    torch.manual_seed(5)
    with torch.no_grad():
        for _, value in network.learned():
            value.add_(0.1 * torch.randn_like(value))
        spoken = [builder.obj_id, builder.seg_id, builder.ref_id]
        if network.config.language_training == "lora":
            network.text_output.rows[torch.isin(network.text_output.ids, torch.tensor(spoken))] *= 8
        else:
            network.text_output.weight[spoken] *= 8
    folder.mkdir(exist_ok=True)
    save_weights(network, folder, fingerprint=backbones.manifest.fingerprint)
    return network


@pytest.fixture(scope="module")
def trained(backbones: Backbones, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage weights with everything there is: LoRA, both encoders, alignment, memory."""
    folder = tmp_path_factory.mktemp("trained")
    train(backbones, folder, language_training="lora", **settings("miras-memory"))
    return folder


@pytest.fixture(scope="module")
def exported(backbones: Backbones, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(weights=trained, backbones=backbones.folder, out=tmp_path_factory.mktemp("out") / "exported").folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """An export to damage."""
    return Path(shutil.copytree(exported, tmp_path / "copied"))


@pytest.fixture(scope="module")
def model(exported: Path) -> Miras:
    return Miras.from_pretrained(exported)


def picture(width: int = 50, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def assert_equal(found: list[Response], expected: list[Response]) -> None:
    assert [each.answer for each in found] == [each.answer for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.groups) == len(theirs.groups)
        for one, other in zip(ours.groups, theirs.groups, strict=True):
            assert one.phrase == other.phrase
            np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("training", ["full", "lora"])
@pytest.mark.parametrize("preset", PRESETS)
def test_an_export_answers_and_segments_as_the_trained_network(
    backbones: Backbones, tmp_path: Path, preset: str, training: str
) -> None:
    network = train(backbones, tmp_path / "stage2", language_training=training, **settings(preset))
    refers_to = [(), (0,)] if network.memory is not None else ()
    expected = Talker(Responder.load(backbones.folder, tmp_path / "stage2")).ask(
        picture(), QUESTIONS, refers_to=refers_to
    )
    assert any(group.mask.any() and not group.mask.all() for each in expected for group in each.groups)
    written = export(weights=tmp_path / "stage2", backbones=backbones.folder, out=tmp_path / "exported")
    assert written.text_difference < 1e-5
    assert written.mask_difference < 1e-5
    assert_equal(Miras.from_pretrained(written.folder).ask(picture(), QUESTIONS, refers_to=refers_to), expected)
    assert (written.folder / "parts" / "convnext").exists() == (preset in ("miras", "miras-memory"))


@pytest.mark.parametrize("training", ["full", "lora"])
def test_transformers_alone_opens_the_root_and_gives_the_same_text_logits(
    backbones: Backbones, tmp_path: Path, training: str
) -> None:
    from transformers import AutoTokenizer, LlavaForConditionalGeneration  # after miras: see miras.torchvision_compat

    network = train(backbones, tmp_path / "stage2", language_training=training).eval()
    folder = export(weights=tmp_path / "stage2", backbones=backbones.folder, out=tmp_path / "exported").folder
    llava, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert {name: found for name, found in report.items() if found} == {}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("USER: what is [OBJ] the red mug [SEG] [REF]", return_tensors="pt").input_ids
    assert {tokenizer.convert_tokens_to_ids(marker) for marker in ("[OBJ]", "[SEG]", "[REF]")} <= set(ids[0].tolist())
    with torch.no_grad():
        embedded = network.language.get_input_embeddings()(ids)
        ours = network.text_output(network.states(embedded))
        torch.testing.assert_close(llava(input_ids=ids).logits, ours, rtol=1e-4, atol=1e-4)
    for name, value in llava.model.multi_modal_projector.named_parameters():
        torch.testing.assert_close(value, network.projector.get_parameter(name), rtol=0, atol=0)


def test_the_trained_decoder_is_in_sams_file_under_the_published_names(exported: Path, trained: Path) -> None:
    sam, learned = read_weights(exported / "parts" / "sam.safetensors"), read_weights(trained / WEIGHTS)
    decoder = {name: value for name, value in learned.items() if name.startswith("mask_decoder.")}
    assert decoder
    for name, value in decoder.items():
        torch.testing.assert_close(sam[name], value, rtol=0, atol=0)
    assert "image_encoder.patch_embed.proj.weight" in sam


def test_large_models_are_written_in_shards(
    backbones: Backbones, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "SHARD_SIZE", "50KB")
    folder = export(weights=trained, backbones=backbones.folder, out=tmp_path / "exported").folder
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    Miras.from_pretrained(folder)


def test_the_same_weights_export_to_the_same_bytes(
    backbones: Backbones, trained: Path, exported: Path, tmp_path: Path
) -> None:
    again = export(weights=trained, backbones=backbones.folder, out=tmp_path / "a path with spaces" / "it's").folder
    assert (again / DESCRIPTION).read_bytes() == (exported / DESCRIPTION).read_bytes()


def test_the_description_says_what_it_was_made_of(exported: Path, trained: Path, backbones: Backbones) -> None:
    described = json.loads((exported / DESCRIPTION).read_text())
    assert described["network"]["language_training"] == "full"
    assert described["source"]["language_training"] == "lora"
    assert described["source"]["weights"] == {name: file_sha256(trained / name) for name in (WEIGHTS, NETWORK)}
    assert described["source"]["backbones_fingerprint"] == backbones.manifest.fingerprint
    files = {str(file.relative_to(exported)) for file in exported.rglob("*") if file.is_file()}
    assert set(described["sha256"]) == files - {DESCRIPTION}
    assert described["shapes"]["image_tokens"] == 16


def test_every_file_can_be_read_by_whoever_may_read_the_directory(exported: Path) -> None:
    assert len({file.stat().st_mode for file in exported.rglob("*") if file.is_file()}) == 1


def test_adapters_that_get_lost_stop_the_export_and_an_earlier_one_stays(
    backbones: Backbones, trained: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft.tuners.lora.layer.Linear.merge", lambda *_, **__: None)
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    with pytest.raises(DataError, match="differs from the trained network") as refused:
        export(weights=trained, backbones=backbones.folder, out=copied)
    assert float(str(refused.value).split("text logits by ")[1].split(",")[0]) > 1e-2
    assert {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()} == before
    assert list(copied.parent.iterdir()) == [copied]


def test_every_part_has_a_say_in_the_comparison(backbones: Backbones, trained: Path) -> None:
    """One learned tensor of each part changed: some logit moves by more than the tolerance."""
    opened = open_trained(backbones.folder, trained)
    before = made_up_logits(opened)
    changed = set()
    for name, value in opened.network.learned():
        part = name.split(".")[0]
        if part in changed or value.ndim < 2:
            continue
        changed.add(part)
        kept = value.detach().clone()
        with torch.no_grad():
            value.add_(0.1 * torch.randn_like(value))
            after = made_up_logits(opened)
            value.copy_(kept)
        moved = max(difference(before.text, after.text), difference(before.masks, after.masks))
        assert moved > export_module.TOLERANCE, name
    assert changed == set(PARTS) - {"decoder"} | {"text_output", "mask_decoder"}


def test_not_a_number_never_passes_for_equal() -> None:
    broken = difference(torch.ones(2), torch.tensor([1.0, float("nan")]))
    with pytest.raises(DataError, match="differs"):
        export_module.check_difference(Path("out"), text=broken, masks=0.0)


def test_a_directory_with_other_files_is_refused_and_left_alone(
    backbones: Backbones, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"no miras\.json: no export"):
        export(weights=trained, backbones=backbones.folder, out=tmp_path)
    with pytest.raises(DataError, match="a file; expected a directory"):
        export(weights=trained, backbones=backbones.folder, out=tmp_path / "thesis.txt")
    with pytest.raises(DataError, match="no directory that you may write to"):
        export(weights=trained, backbones=backbones.folder, out=tmp_path / "thesis.txt" / "exported")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_export_is_replaced_whole(backbones: Backbones, trained: Path, copied: Path) -> None:
    (copied / "model-00001-of-00002.safetensors").write_bytes(b"of another export")
    export(weights=trained, backbones=backbones.folder, out=copied)
    assert not (copied / "model-00001-of-00002.safetensors").exists()
    Miras.from_pretrained(copied)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_too_little_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=r"takes 1152921504\.6 GB, [\d.]+ GB are free"):
        check_space(tmp_path / "not" / "yet" / "there", 2**60)
    check_space(tmp_path, 1)


def test_a_disk_that_fills_up_leaves_nothing_behind(
    backbones: Backbones, trained: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DiskFullError, match="Free some space or name"):
        export(weights=trained, backbones=backbones.folder, out=small_disk / "exported")
    monkeypatch.setattr(export_module, "needed_bytes", lambda _: 0)
    with pytest.raises(DiskFullError):
        export(weights=trained, backbones=backbones.folder, out=small_disk / "exported")
    assert list(small_disk.iterdir()) == []


def test_weights_of_another_configuration_are_not_exported(backbones: Backbones, trained: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(trained, tmp_path / "stage2"))
    (other / NETWORK).write_text(network_config(language_training="lora").model_dump_json())
    with pytest.raises(DataError, match=r"weights\.safetensors: weights do not fit the network: .* unknown: memory"):
        export(weights=other, backbones=backbones.folder, out=tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("name", ["model.safetensors", OWN_WEIGHTS, "parts/sam.safetensors", "backbones.json"])
def test_a_damaged_or_missing_file_of_an_export_is_named(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[-10] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: damaged or changed"):
        Miras.from_pretrained(copied)
    (copied / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{name}: damaged or changed"):
        Miras.from_pretrained(copied)
    (copied / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        Miras.from_pretrained(copied)


def test_what_is_no_export_is_not_opened(copied: Path, trained: Path) -> None:
    with pytest.raises(DataError, match="expected a directory that `miras export` wrote"):
        Miras.from_pretrained(trained)
    with pytest.raises(DataError, match="expected a directory that `miras export` wrote"):
        Miras.from_pretrained(copied / "config.json")
    described = json.loads((copied / DESCRIPTION).read_text())
    for text in ("{", json.dumps(described | {"format": 2})):
        (copied / DESCRIPTION).write_text(text)
        with pytest.raises(DataError, match="of another version of miras"):
            Miras.from_pretrained(copied)


def test_own_parts_of_another_network_are_refused(copied: Path) -> None:
    described = json.loads((copied / DESCRIPTION).read_text())
    described["network"] |= {"mask_memory": "box"}
    (copied / DESCRIPTION).write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"network\.safetensors: weights do not fit .* unknown: memory\.mask_projector"):
        open_export(copied)


def test_a_picture_may_come_as_path_bytes_picture_or_array(model: Miras, tmp_path: Path) -> None:
    original = picture()
    original.save(tmp_path / "a picture.png")
    expected = model.ask(original, QUESTIONS[:1])
    for form in (tmp_path / "a picture.png", str(tmp_path / "a picture.png"), np.asarray(original)):
        assert_equal(model.ask(form, QUESTIONS[:1]), expected)
    assert_equal(model.ask((tmp_path / "a picture.png").read_bytes(), QUESTIONS[:1]), expected)


def test_pictures_are_turned_upright_and_made_rgb() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    picture(50, 30).save(stored, format="JPEG", exif=exif)
    assert read_picture(stored.getvalue()).size == (30, 50)
    assert read_picture(Image.open(stored)).size == (30, 50)
    assert read_picture(np.zeros((4, 6), np.uint8)).mode == "RGB"
    transparent = np.zeros((4, 6, 4), np.uint8)
    assert np.asarray(read_picture(transparent)).min() == 255


@pytest.mark.parametrize("pixels", [np.zeros((4, 6, 3)), np.zeros((3, 4, 6), np.uint8), np.zeros((0, 4), np.uint8)])
def test_an_array_that_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected uint8 with shape"):
        read_picture(pixels)


def test_a_picture_that_cannot_be_read_is_named(model: Miras, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        model.ask(tmp_path / "none.jpg", QUESTIONS)
    with pytest.raises(DataError, match="not a picture"):
        model.ask(b"GIF", QUESTIONS)


def test_questions_that_do_not_fit_are_refused(model: Miras, backbones: Backbones, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a list of texts"):
        model.ask(picture(), "where is it")
    with pytest.raises(DataError, match="1 entries for 2 questions"):
        model.ask(picture(), QUESTIONS, refers_to=[()])
    with pytest.raises(DataError, match=r"question 1 refers to \[1\]"):
        model.ask(picture(), QUESTIONS, refers_to=[(), (1,)])
    train(backbones, tmp_path / "stage2", **settings("lisa"))
    export(weights=tmp_path / "stage2", backbones=backbones.folder, out=tmp_path / "exported")
    with pytest.raises(DataError, match="mask_memory off"):
        Miras.from_pretrained(tmp_path / "exported").ask(picture(), QUESTIONS, refers_to=[(), (0,)])


def test_half_precision_holds_llava_in_half_the_memory_and_answers(exported: Path) -> None:
    half = Miras.from_pretrained(exported, dtype="bfloat16")
    network = half._talker.responder.network
    assert {value.dtype for value in network.language.parameters()} == {torch.bfloat16}
    assert {value.dtype for value in network.mask_decoder.parameters()} == {torch.float32}
    (response, _) = half.ask(picture(), QUESTIONS, refers_to=[(), (0,)])
    assert response.groups[0].mask.shape == (30, 50)
    whole = made_up_logits(open_export(exported, dtype=torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = made_up_logits(open_export(exported, dtype=torch.bfloat16))
    assert difference(whole.text, rounded.text) < 0.05
    assert difference(whole.masks, rounded.masks) < 0.05


def test_what_this_machine_cannot_do_is_one_error_with_the_remedy(exported: Path) -> None:
    with pytest.raises(ConfigError, match="no address of a model"):
        Miras.from_pretrained("models:/miras")
    with pytest.raises(ConfigError, match="float32, bfloat16, float16"):
        Miras.from_pretrained(exported, dtype="fp8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="device 'abacus'"):
        Miras.from_pretrained(exported, device="abacus")
    with pytest.raises(ConfigError, match="need a CUDA device and bitsandbytes: device is 'cpu'; give a CUDA device"):
        Miras.from_pretrained(exported, quantize=4)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_language_model_alone_is_quantised(
    exported: Path, bits: Literal[4, 8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By transformers' own rule of what to convert; the conversion itself needs a GPU."""
    from transformers.quantizers.quantizers_utils import should_convert_module

    monkeypatch.setattr(pretrained, "find_spec", lambda _: object())
    config = pretrained.quantization(bits, "cuda:0", torch.bfloat16)
    assert (config.load_in_4bit, config.load_in_8bit) == (bits == 4, bits == 8)
    llava = load_llava(exported)
    linear = {name for name, module in llava.named_modules() if isinstance(module, torch.nn.Linear)}
    converted = {name for name in linear if should_convert_module(name, config.llm_int8_skip_modules)}
    assert converted == {name for name in linear if name.startswith("model.language_model.")}
    assert len(converted) < len(linear)


def test_miras_itself_stays_light() -> None:
    script = "import miras, sys; print('torch' in sys.modules); miras.__getattr__; print(hasattr(miras, 'nothing'))"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False"]
    assert miras.Miras is Miras


def test_the_command_takes_its_folders_from_the_parameter_file(
    backbones: Backbones, trained: Path, tmp_path: Path
) -> None:
    paths = read_yaml(ROOT / "params.yaml")["paths"] | {"stage2": str(trained), "backbones": str(backbones.folder)}
    (tmp_path / "params.yaml").write_text(json.dumps({"paths": paths}))
    options = ["export", "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "exported")]
    ended = CliRunner().invoke(cli.app, options)
    assert ended.exit_code == 0
    assert f"compared with {trained}: largest difference" in ended.stdout
    Miras.from_pretrained(tmp_path / "exported")
    (tmp_path / "params.yaml").write_text("{}")
    assert "this section is missing" in str(CliRunner().invoke(cli.app, options).exception)


def test_missing_and_damaged_weight_files_are_named(backbones: Backbones, trained: Path, tmp_path: Path) -> None:
    network, _ = make_network(backbones, language_training="lora", **settings("miras-memory"))
    shape = backbones.manifest.sam_shape
    save_sam(build_sam(shape), tmp_path / "whole.pth")
    for name, source in {"w.safetensors": trained / WEIGHTS, "sam.pth": tmp_path / "whole.pth"}.items():
        path, content = tmp_path / name, source.read_bytes()

        def load(path: Path = path) -> None:
            if path.suffix == ".pth":
                load_sam(shape, path)
            else:
                load_trained(network, path, fingerprint=backbones.manifest.fingerprint)

        with pytest.raises(DataError, match=f"{name}: no such file"):
            load()
        for damaged in (b"", b"no weights at all", content[: len(content) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=f"{name}: weights cannot be read"):
                load()
        path.write_bytes(content)
        load()
    torch.save([torch.zeros(1)], tmp_path / "sam.pth")
    with pytest.raises(DataError, match="expected names with tensors"):
        load_sam(shape, tmp_path / "sam.pth")


def test_a_llava_with_missing_or_foreign_files_is_never_filled_with_random_weights(
    backbones: Backbones, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(backbones.folder / "llava", tmp_path / "llava"))
    weights = read_weights(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("lm_head.weight"))
    save_file({k: v for k, v in weights.items() if k != name}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"llava: weights do not fit the network: 1 missing: lm_head\.weight"):
        load_llava(folder)
    save_file(weights | {name: weights[name][:5].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="1 of another shape"):
        load_llava(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights cannot be read: .*no file named model\.safetensors"):
        load_llava(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match="describes a None model, expected llava"):
        load_llava(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json"):
        load_llava(folder)


def test_an_export_states_the_data_only_where_the_lock_file_records_these_very_weights(
    backbones: Backbones, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "models" / "stage2")
    assert "data" not in provenance(backbones.folder, Path("models/stage2"))
    outs = {"ingest": "a", "check": "b", "split": "c"}
    stages = {name: {"outs": [{"path": f"data/{name}", "md5": f"{md5}.dir"}]} for name, md5 in outs.items()}
    deps = [{"path": f"data/{name}", "md5": f"{md5}.dir"} for name, md5 in outs.items()]
    made = {"path": "models/stage2", "md5": dvc_hash(Path("models/stage2"))}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {**stages, "stage2": {"deps": deps, "outs": [made]}}}))
    source = provenance(backbones.folder, Path("models/stage2"))
    assert re.fullmatch("[0-9a-f]{64}", source["data"])
    assert source["inputs"] == {"data/check": "b.dir", "data/ingest": "a.dir", "data/split": "c.dir"}
    (tmp_path / "models" / "stage2" / WEIGHTS).write_bytes(b"others")
    assert recorded_origins(Path("models/stage2")) is None


def test_what_is_known_of_a_model_goes_into_its_export(backbones: Backbones, trained: Path, tmp_path: Path) -> None:
    written = export(weights=trained, backbones=backbones.folder, out=tmp_path / "out", lineage={"commit": "c0ffee"})
    assert json.loads((written.folder / DESCRIPTION).read_text())["source"]["lineage"] == {"commit": "c0ffee"}
