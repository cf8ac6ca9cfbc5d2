"""`make run PRESET=NAME`: presets/NAME.yaml becomes params.yaml, unless that would lose your changes."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

from miras.errors import ConfigError, MirasError
from miras.files import finished_file
from tasks import params

PRESETS = Path("presets")


def apply(name: str) -> None:
    """Makes the preset the current params.yaml.

    Raises:
        ConfigError: there is no such preset, it has mistakes, or params.yaml holds changes of the user's own.
    """
    preset = find(name)
    params.load(preset)
    if params.PARAMS.exists() and _has_own_changes():
        raise ConfigError(
            f"{params.PARAMS} has changes of yours, neither committed nor a preset; they would be lost.\n"
            f"Keep them with `cp {params.PARAMS} {PRESETS}/mine.yaml` (then PRESET=mine brings them back) "
            f"or `git commit {params.PARAMS}`; drop them with `git checkout {params.PARAMS}`."
        )
    with finished_file(params.PARAMS) as aside:
        aside.write_bytes(preset.read_bytes())


def find(name: str) -> Path:
    """The file of a preset.

    Raises:
        ConfigError: there is no such preset; the message names the nearest.
    """
    known = {file.stem: file for file in sorted(PRESETS.glob("*.yaml"))}
    if name not in known:
        nearest = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known) or 'none'}"
        raise ConfigError(f"{PRESETS}/{name}.yaml: there is no preset {name!r}; {hint}")
    return known[name]


def _has_own_changes() -> bool:
    current = params.PARAMS.read_bytes()
    if any(current == file.read_bytes() for file in PRESETS.glob("*.yaml")):
        return False
    return current != _committed()


def _committed() -> bytes | None:
    try:
        done = subprocess.run(["git", "show", f"HEAD:./{params.PARAMS}"], capture_output=True, check=False)
    except FileNotFoundError:  # no git: nothing is committed
        return None
    return done.stdout if done.returncode == 0 else None


def main() -> int:
    """Applies the preset named on the command line."""
    if len(sys.argv) != 2:
        names = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        print(f"usage: python -m tasks.preset NAME    (one of: {names})", file=sys.stderr)
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
