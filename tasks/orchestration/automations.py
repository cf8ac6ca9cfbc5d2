"""Prefect's automations of infra/prefect: made or brought up to date, never doubled.

    python -m tasks.orchestration.automations lost-runs
                                a run that fell silent is marked as crashed (in `make deploy`)
    MIRAS_NOTIFY_URL=https://... python -m tasks.orchestration.automations failure-notification
                                a failed or crashed run is told to that address

Needs a server: the one of `make deploy`, or PREFECT_API_URL.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.automations import AutomationCore
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from pydantic import SecretStr
from ruamel.yaml import YAML

from miras.errors import ConfigError, MirasError, ServiceUnavailableError

FOLDER = Path("infra") / "prefect"
URL_VARIABLE = "MIRAS_NOTIFY_URL"
"""The address has a secret in it (Slack's and Teams' do): from the environment it goes into a Prefect block."""
_BLOCK = "miras-notification"


def apply(name: str) -> str:
    """Makes an automation of infra/prefect/NAME.yaml, or brings the one that is there up to date; returns its name.

    Raises:
        ConfigError: there is no such file, or it sends messages and no address is given.
        ServiceUnavailableError: no Prefect server answers.
    """
    file = FOLDER / f"{name}.yaml"
    if not file.exists():
        known = ", ".join(sorted(found.stem for found in FOLDER.glob("*.yaml")))
        raise ConfigError(f"{file}: there is no such automation; known: {known or 'none'}")
    content = YAML(typ="safe").load(file)
    try:
        _fill_block(content)
        automation = AutomationCore.model_validate(content)
        with get_client(sync_client=True) as client:
            there = client.read_automations_by_name(automation.name)
            if not there:
                client.create_automation(automation)
            elif not _is_same(there[0], automation):
                client.update_automation(there[0].id, automation)
    except httpx.TransportError as error:
        raise ServiceUnavailableError(f"No Prefect server answers ({error}). Start it with `make deploy`.") from None
    return automation.name


def _is_same(there: AutomationCore, wanted: AutomationCore) -> bool:
    """An update would have the server forget which runs it watches; and who switched it off keeps it off."""
    names = set(AutomationCore.model_fields) - {"enabled"}
    return there.model_dump(include=names) == wanted.model_dump(include=names)


def _fill_block(content: dict[str, Any]) -> None:
    """Gives each action that calls a webhook the block with the address."""
    calls = [action for action in content["actions"] if action["type"] == "call-webhook"]
    if not calls:
        return
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise ConfigError(
            f"{URL_VARIABLE} is not set: the address that is told of a failed run, for example Slack's incoming "
            f"webhook. `{URL_VARIABLE}=https://... python -m tasks.orchestration.automations failure-notification`"
        )
    block_id = Webhook(url=SecretStr(url)).save(_BLOCK, overwrite=True)
    for action in calls:
        action["block_document_id"] = str(block_id)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the automation named; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.orchestration.automations", description=__doc__.splitlines()[0]
    )
    parser.add_argument("name", help="a file of infra/prefect, without its ending")
    name = parser.parse_args(arguments).name
    try:
        print(f"The automation {apply(name)!r} is there (on Prefect's page Automations).")
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
