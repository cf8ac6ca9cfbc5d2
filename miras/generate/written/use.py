"""What the stage says of its language model: `model.json`, and what is kept when an error stops it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from miras.errors import DiskFullError, MirasError
from miras.files import count_lines, finished_folder, write_json
from miras.llm.records import Counts

MODEL_FILE = "model.json"
_TEMPLATES = ("miras.generate.written", "miras.generate")  # packages with a folder `prompts`
_TOLD = {
    "unanswered.jsonl": "requests without a usable answer",
    "silent.jsonl": "silent pictures",
    "unpolished.jsonl": "turns that keep their words",
}


class ModelUse(Counts):
    """Which model was asked, with which prompts, and what came of it: the content of `model.json`."""

    model: str
    """As the server knows it."""
    prompts_sha256: str
    """Of all templates of prompts."""


def model_use(model: str, counts: Counts) -> ModelUse:
    """The record of a run.

    Args:
        model: its name.
        counts: of the model since it was opened.
    """
    return ModelUse(model=model, prompts_sha256=prompts_sha256(), **counts.model_dump())


def prompts_sha256() -> str:
    """Hash of all templates, names included; another one means that the model was asked something else."""
    digest = hashlib.sha256()
    for package in _TEMPLATES:
        for template in sorted((files(package) / "prompts").iterdir(), key=lambda entry: entry.name):
            if template.name.endswith(".j2"):
                digest.update(f"{package}/{template.name}\n".encode() + template.read_bytes())
    return digest.hexdigest()


@contextmanager
def kept_when_stopped(folder: Path, into: Path, use: Callable[[], ModelUse]) -> Iterator[None]:
    """When an error with a message ends the block, keeps what was refused until then; the message says where.

    Args:
        folder: being filled, and lost with the error.
        into: folder for the tables of what came to nothing and for `model.json`; removed when the block ends well.
        use: of the model so far.
    """
    try:
        yield
    except DiskFullError:
        raise
    except MirasError as error:
        with finished_folder(into) as kept:
            found = [f"{_copied(folder / name, kept)} {what}" for name, what in _TOLD.items()]
            write_json(kept / MODEL_FILE, use().model_dump())
        error.args = (f"{error} What came to nothing until then is in {into}: {', '.join(found)}.",)
        raise
    shutil.rmtree(into, ignore_errors=True)


def _copied(table: Path, into: Path) -> int:
    """Records of the table, which may not be there."""
    if not table.exists():
        return 0
    shutil.copy(table, into)
    return count_lines(table)
