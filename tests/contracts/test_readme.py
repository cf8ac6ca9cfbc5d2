"""What the documents say of the tree is true."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from miras.config import parse_yaml, read_yaml
from tasks import params

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_tree_is_up_to_date() -> None:
    tree = runpy.run_path(str(ROOT / "docs" / "tree.py"))
    assert tree["PAGE"].read_text("utf-8") == tree["page"](), "run `python docs/tree.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_and_file_that_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_place_on_the_readmes_map_exists() -> None:
    part = README.partition("## Where things are\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    places = [place for row in rows for place in re.findall(r"`([^`]+)`", row)]
    assert len(places) > 9
    assert all((ROOT / place).exists() for place in places), places


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL))
def test_settings_shown_in_the_readme_are_taken_as_written(text: str) -> None:
    values = read_yaml(ROOT / "presets" / "tiny.yaml")
    for section, shown in parse_yaml(text.encode(), source="README.md").items():
        values[section] |= shown
    params.parse(values, source="README.md")
