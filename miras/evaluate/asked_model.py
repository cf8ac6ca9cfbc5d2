"""How a command names the model that it asks: a stage, a directory, a registered model, or one behind a server.

Light, so that a wrong name is told before anything heavy is imported.
"""

from __future__ import annotations

from pathlib import Path

from miras.errors import ConfigError
from miras.registry_address import PREFIX, parse

STAGES = ("stage1", "stage2")
SERVED = "served:"


def check_model(model: str) -> None:
    """Lets a model's name pass; neither its files nor the registry are opened.

    Args:
        model: `stage1`, `stage2`, a directory that `miras export` wrote, `models:/NAME@ALIAS`, `models:/NAME/VERSION`,
            or `served:FILE`.

    Raises:
        ConfigError: there is no such directory or file, or the address has another form.
    """
    if model.startswith(PREFIX):
        parse(model)
    elif model.startswith(SERVED):
        file = Path(model.removeprefix(SERVED))
        if not file.is_file():
            raise ConfigError(
                f"model {model!r}: {file}: no such file. Give a YAML file with `box`, as docs/evaluation.md shows it."
            )
    elif model not in STAGES and not (model and Path(model).is_dir()):
        raise ConfigError(
            f"model {model!r}: no such directory. Give stage1, stage2, a directory that `miras export` wrote, "
            f"models:/NAME@ALIAS, or {SERVED}FILE for a model behind a server."
        )
