"""Writes the README's tree from the first line of each file's docstring or comment: `python docs/tree.py`."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- tree: written by `python docs/tree.py`, checked by a test -->\n", "<!-- /tree -->"
WIDTH = 100
PACKAGES = ("flows", "tasks", "miras")
OTHERS = {
    "dvc.yaml": "the graph: every stage with its inputs, parameters and outputs",
    "params.yaml": "every setting that changes a result, one section per stage",
    "presets/": "whole parameter files; `make run PRESET=name`",
    "infra/launch/": "where the heavy stages run, never what they make",
    "infra/prefect/": "automations: lost runs, messages about failures",
    "infra/slurm/": "a cluster of one node, notes for real ones",
    "infra/aws/": "policies, what is needed before the first job",
    "infra/shared/": "settings of the servers that a group shares, with infra/compose.yaml and infra/docker/",
    "prefect.yaml": "the five deployments",
    "constraints.txt": "the pinned versions",
    "Makefile": "the commands of this page",
    "tests/": "contracts, unit (mirrors miras/ and tasks/), flows",
}


def summary(file: Path) -> str:
    """First sentence of a module's docstring, without full stop, at most `WIDTH` characters."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    sentence = re.split(r"(?<=\.)\s(?=[A-Z])", " ".join(text.split("\n\n")[0].split()))[0].rstrip(".")
    return textwrap.shorten(sentence, WIDTH, placeholder=" …")


def tree() -> str:
    """The fenced block."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        for file in sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.parent, path.name)):
            if file.name == "__init__.py" or "__pycache__" in file.parts:
                continue
            lines.append(f"  {file.relative_to(ROOT / package)!s:<32} {summary(file)}")
    lines += [f"{name:<34} {what}" for name, what in OTHERS.items()]
    return "```\n" + "\n".join(lines) + "\n```\n"


def with_tree(readme: str) -> str:
    """The README with its tree brought up to date."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return before + START + tree() + END + after


if __name__ == "__main__":
    path = ROOT / "README.md"
    updated = with_tree(path.read_text("utf-8"))
    path.write_text(updated, "utf-8")
    sys.stdout.write(f"{path.name}: tree of {updated.count('.py ')} files\n")
