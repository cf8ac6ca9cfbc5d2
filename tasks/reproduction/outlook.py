"""What `miras reproduce TABLE --dry-run` says: rows, runs, which stages earlier runs have made, hours of the others.

DVC keeps what a stage made under a key of its command, settings and inputs. Here the keys are worked out stage by
stage without running any: the outputs of a stage that is kept are known, those of another get a name of their own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils import dict_sha256
from dvc_data.hashfile.hash_info import HashInfo

from miras.config import read_yaml
from miras.launch.profiles import read_launch
from miras.reproduce.records import FOLDER, Request, Run
from miras.reproduce.results import describe_data, row_title
from tasks.graph import stages_until
from tasks.params import PARAMS
from tasks.reproduction.runs import LAST_STAGE, make_workspace

KEPT, SHARED, NEW = "restored", "shared with a run above", "to be run"
_NOT_PART_OF_A_KEY = ["size", "nfiles"]


@dataclass(frozen=True)
class RunOutlook:
    """One run before it starts."""

    run: Run
    stages: dict[str, str]
    """Stage -> KEPT, SHARED or NEW."""
    hours: float | None
    """Estimate for features, stage1 and stage2 where they are to be run; None: the device's speed is not known."""


def outlook(request: Request) -> str:
    """What would be run, as text.

    Raises:
        ConfigError: a run cannot fit this machine.
    """
    found = list(_outlooks(request))
    lines = [
        f"{request.table.paper}, {request.table.number}: {request.table.title}",
        f"  data: {describe_data(request.runs)}",
    ]
    lines += ["", "Rows", *(f"  {text}" for text in _rows(request)), "", "Runs"]
    width = max((len(one.run.name) for one in found), default=0)
    for one in found:
        groups = {kind: [s for s, k in one.stages.items() if k == kind] for kind in (NEW, SHARED, KEPT)}
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in groups.items() if names)
        lines.append(f"  {one.run.name:<{width}}  {told}")
    known = [one.hours for one in found if one.hours is not None]
    new = sum(kind == NEW for one in found for kind in one.stages.values())
    lines += ["", f"{len(found)} runs, {new} stages to be run of {sum(len(one.stages) for one in found)}."]
    if new:
        hours = f"about {sum(known):,.2f}" if len(known) == len(found) else "unknown (set tflops in the launch profile)"
        lines.append(f"Hours of features and training: {hours}. Data, mini encoders and evaluation come on top.")
    return "\n".join(lines)


def _rows(request: Request) -> Iterator[str]:
    for row in request.table.rows:
        reason = row.absent or request.absent.get(str(row.arm))
        yield f"{row_title(row)}: " + (f"not run: {reason}" if reason else f"{row.model} of {row.arm}")


def _outlooks(request: Request) -> Iterator[RunOutlook]:
    stages = [node.name for node in stages_until(LAST_STAGE)]
    seen: set[str] = set()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".dry-run-") as folder:
        for run in request.runs:
            here = replace(run, table=Path(folder).name)
            make_workspace(here, Path.cwd())
            kinds = dict(_kinds(here.folder, stages, seen))
            yield RunOutlook(run, kinds, _hours(here, kinds))
            shutil.rmtree(here.folder)


def _kinds(folder: Path, stages: list[str], seen: set[str]) -> Iterator[tuple[str, str]]:
    """Each stage with what will become of it; `seen` holds the keys of stages that earlier runs will have made."""
    known: dict[str, str] = {}  # output -> content identity, or a name for what is still to be made
    with Repo(str(folder)) as repo:
        for name in stages:
            stage = repo.stage.collect(str(folder / "dvc.yaml") + f":{name}")[0]
            key = _key(stage, known)
            kept = _newest(Path(repo.stage_cache.cache_dir) / key[:2] / key)
            outputs = {str(out.def_path): f"{key}:{out.def_path}" for out in stage.outs}
            known.update({out["path"]: out["md5"] for out in kept["outs"]} if kept else outputs)
            yield name, KEPT if kept else SHARED if key in seen else NEW
            seen.add(key)


def _key(stage: PipelineStage, known: dict[str, str]) -> str:
    """As DVC names what a stage made (`dvc.stage.cache`)."""
    for dependency in stage.deps:
        if not isinstance(dependency, ParamsDependency) and dependency.def_path in known:
            dependency.hash_info = HashInfo("md5", known[dependency.def_path])
        else:
            dependency.save()
    content = to_single_stage_lockfile(stage)
    content["outs"] = [out["path"] for out in content.get("outs", [])]
    return str(dict_sha256(content, exclude=_NOT_PART_OF_A_KEY))


def _newest(folder: Path) -> dict[str, list[dict[str, str]]] | None:
    entries = sorted(folder.glob("*"), key=lambda file: file.stat().st_mtime)
    return read_yaml(entries[-1]) if entries else None


def _hours(run: Run, kinds: dict[str, str]) -> float | None:
    """Of the stages that `miras plan` knows and that are to be run."""
    from miras.plan import plan  # imports torch

    found = plan(run.folder / PARAMS, read_launch())
    hours = [stage.hours for stage in found.stages if kinds.get(stage.name) == NEW]
    return None if None in hours else sum(filter(None, hours))
