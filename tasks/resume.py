"""Where a stage keeps what an interrupted run can go on from: `work/<stage>/<hash>/`.

The hash covers the stage's settings and everything it reads, so a changed input never resumes old state.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

_CHARACTERS = 16
STORE = "store"  # what a stage keeps whatever its settings and inputs; it looks after it itself (miras.model.features)


def work_folder(stage: str, sections: Mapping[str, BaseModel], hashes: Mapping[str, str]) -> Path:
    """The folder for this stage with these settings and inputs; made if it is new.

    Args:
        sections: the sections of params.yaml that the stage reads.
        hashes: what the stage reads, path -> content identity.
    """
    settings = {name: section.model_dump(mode="json") for name, section in sections.items()}
    content = json.dumps({"settings": settings, "inputs": dict(hashes)}, sort_keys=True)
    folder = Path("work") / stage / hashlib.sha256(content.encode()).hexdigest()[:_CHARACTERS]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove_older(work: Path) -> None:
    """Removes what other settings or inputs of the same stage left, but not what outlives them."""
    for sibling in work.parent.iterdir():
        if sibling.is_dir() and sibling != work and sibling.name != STORE:
            shutil.rmtree(sibling)
