"""What the stage `register` writes down about a version: its `Lineage`, made from the files in the workspace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from miras.config import read_yaml
from miras.dialogue.records import Picture
from miras.errors import DataError
from miras.files import read_records
from miras.origins import LOCK, Origins, recorded_origins
from miras.paths import Paths
from tasks import preset
from tasks.params import PARAMS, flatten
from tasks.registry.lineage import BenchmarkData, Lineage, Score, Settings


def lineage_of(paths: Paths, *, model_hash: str) -> Lineage:
    """The lineage of the trained model in this workspace.

    Args:
        paths: where the stages' results lie.
        model_hash: of the model that is registered.

    Raises:
        DataError: dvc.lock does not record the weights and scores as they are here, or scores or questions are missing.
    """
    from miras.model.responder import WEIGHTS  # these two import torch, nltk
    from miras.pretrained import file_sha256
    from tasks.tracking.record import git_tags
    from tasks.tracking.results import headline

    weights, scores = _origins(Path(paths.stage2)), _origins(paths.scores)
    git = git_tags()
    return Lineage(
        commit=git.get("git.commit", ""),
        is_dirty=git.get("git.dirty") == "true",
        data=weights.data,
        inputs=dict(sorted({**weights.inputs, **scores.inputs}.items())),
        params=settings(PARAMS),
        checkpoint_sha256=file_sha256(Path(paths.stage2) / WEIGHTS),
        model_hash=model_hash,
        test_data=measured_on(paths.questions, paths.picture_table),
        scores=_scores(headline(paths)),
    )


def _origins(place: Path) -> Origins:
    found = recorded_origins(place)
    if found is None:
        raise DataError(
            f"{place}: {LOCK} does not record it as it is here, or records stages that ran without the later ones, so "
            "nobody could say what it was made of. Run `dvc repro register`, which brings them in step."
        )
    return found


def measured_on(questions: Path, picture_table: Path) -> dict[str, BenchmarkData]:
    """Benchmark -> identity of what it asked: every question with its truth in order, and every picture's bytes.

    Raises:
        DataError: a file is missing, or a question's picture is not in the table.
    """
    digests: dict[str, Any] = {}
    counts: dict[str, int] = {}
    shown: dict[str, dict[str, None]] = {}
    for line in _lines(questions):
        question = json.loads(line)
        benchmark = question["benchmark"]
        digests.setdefault(benchmark, hashlib.sha256()).update(line.rstrip(b"\n") + b"\n")
        counts[benchmark] = counts.get(benchmark, 0) + 1
        if question["image_id"]:
            shown.setdefault(benchmark, {})[question["image_id"]] = None
    wanted = {image_id for images in shown.values() for image_id in images}
    hashes = {
        picture.image_id: picture.sha256
        for picture in read_records(picture_table, Picture)
        if picture.image_id in wanted
    }
    if missing := sorted(wanted - hashes.keys()):
        raise DataError(
            f"{questions}: asks about {len(missing)} pictures that are not in {picture_table}, such as {missing[0]!r}. "
            "Run `dvc repro evaluate`."
        )
    for benchmark, images in shown.items():
        digests[benchmark].update("\n".join(hashes[image_id] for image_id in images).encode())
    return {name: BenchmarkData(sha256=digests[name].hexdigest(), questions=counts[name]) for name in digests}


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            yield from lines
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; run the stage that makes it (`dvc repro evaluate`).") from None


def _scores(headlines: Mapping[str, float]) -> dict[str, Score]:
    from miras.evaluate.tables import HEADLINES

    return {name: Score(value=value, benchmark=HEADLINES[name][1]["benchmark"]) for name, value in headlines.items()}


def settings(file: Path) -> Settings:
    """Which preset a parameter file comes from, and what differs."""
    flat = flatten(read_yaml(file))
    networks = {path.stem: flatten(read_yaml(path)) for path in sorted(preset.NETWORKS.glob("*.yaml"))}
    candidates: dict[str, dict[str, Any]] = {}
    for path in sorted(preset.PRESETS.glob("*.yaml")):
        base = flatten(read_yaml(path))
        candidates[path.stem] = base
        candidates |= {f"{path.stem}+{name}": base | changes for name, changes in networks.items()}
    differences = {name: _differences(base, flat) for name, base in candidates.items()}
    nearest = min(differences, key=lambda name: (len(differences[name]), len(name)), default="")
    network = next((name for name, changes in networks.items() if _has_network(flat, changes)), "")
    return Settings(
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        preset=nearest,
        changes=differences.get(nearest, {}),
        network=network,
    )


def _has_network(values: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    return all(values.get(key) == value for key, value in changes.items() if key.startswith("network."))


def _differences(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = dict.fromkeys([*base, *values])
    return {key: (base.get(key), values.get(key)) for key in keys if base.get(key) != values.get(key)}
