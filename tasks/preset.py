"""`make run PRESET=NAME`: presets/NAME.yaml becomes params.yaml, unless that would lose your changes.

`PRESET=tiny+segllm` lays a network, presets/network/segllm.yaml, over a preset: its settings replace those of the same
name, all others stay.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import product
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from miras import config
from miras.errors import ConfigError, MirasError
from miras.files import finished_file, write_json
from tasks import params

PRESETS = config.PRESETS
NETWORKS = PRESETS / "network"
KEEP = str(params.PARAMS)
"""In the place of a preset's name: no preset, the settings of the workspace."""
APPLIED = Path("work") / "applied_preset.json"
"""What a preset was made into here last: the same call makes it again, so it is nobody's own change."""


def apply(name: str, source: str = "") -> None:
    """Makes the preset the current params.yaml.

    Args:
        name: NAME or NAME+NETWORK; `KEEP` leaves params.yaml as it is.
        source: folder with pictures and annotations, read in the place of the one that the preset names; empty: none.

    Raises:
        ConfigError: there is no such preset or folder, the preset has mistakes or reads no folder, or params.yaml
            holds changes of the user's own.
    """
    text = check(name, source)
    if text is None:
        return
    with finished_file(params.PARAMS) as aside:
        aside.write_bytes(text)
        write_json(APPLIED, {"preset": name, "source": source, "sha256": hashlib.sha256(text).hexdigest()})


def check(name: str, source: str = "") -> bytes | None:
    """The text that `apply` would write, None for `KEEP`; writes nothing. Arguments and errors are those of `apply`."""
    if name == KEEP and source:
        raise ConfigError(
            f"source: {source!r} takes the place of a preset's folder, and no preset is named. Choose one (coco, "
            f"labelme), or put the folder into {params.PARAMS} yourself (ingest.sources, ingest.watched)."
        )
    if name == KEEP:
        return None
    text = compose(name)
    if source:
        text = _reading(text, source, preset=name)
    if params.PARAMS.exists() and _has_own_changes():
        raise ConfigError(
            f"{params.PARAMS} has changes of yours, neither committed nor a preset; they would be lost.\n"
            f"Keep them with `cp {params.PARAMS} {PRESETS}/mine.yaml` (then PRESET=mine brings them back) "
            f"or `git commit {params.PARAMS}`; drop them with `git checkout {params.PARAMS}`."
        )
    named = f"preset {name}"
    params.parse(config.parse_yaml(text, source=named), source=named)
    return text


def compose(name: str) -> bytes:
    """The text of a preset, `NAME` or `NAME+NETWORK`.

    Raises:
        ConfigError: there is no such preset or network; the message names the nearest.
    """
    size, plus, network = name.partition("+")
    preset = find(size, PRESETS)
    return _overlaid(preset, find(network, NETWORKS, what="network")) if plus else preset.read_bytes()


def find(name: str, folder: Path, *, what: str = "preset") -> Path:
    """The file of a preset, or of a network (`what`).

    Raises:
        ConfigError: there is no such file; the message names the nearest.
    """
    known = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if name not in known:
        nearest = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known) or 'none'}."
        raise ConfigError(f"{folder}/{name}.yaml: there is no {what} {name!r}; {hint}")
    return known[name]


def _overlaid(preset: Path, network: Path) -> bytes:
    """The preset with the network's settings in their places; comments stay."""
    yaml = _round_trip()
    settings = yaml.load(preset)
    _lay_over(settings, YAML(typ="safe").load(network))
    return _text(yaml, settings)


def _reading(text: bytes, source: str, *, preset: str) -> bytes:
    """The parameters with `source` wherever a source reads below `ingest.watched`; comments stay."""
    if not Path(source).exists():
        raise ConfigError(f"source: {source!r} is not there. Name the folder that holds your pictures and annotations.")
    yaml = _round_trip()
    settings = yaml.load(text)
    ingest = settings["ingest"]
    watched = str(ingest["watched"]).rstrip("/")
    read_there = [
        (reader, key)
        for reader in ingest["sources"].values()
        for key, value in reader.items()
        if isinstance(value, str) and (value == watched or value.startswith(f"{watched}/"))
    ]
    if not read_there:
        raise ConfigError(
            f"source: the preset {preset} reads no folder of yours, it renders its pictures. "
            "Leave source empty, or choose a preset that reads a folder (coco, labelme, small, paper)."
        )
    for reader, key in read_there:
        reader[key] = source.rstrip("/") + reader[key][len(watched) :]
    ingest["watched"] = source
    return _text(yaml, settings)


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000  # long lines stay long
    return yaml


def _text(yaml: YAML, settings: Any) -> bytes:
    text = io.BytesIO()
    yaml.dump(settings, text)
    return text.getvalue()


def _lay_over(settings: MutableMapping[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _lay_over(settings[key], value)
        else:
            settings[key] = value


def _has_own_changes() -> bool:
    current = params.PARAMS.read_bytes()
    return (
        current != _committed()
        and hashlib.sha256(current).hexdigest() != _applied()
        and all(current != text for text in _known_texts())
    )


def _applied() -> str | None:
    try:
        return str(json.loads(APPLIED.read_text(encoding="utf-8"))["sha256"])
    except FileNotFoundError:
        return None


def _known_texts() -> Iterator[bytes]:
    presets = sorted(PRESETS.glob("*.yaml"))
    yield from (file.read_bytes() for file in presets)
    yield from (_overlaid(preset, network) for preset, network in product(presets, sorted(NETWORKS.glob("*.yaml"))))


def _committed() -> bytes | None:
    try:
        done = subprocess.run(["git", "show", f"HEAD:./{params.PARAMS}"], capture_output=True, check=False)
    except FileNotFoundError:  # no git: nothing is committed
        return None
    return done.stdout if done.returncode == 0 else None


def main() -> int:
    """Applies the preset named on the command line."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sizes, networks = (", ".join(sorted(f.stem for f in place.glob("*.yaml"))) for place in (PRESETS, NETWORKS))
        print(f"usage: python -m tasks.preset NAME[+NETWORK]    ({sizes}; {networks})", file=sys.stderr)
        return 2
    try:
        apply(sys.argv[1])
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{params.PARAMS} is now the preset {sys.argv[1]}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
