"""Writes docs/tree.md from the first line of each file's docstring: `python docs/tree.py`."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tree.md"
HEAD = """\
# The tree: every file and what it is for

Written by `python docs/tree.py`, checked by a test. A reader of the code starts with `flows/train_miras.py`, then
`dvc.yaml`, then the stage in question.

"""
WIDTH = 100
PACKAGES = ("flows", "tasks", "miras", "benchmarks")
OTHERS = {
    "dvc.yaml": "the graph: every stage with its inputs, parameters and outputs",
    "params.yaml": "every setting that changes a result, one section per stage",
    "presets/": "whole parameter files; `make run PRESET=name`",
    "presets/network/": "networks that can be laid over them; `make run PRESET=name+network`",
    "infra/launch/": "where the heavy stages run, never what they make",
    "infra/prefect/": "automations: lost runs, messages about failures",
    "infra/slurm/": "a cluster of one node, notes for real ones",
    "infra/aws/": "policies, what is needed before the first job",
    "infra/shared/": "settings of the servers that a group shares, with infra/compose.yaml and infra/docker/",
    "annotation/": "hand-outs for people who draw, and what they hand in",
    "docs/": "evaluation, deployments, shared services, reliability",
    "prefect.yaml": "the five deployments",
    "constraints.txt": "the pinned versions",
    "Makefile": "the commands of the README",
    "tests/": "contracts, unit (mirrors miras/ and tasks/), flows; slow, browser and gpu apart",
}


def summary(file: Path) -> str:
    """First sentence of a module's docstring, without full stop, at most `WIDTH` characters."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    sentence = re.split(r"(?<=\.)\s(?=[A-Z])", " ".join(text.split("\n\n")[0].split()))[0].rstrip(".")
    return textwrap.shorten(sentence, WIDTH, placeholder=" …")


def page() -> str:
    """The whole page."""
    lines = []
    for package in PACKAGES:
        lines.append(f"{package}/")
        for file in sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.parent, path.name)):
            if file.name == "__init__.py" or "__pycache__" in file.parts:
                continue
            lines.append(f"  {file.relative_to(ROOT / package)!s:<32} {summary(file)}")
    lines += [f"{name:<34} {what}" for name, what in OTHERS.items()]
    return HEAD + "```\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    text = page()
    PAGE.write_text(text, "utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {text.count('.py ')} files\n")
