"""The stage `card` as a whole."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from miras.annotate.config import AnnotateConfig
from miras.card.config import CardConfig
from miras.card.gallery import draw_examples
from miras.card.page import size_category
from miras.card.section import data_set_section
from miras.card.stage import run
from miras.config import parse_sections, read_yaml
from miras.dialogue.records import SPLITS, Dialogue, Turn
from miras.errors import DataError
from miras.generate.config import GenerateConfig
from miras.paths import Paths
from miras.quality.config import CheckConfig, SplitConfig
from tests.unit.card.conftest import dialogues_of, store_dialogues

ROOT = Path(__file__).parents[3]
SECTIONS = {"generate": GenerateConfig, "annotate": AnnotateConfig, "check": CheckConfig, "split": SplitConfig}
CARD = CardConfig(
    name="mugs | lamps", licence="cc-by-4.0", languages=["en"], num_examples=4, num_cloud_words=20, seed=1
)


def made(paths: Paths, work: Path, card: CardConfig = CARD) -> Path:
    stated = read_yaml(ROOT / "params.yaml")
    sections: dict[str, Any] = parse_sections({name: stated[name] for name in SECTIONS}, SECTIONS, source="params.yaml")
    run(paths=paths, work=work, card=card, **sections)
    return Path(paths.card)


def store_alone(paths: Paths, dialogue: Dialogue) -> None:
    """A data set of one dialogue."""
    for split in SPLITS:
        store_dialogues(paths, split, [dialogue] if split == "train" else [])


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            assert dict(attrs)["alt"]


def test_the_card_can_be_read_by_people_and_by_the_hub(paths: Paths, tmp_path: Path) -> None:
    folder = made(paths, tmp_path / "work")
    text = (folder / "README.md").read_text("utf-8")
    _, matter, body = text.split("---\n", 2)
    values = YAML(typ="safe").load(StringIO(matter))
    assert values["license"] == "cc-by-4.0"
    assert values["size_categories"] == ["n<1K"]
    assert values["task_categories"] == ["image-segmentation", "visual-question-answering", "image-to-text"]
    assert "state no licence for 2 of 3 pictures" in body
    assert "A target has a mask. | 2" in body
    assert "| Every picture has a licence." not in body
    assert "not met:\n\n- Every picture has a licence." in body
    assert "mugs \\| lamps" in body
    tables = re.findall(r"(?:^\|.*\|\n)+", body, re.MULTILINE)
    for table in tables:
        columns = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table
    assert not re.search(r"\n{4,}", body)


def test_every_figure_of_the_card_is_there_and_told_in_words(paths: Paths, tmp_path: Path) -> None:
    folder = made(paths, tmp_path)
    text = (folder / "README.md").read_text("utf-8")
    shown = dict(re.findall(r"!\[([^]]+)]\((figures/[^)]+)\)", text))
    assert {Path(file).name for file in shown.values()} == {file.name for file in (folder / "figures").iterdir()}
    assert set(shown.values()) == {
        f"figures/{name}.png" for name in ("focus", "words", "lengths", "mask_sizes", "sources")
    }
    for alt, file in shown.items():
        assert any(sign.isdigit() for sign in alt)
        with Image.open(folder / file) as picture:
            picture.verify()


def test_the_gallery_opens_offline(paths: Paths, tmp_path: Path) -> None:
    page = (made(paths, tmp_path) / "gallery.html").read_text("utf-8")
    parser = _Addresses()
    parser.feed(page)
    assert len([address for address in parser.found if address.startswith("data:image/")]) >= 4
    assert page.count("<article") == 4
    assert all(address.startswith("data:") for address in parser.found)
    assert "http" not in page


def test_another_page_shows_the_first_examples_of_the_gallery(paths: Paths, tmp_path: Path) -> None:
    folder = made(paths, tmp_path)
    section = data_set_section(paths, num_examples=2)
    parser = _Addresses()
    parser.feed(section)
    assert section.startswith('<section class="data-set">')
    assert "16 dialogues (train 6 · val 5 · test 5) about 3 pictures, 31 turns, 9 different masks" in section
    assert section.count("<article") == 2
    gallery = (folder / "gallery.html").read_text("utf-8")
    assert all(address in gallery for address in parser.found)
    assert "<article" not in data_set_section(paths, num_examples=0)


def test_a_section_without_the_stage_card_names_what_is_missing(paths: Paths) -> None:
    with pytest.raises(DataError, match=r"examples\.jsonl: no such file; run the stage"):
        data_set_section(paths, num_examples=2)


def test_what_is_pointed_at_is_drawn_beside_the_question(paths: Paths, tmp_path: Path) -> None:
    hard = Turn(question="The other one?", answer="{target}.", targets=("a/mug",), points_at=("a/lamp",))
    store_alone(paths, Dialogue(dialogue_id="hard", image_id="a", kind="mrseg", focus="", turns=(hard,)))
    made(paths, tmp_path)
    page = data_set_section(paths, num_examples=100)
    assert 'class="asked" src="data:image/' in page
    assert "what is pointed at: lamp" in page


def test_a_text_with_markup_is_shown_as_text(paths: Paths, tmp_path: Path) -> None:
    turn = Turn(question="<script>alert(1)</script>?", answer="<b>{target}</b>.", targets=("a/mug",))
    store_alone(paths, Dialogue(dialogue_id="x", image_id="a", kind="referring", focus="", turns=(turn,)))
    made(paths, tmp_path)
    page = data_set_section(paths, num_examples=100)
    assert "<script" not in page
    assert "&lt;b&gt;<mark>red mug</mark>&lt;/b&gt;" in page


def test_the_same_data_gives_the_same_bytes(paths: Paths, tmp_path: Path) -> None:
    folder = made(paths, tmp_path / "1")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    made(paths, tmp_path / "2")
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_kinds_take_turns_among_the_examples(paths: Paths) -> None:
    examples = draw_examples(paths, count=4, seed=0)
    assert [item.dialogue.kind for item in examples] == ["prist", "mrseg", "referring", "prist"]
    assert draw_examples(paths, count=100, seed=0)[:4] == examples
    assert len(draw_examples(paths, count=100, seed=0)) == 12  # captions and texts have no mask
    assert draw_examples(paths, count=0, seed=0) == []


def test_a_data_set_of_texts_alone_has_a_card(paths: Paths, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        store_dialogues(paths, split, [item for item in dialogues_of("a") if item.kind == "caption"])
    folder = made(paths, tmp_path)
    assert {file.name for file in (folder / "figures").iterdir()} == {"lengths.png", "sources.png"}
    assert not (folder / "gallery.html").exists()
    assert "image-segmentation" not in (folder / "README.md").read_text("utf-8")


def test_a_vanished_picture_is_named_and_leaves_the_last_card(paths: Paths, tmp_path: Path) -> None:
    folder = made(paths, tmp_path)
    before = (folder / "statistics.json").read_bytes()
    for picture in paths.pictures.iterdir():
        picture.unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        made(paths, tmp_path)
    assert (folder / "statistics.json").read_bytes() == before


def test_numbers_in_the_card_are_those_of_the_statistics(paths: Paths, tmp_path: Path) -> None:
    folder = made(paths, tmp_path)
    values = json.loads((folder / "statistics.json").read_text())
    text = (folder / "README.md").read_text("utf-8")
    assert f"{values['dialogues']} dialogues about {values['pictures']} pictures" in text


@pytest.mark.parametrize(
    ("count", "name"), [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10**7, "10M<n<100M"), (10**9, "n>100M")]
)
def test_size_categories(count: int, name: str) -> None:
    assert size_category(count) == name
