"""What `miras doctor` says of good and of broken machines and workspaces."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file

from miras import doctor
from miras.doctor import Finding, examination, weights
from miras.doctor.examination import Gpu
from miras.doctor.findings import counted
from miras.machine import memory_limit
from miras.model.config import BackbonesConfig
from miras.model.sam import SAM_SHAPES
from miras.model.weights import Backbones, write_manifest
from tests.unit.model.tiny_network import tiny_mini, write_backbones

ROOT = Path(__file__).parents[2]
A100 = Gpu("NVIDIA A100-SXM4-80GB", total_gib=79, free_gib=78, capability=(8, 0))
MINI = BackbonesConfig(mini=tiny_mini(), public=None)


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


def public(**changes: str) -> BackbonesConfig:
    """Public weights as params.yaml names them."""
    names = {"llava": "llava", "convnext": "convnext", "sam": "sam.pth", "sam_type": "vit_b"}
    sizes = {"convnext_image_size_px": 64, "convnext_grid": 8}
    return BackbonesConfig.model_validate({"mini": None, "public": names | sizes | changes})


@pytest.fixture
def published(tmp_path: Path) -> BackbonesConfig:
    """Public weights in local folders, pinned in tmp_path/backbones."""
    for part in ("llava", "convnext"):
        (tmp_path / part).mkdir()
        save_file({"weight": torch.ones(2)}, tmp_path / part / "model.safetensors")
    (tmp_path / "sam.pth").write_bytes(b"sam")
    places = {part: tmp_path / part for part in ("llava", "convnext")} | {"sam": tmp_path / "sam.pth"}
    names = {part: str(place) for part, place in places.items()}
    (tmp_path / "backbones").mkdir()
    write_manifest(
        tmp_path / "backbones",
        names
        | {
            "kind": "public",
            "convnext_image_size_px": 64,
            "convnext_grid": 8,
            "sam_shape": SAM_SHAPES["vit_b"].model_dump(),
        },
        parts=places,
    )
    return public(**names)


def test_this_machine_has_no_errors_in_its_environment() -> None:
    findings = [
        examination.python(sys.version_info[:3]),
        *examination.packages(ROOT / "constraints.txt"),
        examination.torchvision(),
        *examination.devices(),
        *examination.tools(),
    ]
    assert [finding for finding in findings if finding.level == "error"] == []


def test_a_python_too_old_is_an_error() -> None:
    assert examination.python((3, 10, 12)).level == "error"
    assert examination.python((3, 12, 0)).level == "ok"


def test_versions_are_compared_with_the_pins_whatever_the_build() -> None:
    pins = examination.read_pins(
        "# comment\nTorch==2.13.0\nruamel.yaml==0.19.1 ; python_version > '3'\nscikit_learn==1.9\n"
    )
    assert pins == {"torch": "2.13.0", "ruamel-yaml": "0.19.1", "scikit-learn": "1.9"}
    assert examination.package("torch", installed="2.13.0+cpu", pinned="2.13.0").level == "ok"
    old = examination.package("torch", installed="2.12.1", pinned="2.13.0")
    assert (old.level, "tested with 2.13.0" in old.found, "make install" in old.remedy) == ("warning", True, True)
    assert examination.package("peft", installed=None, pinned="0.21.2").level == "error"


def test_every_package_that_decides_results_is_pinned() -> None:
    assert set(examination.PACKAGES) <= examination.read_pins((ROOT / "constraints.txt").read_text()).keys()


def test_missing_constraints_are_said_not_passed_over(tmp_path: Path) -> None:
    assert [finding.level for finding in examination.packages(tmp_path / "constraints.txt")] == ["warning"]


def test_a_torchvision_of_another_torch_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    monkeypatch.setattr(torchvision, "__version__", "0.27.1")
    finding = examination.torchvision()
    assert finding.level == "error"
    assert "make install" in finding.remedy


def test_a_gpu_is_judged_by_its_memory_and_its_bfloat16() -> None:
    assert levels(examination.device(0, A100)) == {"cuda:0": "ok", "cuda:0 bf16": "ok"}
    assert "79 GiB, 78 GiB free" in examination.device(0, A100)[0].found
    assert levels(examination.device(1, replace(A100, free_gib=3)))["cuda:1"] == "warning"
    assert levels(examination.device(0, replace(A100, capability=(7, 5))))["cuda:0 bf16"] == "warning"


@pytest.mark.parametrize(
    ("cuda", "has_gpu", "level"), [(None, False, "ok"), (None, True, "warning"), ("13.0", False, "warning")]
)
def test_no_device_is_a_fault_only_where_one_was_to_be_expected(cuda: str | None, has_gpu: bool, level: str) -> None:
    finding = examination.no_device(cuda=cuda, has_gpu=has_gpu)
    assert finding.level == level
    assert bool(finding.remedy) == (level != "ok")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_devices_of_this_machine_are_listed() -> None:
    found = levels(examination.devices())
    assert {"cuda", "cuda:0", "cuda:0 bf16"} <= found.keys()


def test_a_deepspeed_that_cannot_be_imported_is_an_error_only_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deepspeed.py").write_text("raise RuntimeError('CUDA_HOME does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    used, unused = examination.deepspeed(True), examination.deepspeed(False)
    assert (used.level, unused.level) == ("error", "warning")
    assert used.found == "RuntimeError: CUDA_HOME does not exist"
    assert "zero_stage 0" in used.remedy


def test_a_wrong_launch_profile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "deepspeed", lambda is_used: Finding("deepspeed import", "ok", str(is_used)))
    (tmp_path / "local.yaml").write_text("place: local\nproceses: 1\n")
    wrong, _ = examination.training(str(tmp_path / "local.yaml"))
    assert (wrong.level, "did you mean processes?" in wrong.found) == ("error", True)
    assert examination.training(str(ROOT / "infra/launch/local.yaml"))[0].level == "ok"


def test_disk_space_is_warned_of_before_it_ends() -> None:
    given = {gib: examination.disk_space("disk", gib, low_gib=5).level for gib in (50.0, 4.0, 0.5)}
    assert given == {50.0: "ok", 4.0: "warning", 0.5: "error"}


def test_disk_is_measured_where_work_models_and_dvcs_cache_will_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(f"[core]\nno_scm = true\n[cache]\ndir = {tmp_path}/elsewhere\n")
    found = {finding.check: finding for finding in examination.disk(Path("models/not/yet"), low_gib=0)}
    assert list(found) == ["disk work/", "disk models/not/yet/", "disk DVC cache"]
    assert found["disk DVC cache"].found.endswith(f"{tmp_path}/elsewhere")


def test_a_containers_memory_limit_counts(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("4294967296\n")
    assert memory_limit(tmp_path) == 4 * 2**30


def test_little_memory_is_a_warning() -> None:
    assert examination.memory(low_gib=0).level == "ok"
    assert examination.memory(low_gib=10**6).level == "warning"


def test_mini_weights_are_those_that_were_recorded_until_one_changes(tmp_path: Path) -> None:
    assert weights.weights(tmp_path, MINI)[0].found.startswith("mini ones, not made yet")
    backbones: Backbones = write_backbones(tmp_path, tiny_mini())
    assert set(levels(weights.weights(tmp_path, MINI)).values()) == {"ok"}
    sam = backbones.folder / "sam.pth"
    sam.write_bytes(sam.read_bytes()[:-1] + b"x")
    changed = {finding.check: finding for finding in weights.weights(tmp_path, MINI)}
    assert levels(list(changed.values())) == {"weights llava": "ok", "weights convnext": "ok", "weights sam": "error"}
    assert f"dvc checkout {tmp_path}" in changed["weights sam"].remedy


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    for text in ("{", '{"kind": "mini"}'):
        (tmp_path / "backbones.json").write_text(text)
        assert levels(weights.weights(tmp_path, MINI)) == {"weights": "error"}


def test_public_weights_are_those_that_were_recorded_until_one_changes(
    published: BackbonesConfig, tmp_path: Path
) -> None:
    assert levels(weights.weights(tmp_path / "backbones", published)) == {
        "weights llava": "ok",
        "weights convnext": "ok",
        "weights sam": "ok",
    }
    save_file({"weight": torch.zeros(2)}, tmp_path / "convnext" / "model.safetensors")
    changed = {finding.check: finding for finding in weights.weights(tmp_path / "backbones", published)}
    assert changed["weights convnext"].level == "error"
    assert "recorded" in changed["weights convnext"].found
    assert changed["weights llava"].level == "ok"


def test_public_weights_that_no_run_has_pinned_yet_are_no_fault(published: BackbonesConfig, tmp_path: Path) -> None:
    findings = weights.weights(tmp_path / "none", published)
    assert set(levels(findings).values()) == {"ok"}
    assert all("no hash recorded yet" in finding.found for finding in findings)


def test_weights_named_as_on_the_hub_are_looked_up_in_its_cache(tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads its environment once."""
    snapshot = tmp_path / "hub" / "models--some--llava" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    refs = tmp_path / "hub" / "models--some--llava" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    names = {"llava": "some/llava", "convnext": "some/convnext", "sam": "no.pth"}
    script = (
        "from miras.doctor import as_json, weights; from miras.model.config import Public; "
        f"config = Public.model_validate_json({public(**names).public.model_dump_json()!r}); "
        "print(as_json(weights.public_weights(config, {})))"
    )
    found = {}
    for offline in ("0", "1"):
        environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline, "PYTHONPATH": str(ROOT), "PATH": ""}
        ended = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        found[offline] = {finding["check"]: finding for finding in json.loads(ended.stdout)}
    assert found["0"]["weights llava"]["found"].startswith("hub some/llava, in the cache")
    assert {check: finding["level"] for check, finding in found["0"].items()} == {
        "weights llava": "ok",
        "weights convnext": "warning",
        "weights sam": "error",
    }
    assert found["1"]["weights convnext"]["level"] == "error"


