"""dvc.yaml, the stage table, the sections of params.yaml and the code speak of the same pipeline."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from miras.config import read_yaml
from miras.stages import STAGES
from tasks import graph, params, preset
from tasks.tracking.results import RESULTS

ROOT = Path(__file__).parents[2]
PARAMETER_FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
COMPOSITIONS = [
    f"{size.stem}+{network.stem}"
    for size in sorted((ROOT / "presets").glob("*.yaml"))
    for network in sorted((ROOT / "presets" / "network").glob("*.yaml"))
]


@pytest.fixture(scope="module")
def stated() -> dict[str, Any]:
    """The stages of dvc.yaml."""
    return dict(read_yaml(ROOT / "dvc.yaml")["stages"])


def test_every_stage_is_bound_to_code_and_recorded(stated: dict[str, Any]) -> None:
    assert list(stated) == list(STAGES) == list(RESULTS)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_the_one_form_of_command(name: str, stated: dict[str, Any]) -> None:
    assert stated[name]["cmd"] == f"python -m tasks.run {name}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_just_the_sections_that_dvc_watches(name: str, stated: dict[str, Any]) -> None:
    assert tuple(stated[name]["params"]) == STAGES[name].sections


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_function_takes_its_sections_by_name(name: str) -> None:
    stage = STAGES[name]
    parameters = inspect.signature(params.load_object(stage.function)).parameters
    assert set(parameters) == {"paths", "work", *stage.sections}
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())


@pytest.mark.parametrize("name", STAGES)
def test_changing_the_code_of_a_stage_runs_it_again(name: str, stated: dict[str, Any]) -> None:
    module = importlib.import_module(STAGES[name].function.split(":")[0])
    file = Path(inspect.getfile(module)).relative_to(ROOT)
    watched = {Path(dependency) for dependency in stated[name]["deps"]}
    assert file in watched or watched & set(file.parents)


def test_stages_come_after_what_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    seen: set[str] = set()
    for node in graph.stages_until():
        assert set(node.parents) <= seen
        seen.add(node.name)
    assert seen == set(STAGES)


@pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.stem)
def test_a_parameter_file_has_no_mistakes(file: Path) -> None:
    assert set(params.load(file)) == set(params.SECTIONS)


@pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.stem)
def test_every_preset_keeps_results_in_the_same_places(file: Path) -> None:
    assert read_yaml(file)["paths"] == read_yaml(ROOT / "params.yaml")["paths"]


def test_stages_start_without_heavy_packages() -> None:
    heavy = {"torch", "transformers", "mlflow", "prefect", "great_expectations", "matplotlib"}
    code = (
        f"import sys, tasks.run; from tasks import params; params.load();print(*sorted({heavy!r} & set(sys.modules)))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert loaded.split() == []


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_every_network_can_be_laid_over_every_preset(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "params.yaml").write_bytes(preset.compose(name))
    network = params.load(tmp_path / "params.yaml")["network"]
    size, _, kind = name.partition("+")
    assert (network.mask_memory != "off") == network.reference_loss == (kind in ("segllm", "miras-memory"))
    assert network.dual_encoder == (kind in ("miras", "miras-memory"))
    assert network.language_training == params.load(ROOT / "presets" / f"{size}.yaml")["network"].language_training
