"""`miras rollback`: the champion before this one takes its place again; once more: the one before that."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from miras.errors import MirasError
from tasks import environment, params


def main(arguments: Sequence[str] | None = None) -> int:
    """Moves the alias back; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.registry.rollback", description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name in the registry (default: that of params.yaml)")
    parser.add_argument("--reason", default="rolled back by hand", help="why; it is recorded")
    options = parser.parse_args(arguments)
    environment.prepare()
    try:
        settings = params.load()
        from tasks.registry.promotion import roll_back  # these import MLflow, a second
        from tasks.tracking.shipping import service_errors

        model = options.model or settings["register"].model_name
        alias = settings["promote"].alias
        with service_errors():
            move = roll_back(model=model, alias=alias, reason=options.reason)
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"models:/{model}@{alias} is version {move.to_version} again (was {move.from_version}).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