def test_an_interrupted_download_is_seen(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-00001.safetensors", "b": "model-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-00001.safetensors").write_bytes(b"")
    finding = weights.identity("weights llava", tmp_path, recorded=None, where="local", remedy="")
    assert (finding.level, finding.found) == ("error", "local: 1 file missing, first model-00002.safetensors")


def test_tools_that_are_missing_or_broken_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(examination.tools())["git"] == "ok"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho slurm 22.05.8\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.check: finding for finding in examination.tools()}
    assert (found["git"].level, found["slurm"].found) == ("error", "slurm 22.05.8")
    assert examination.bitsandbytes("0.49").level == "warning"  # not installed here: the import fails


def test_wrong_parameters_are_a_finding_and_the_rest_is_still_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        examination, "deepspeed", lambda is_used: Finding("deepspeed import", "ok", "")
    )  # takes seconds
    values = YAML(typ="safe").load((ROOT / "presets" / "tiny.yaml").read_text())
    del values["paths"]["report"]
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(values, file)
    findings = doctor.examine(
        params=tmp_path / "params.yaml",
        launch=str(ROOT / "infra/launch/local.yaml"),
        constraints=ROOT / "constraints.txt",
    )
    (wrong,) = (finding for finding in findings if finding.level == "error")
    assert (wrong.check, "paths.report: this key is missing" in wrong.found) == ("params", True)
    assert "git" in levels(findings)


def test_one_of_a_thing_is_told_in_the_singular() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(number, "process") for number in (1, 2)] == ["1 process", "2 processes"]


def test_the_text_is_aligned_and_counted() -> None:
    findings = [Finding("git", "ok", "2.39"), Finding("disk work/", "error", "0.1 GiB free\nsecond line", "Free some.")]
    assert doctor.as_text(findings).splitlines() == [
        "git         ok       2.39",
        "disk work/  error    0.1 GiB free",
        "                     second line",
        "                     -> Free some.",
        "",
        "1 ok, 0 warnings, 1 error",
    ]
