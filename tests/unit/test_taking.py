"""Masks and dialogues on disk are what the model said; the shell command from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from miras import cli
from miras.errors import ConfigError
from miras.model.weights import Backbones
from miras.predict import references
from miras.pretrained import Miras
from miras.taking import drawn, write_dialogue
from tests.unit.model.tiny_network import tiny_mini, write_backbones
from tests.unit.test_export import QUESTIONS, export, picture, settings, train


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not trained, but it marks something in nearly every answer."""
    folder = tmp_path_factory.mktemp("model")
    backbones: Backbones = write_backbones(tmp_path_factory.mktemp("backbones"), tiny_mini())
    train(backbones, folder / "stage2", max_tokens=4096, **settings("miras-memory"))
    return export(weights=folder / "stage2", backbones=backbones.folder, out=folder / "exported").folder


def test_files_hold_the_masks_pixel_by_pixel(exported: Path, tmp_path: Path) -> None:
    talk = Miras.from_pretrained(exported).dialogue(picture())
    talk.ask(QUESTIONS[0])
    talk.refer(0).ask(QUESTIONS[1])
    written = write_dialogue(talk, tmp_path / "out", file_name="street.png")
    assert all(path.is_file() for path in written)
    targets = [target for answer in talk.answers for target in answer.targets]
    assert targets
    coco = COCO(tmp_path / "out" / "coco.json")
    for target, annotation in zip(targets, coco.loadAnns(coco.getAnnIds()), strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), target.mask)
        assert coco.loadCats(annotation["category_id"])[0]["name"] == target.phrase
    for turn, answer in enumerate(talk.answers, 1):
        for number, target in enumerate(answer.targets, 1):
            stored = np.asarray(Image.open(tmp_path / "out" / f"turn{turn}-mask{number}.png"))
            np.testing.assert_array_equal(stored == 255, target.mask)
    told = json.loads((tmp_path / "out" / "dialogue.json").read_text())
    assert [turn["answer"] for turn in told] == [answer.text for answer in talk.answers]


def test_only_pixels_of_the_mask_are_coloured() -> None:
    mask = np.zeros((30, 50), bool)
    mask[5:9, 5:9] = True
    before, after = np.asarray(picture()), np.asarray(drawn(picture(), [mask]))
    assert (before[~mask] == after[~mask]).all()
    assert (before[mask] != after[mask]).any()


def test_the_shell_command_writes_a_dialogue_and_never_over_another(exported: Path, tmp_path: Path) -> None:
    picture().save(tmp_path / "a street.png")
    command = ["predict", str(tmp_path / "a street.png"), *QUESTIONS, "--model", str(exported)]
    done = CliRunner().invoke(cli.app, [*command, "--out", str(tmp_path / "out"), "--refer", "1:0"])
    assert done.exit_code == 0, done.output
    assert f"> {QUESTIONS[1]}" in done.output
    assert (tmp_path / "out" / "dialogue.json").exists()
    again = CliRunner().invoke(cli.app, [*command, "--out", str(tmp_path / "out")])
    assert isinstance(again.exception, ConfigError)
    assert "not an empty folder" in str(again.exception)


def test_references_that_do_not_fit_are_named() -> None:
    assert references(["2:0", "2:1"], count=3) == {2: [0, 1]}
    for text, message in (("x", "write QUESTION:EARLIER"), ("0:0", "earlier ones only"), ("3:0", "question 3 of 3")):
        with pytest.raises(ConfigError, match=message):
            references([text], count=3)
