"""The graph as DVC states it: order of the stages, their parents, what they depend on.

`dvc.yaml` is the one statement; nothing here repeats it. DVC is imported only where it is asked: a third of a second.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miras.errors import ConfigError, DataError

if TYPE_CHECKING:
    from dvc.repo import Repo

_TOLD = "MIRAS_STAGE_READS"
"""Variable of a stage's process: JSON, what `dependency_hashes` would find, by stage."""


@dataclass(frozen=True)
class Node:
    """One stage and the stages whose outputs it reads, both by name."""

    name: str
    parents: tuple[str, ...]


def stages_until(last: str | None = None) -> list[Node]:
    """The stages that `last` needs and itself, each after its parents; all stages for None.

    Stages that do not depend on each other keep the order of dvc.yaml.

    Raises:
        ConfigError: there is no such stage, or DVC cannot read dvc.yaml.
    """
    with _open_repo() as repo:
        nodes = _nodes(repo)
    if last is None:
        wanted = set(nodes)
    else:
        check_stage(last, nodes)
        wanted = _ancestors(last, nodes)
    return _parents_first([node for name, node in nodes.items() if name in wanted])


def check_stage(name: str, known: Collection[str]) -> None:
    """Lets the name of a stage pass that is among those of dvc.yaml, `known`.

    Raises:
        ConfigError: it is not; the message names the nearest.
    """
    if name not in known:
        nearest = difflib.get_close_matches(name, list(known), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}."
        raise ConfigError(f"dvc.yaml: there is no stage {name!r}; {hint}")


def dependency_hashes(stage: str) -> dict[str, str]:
    """Content identity (DVC's md5) of each file or folder that a stage reads, by path; params are left out.

    Raises:
        ConfigError: DVC cannot read dvc.yaml, or it names no such stage.
        DataError: a dependency is missing.
    """
    told = json.loads(os.environ.get(_TOLD, "{}"))
    return dict(told[stage]) if stage in told else _dependency_hashes(stage)


def tell_dependency_hashes(stage: str) -> None:
    """Leaves the `dependency_hashes` of a stage to the processes that this one will start.

    Raises:
        ConfigError, DataError: as `dependency_hashes`.
    """
    os.environ[_TOLD] = json.dumps({stage: _dependency_hashes(stage)})


def _dependency_hashes(stage: str) -> dict[str, str]:
    from dvc.dependency.param import ParamsDependency

    with _open_repo() as repo:
        found = repo.stage.collect(stage)[0]
        hashes = {}
        for dependency in found.deps:
            if isinstance(dependency, ParamsDependency):
                continue
            if not dependency.exists:
                raise DataError(
                    f"{dependency.def_path}: stage {stage} needs this, and it is not there. "
                    f"Run `dvc repro {stage}`, which makes what is missing."
                )
            hashes[str(dependency.def_path)] = str(dependency.get_hash().value)
        return hashes


@contextmanager
def _open_repo() -> Iterator[Repo]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        raise ConfigError(f"DVC: {error}") from error


def _nodes(repo: Repo) -> dict[str, Node]:
    from dvc.stage import PipelineStage

    graph = repo.index.graph  # an edge leads from a stage to one it reads from
    stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
    return {
        stage.name: Node(
            stage.name,
            tuple(parent.name for parent in stages if graph.has_edge(stage, parent)),
        )
        for stage in stages
    }


def _ancestors(name: str, nodes: dict[str, Node]) -> set[str]:
    found = {name}
    for parent in nodes[name].parents:
        found |= _ancestors(parent, nodes)
    return found


def _parents_first(nodes: list[Node]) -> list[Node]:
    done: dict[str, Node] = {}
    while len(done) < len(nodes):  # DVC has made sure that there is no cycle
        ready = next(n for n in nodes if n.name not in done and all(p in done for p in n.parents))
        done[ready.name] = ready
    return list(done.values())
