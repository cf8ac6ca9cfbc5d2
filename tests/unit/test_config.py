"""Parameter files: every mistake at once, each with the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from miras.config import Section, parse_sections, read_yaml
from miras.errors import ConfigError


class Inner(Section):
    width: int


class Training(Section):
    learning_rate: float
    steps: int = Field(ge=1)
    inner: Inner | None


SECTIONS = {"stage1": Training}
GOOD = {"stage1": {"learning_rate": 1e-4, "steps": 2, "inner": {"width": 3}}}


def test_a_good_file_is_read_and_frozen() -> None:
    section = parse_sections(GOOD, SECTIONS, source="params.yaml")["stage1"]
    assert section.inner.width == 3
    with pytest.raises(ValueError, match="frozen"):
        section.steps = 3


def test_all_mistakes_are_named_at_once() -> None:
    bad = {"stage1": {"learning_rte": 1e-4, "steps": 0, "inner": {"widht": 3}}, "stage9": {}}
    with pytest.raises(ConfigError) as caught:
        parse_sections(bad, SECTIONS, source="params.yaml")
    message = str(caught.value)
    for part in (
        "params.yaml: stage9: unknown section; did you mean stage1?",
        "stage1.learning_rte: unknown key; did you mean learning_rate?",
        "stage1.learning_rate: this key is missing",
        "stage1.steps: Input should be greater than or equal to 1 (found 0)",
        "stage1.inner.widht: unknown key; did you mean width?",
        "stage1.inner.width: this key is missing",
    ):
        assert part in message


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ConfigError, match="stage1: this section is missing"):
        parse_sections({}, SECTIONS, source="params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: 1e-4\nb: on\n")
    assert read_yaml(path) == {"a": 1e-4, "b": "on"}


@pytest.mark.parametrize("content", ["a: [1", "- a list", "a: 1\na: 2", b"\xff\xfe\x00"])
def test_a_broken_file_is_one_message(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        read_yaml(path)


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", r"^tiny: no such file; did you mean presets/tiny\.yaml\? Run from"),
        ("presets/smol.yaml", r"did you mean presets/small\.yaml\?"),
        ("infra/serv.yaml", r"did you mean infra/serve\.yaml\?"),
        ("tiny+segllm", r"`python -m tasks\.preset tiny\+segllm` makes both into params\.yaml\.$"),
        ("presets", r"^presets: cannot be read \(Is a directory\)"),
    ],
)
def test_a_missing_file_is_told_with_what_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("presets/tiny.yaml", "presets/small.yaml", "infra/serve.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(ConfigError, match=message):
        read_yaml(Path(name))
