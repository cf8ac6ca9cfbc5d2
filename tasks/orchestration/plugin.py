"""Prefect startup plugin: `prefect deployment run train-miras` finds the deployment by its name alone.

Prefect has no setting for it and wants FLOW/DEPLOYMENT. The hook runs before the command reads its arguments, and
completes a name that only one deployment has. prefect.toml switches plugins on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from prefect.plugins import HookContext, register_hook

from tasks.workspace_name import workspace_name

PREFECT_PLUGIN_API_REQUIRES = ">=0.1,<1"

_PROGRAMS = ("prefect", "__main__.py")
_NOUNS = ("deployment", "deployments")
_VERBS = ("run", "inspect", "delete")


def short_name_position(arguments: Sequence[str]) -> int | None:
    """Where the command line holds a deployment's name without its flow; None for every other command.

    Only a name right behind the verb counts: later words may be values of options.
    """
    if not arguments or os.path.basename(arguments[0]) not in _PROGRAMS:
        return None
    for position in range(1, len(arguments) - 2):
        noun, verb, name = arguments[position : position + 3]
        if noun in _NOUNS and verb in _VERBS:
            is_short = not name.startswith("-") and "/" not in name
            return position + 2 if is_short else None
    return None


@register_hook
async def setup_environment(*, ctx: HookContext) -> None:
    """Completes a short deployment name in `sys.argv`.

    Raises:
        SystemExit: with a message, when there is no server, or not exactly one such deployment.
    """
    position = short_name_position(sys.argv)
    if position is None:
        return
    import httpx  # only now: this hook runs before every command

    name = sys.argv[position]
    try:
        full_names = await _full_names(name)
    except httpx.TransportError as error:
        raise SystemExit(
            f"No Prefect server answers at {ctx.api_url} ({error}). Start it with `make deploy`."
        ) from None
    if len(full_names) != 1:
        found = "".join(f"\n  {full_name}" for full_name in full_names)
        hint = found or "\n`make deploy` makes ours; `prefect deployment ls` lists what there is."
        raise SystemExit(f"{len(full_names)} deployments are named {name!r}.{hint}")
    sys.argv[position] = full_names[0]


async def _full_names(name: str) -> list[str]:
    """FLOW/DEPLOYMENT of this workspace's own on a shared server if there is one, else of all with this very name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    own = f"{name}-{workspace_name()}"
    async with get_client() as client:
        found = await client.read_deployments(
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[own, name]))
        )
        wanted = own if any(deployment.name == own for deployment in found) else name
        return [
            f"{(await client.read_flow(deployment.flow_id)).name}/{wanted}"
            for deployment in found
            if deployment.name == wanted
        ]
