"""What the data set is, for the report: counts per split, vocabulary, checks and quarantine."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from miras.dialogue.records import SPLITS, Dialogue, Picture, Region, Split
from miras.dialogue.rendering import plain_text, render_answer
from miras.errors import DataError
from miras.files import read_records
from miras.paths import Paths

RENDERED_ORIGIN = "scene seed"  # how miras.sources.scenes states the origin of a picture


def data_facts(paths: Paths) -> dict[str, Any]:
    """Counts of pictures, dialogues, turns and words; size classes; what the checks refused.

    Raises:
        DataError: a summary or a table is missing.
    """
    phrases = {region.region_id: region.phrase for region in read_records(paths.checked_regions, Region)}
    check, split = _read_json(paths.check_summary), _read_json(paths.split_summary)
    vocabulary: set[str] = set()
    rows = []
    for name in SPLITS:
        dialogues = list(read_records(paths.split_dialogues(name), Dialogue))
        words = _words(dialogues, phrases)
        vocabulary |= words.keys()
        rows.append(_split_row(name, dialogues, split[name], num_words=sum(words.values())))
    pictures = list(read_records(paths.picture_table, Picture))
    return {
        "num_pictures": len(pictures),
        "language_model": _language_model(Path(paths.generate)),
        "is_rendered": all(picture.origin.startswith(RENDERED_ORIGIN) for picture in pictures),
        "splits": rows,
        "vocabulary": len(vocabulary),
        "tables": check["tables"],
        "broken_rules": _broken_rules(check["rules"]),
        "sizes": split["train"]["size_classes"],
    }


def _split_row(name: Split, dialogues: list[Dialogue], summary: dict[str, Any], *, num_words: int) -> dict[str, Any]:
    prist = [len(dialogue.turns) for dialogue in dialogues if dialogue.kind == "prist"]
    return {
        "name": name,
        **{key: summary[key] for key in ("pictures", "dialogues", "turns", "kinds", "size_classes")},
        "mean_turns": round(sum(prist) / len(prist), 2) if prist else None,
        "words": num_words,
    }


def _words(dialogues: Iterable[Dialogue], phrases: dict[str, str]) -> Counter[str]:
    words: Counter[str] = Counter()
    for dialogue in dialogues:
        for turn in dialogue.turns:
            text = f"{turn.question} {plain_text(render_answer(turn, phrases))}"
            words.update(re.findall(r"[\w'-]+", text.lower()))
    return words


def _broken_rules(rules: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rules that refused records, the most frequent first."""
    broken = [
        {"suite": suite, "says": rule["says"], "failed": rule["failed"], "rows": rule["rows_checked"]}
        for suite, found in rules.items()
        for rule in found.values()
        if rule["failed"]
    ]
    return sorted(broken, key=lambda rule: -rule["failed"])


def _language_model(folder: Path) -> dict[str, Any] | None:
    """What a language model did for the dialogues, and what of it came to nothing; None: none was asked."""
    used = folder / "model.json"
    if not used.exists():
        return None
    counts = {
        name: _read_json(folder / f"{name}.json")
        for name in ("written", "polished")
        if (folder / f"{name}.json").exists()
    }
    return {**_read_json(used), **counts}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage that makes it (`dvc repro`).") from None
    return loaded
