"""What the README says of the tree is true."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_readmes_tree_is_up_to_date() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme == runpy.run_path(str(ROOT / "docs" / "tree.py"))["with_tree"](readme), "run `python docs/tree.py`"


def test_every_picture_and_file_the_readme_links_to_exists() -> None:
    import re

    readme = (ROOT / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / target).exists(), target
