"""Names of models on a command line: told apart before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from miras.errors import ConfigError
from miras.evaluate.asked_model import check_model


def test_every_form_of_a_model_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exported").mkdir()
    Path("gpt 4.yaml").touch()
    for model in ("stage1", "stage2", "exported", "models:/miras@champion", "models:/miras/3", "served:gpt 4.yaml"):
        check_model(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("stage3", r"model 'stage3': no such directory\. Give stage1, stage2, a directory that `miras export` wrote"),
        ("", "no such directory"),
        ("models:/miras", "no address of a model"),
        ("served:gpt.yaml", r"gpt\.yaml: no such file\. Give a YAML file with `box`"),
        ("served:", "no such file"),
    ],
)
def test_what_is_no_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        check_model(model)
