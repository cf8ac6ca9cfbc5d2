"""What a result of the pipeline was made of, as `dvc.lock` records it.

The file is read as it stands; DVC is not imported. A record is only believed where the result on disk is the recorded
one and every stage on the way read what the stage before it wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from miras.config import read_yaml
from miras.dialogue.records import Frozen

LOCK = Path("dvc.lock")
DATA_STAGES = ("ingest", "check", "split")  # pictures, checked dialogues and masks, which of them are trained on

_Stages = Mapping[str, Mapping[str, Any]]


class Origins(Frozen):
    """What was read on the way to a result."""

    data: str
    """Version of the data set: SHA-256 over the hashes of pictures, checked dialogues and split; empty where the
    result was made without one of them."""
    inputs: dict[str, str]
    """Path -> DVC's content hash, of everything that any stage on the way read: code, pictures, earlier results."""


def recorded_origins(place: Path, lock: Path = LOCK) -> Origins | None:
    """The origins of a stage's output, a file or a folder; None where they are not known.

    They are not known where the lock file is missing or names no stage that writes `place`, where `place` has changed
    since, or where an earlier stage ran again without the later ones.

    Raises:
        ConfigError: the lock file is no YAML.
    """
    if not lock.exists() or not place.exists():
        return None
    stages: _Stages = read_yaml(lock).get("stages", {})
    written = {out["path"]: (name, out["md5"]) for name, stage in stages.items() for out in stage.get("outs", ())}
    try:
        path = place.resolve().relative_to(lock.parent.resolve()).as_posix()
    except ValueError:
        return None
    if path not in written or written[path][1] != dvc_hash(place):
        return None
    passed: dict[str, None] = {}
    inputs: dict[str, str] = {}
    for name in _stages_before(written[path][0], stages, written, passed):
        for read in stages[name].get("deps", ()):
            if read["path"] in written and written[read["path"]][1] != read["md5"]:
                return None
            inputs[read["path"]] = read["md5"]
    return Origins(data=_data_version(passed, stages), inputs=dict(sorted(inputs.items())))


def dvc_hash(place: Path) -> str:
    """MD5 of a file; of a folder, that of its listing with `.dir` behind, both as DVC 3 writes them into dvc.lock."""
    if place.is_file():
        return _md5(place)
    files = sorted((file.relative_to(place).as_posix(), file) for file in place.rglob("*") if file.is_file())
    listing = json.dumps([{"md5": _md5(file), "relpath": path} for path, file in files], sort_keys=True)
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _stages_before(
    name: str, stages: _Stages, written: Mapping[str, tuple[str, str]], passed: dict[str, None]
) -> Iterator[str]:
    """`name` and every stage it reads from, each once; `passed` collects them."""
    if name in passed:
        return
    passed[name] = None
    yield name
    for read in stages[name].get("deps", ()):
        if read["path"] in written:
            yield from _stages_before(written[read["path"]][0], stages, written, passed)


def _data_version(passed: Mapping[str, None], stages: _Stages) -> str:
    if any(name not in passed for name in DATA_STAGES):
        return ""
    read = {dep["path"] for name in passed for dep in stages[name].get("deps", ())}
    outs = [(out["path"], out["md5"]) for name in DATA_STAGES for out in stages[name]["outs"]]
    data = sorted(out for out in outs if out[0] in read)  # leaves out pages for people, and the ledger of the splits
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()
