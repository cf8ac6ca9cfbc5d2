"""What a job elsewhere needs of this workspace: the files that it reads, its work folder, and the code.

Paths are kept relative to the workspace, so that the job finds them where the stage said; those outside of it (public
weights, for instance) keep their absolute path.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import miras
from miras.errors import ConfigError
from miras.launch.container import Order
from miras.launch.job import HISTORY, JOB, JobSpec
from miras.launch.s3 import Content

_MAIN = """\
import os, sys, zipfile
base = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
code = os.path.join(base, "miras-code")
zipfile.ZipFile(sys.argv[0]).extractall(code)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
os.execv(sys.executable, [sys.executable, "-m", "miras.launch.container"])
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same bytes


def code_archive() -> bytes:
    """A zip of the package `miras` that Python runs: it unpacks itself and becomes `miras.launch.container`."""
    package = Path(miras.__file__).parent
    files = {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in _code_files(package)}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in {**files, "__main__.py": _MAIN.encode()}.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _code_files(package: Path) -> Iterator[Path]:
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def files_of(spec: JobSpec, *, own: str) -> dict[str, Path]:
    """Name in the job's workspace -> file, of all that the job reads and of its work folder.

    Args:
        spec: of the job.
        own: name of a file of the work folder that only the place needs.

    What is missing is left out: it is to be made there, or the job says that it misses it.
    """
    left_here = {JOB, HISTORY, own}
    found: dict[str, Path] = {}
    for place in (*spec.reads, spec.folder):
        found |= {name_of(path): path for path in ([place] if place.is_file() else _files_in(place))}
    folder = name_of(spec.folder)
    return {name: path for name, path in found.items() if name not in {f"{folder}/{left}" for left in left_here}}


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.endswith(".partial")]
        yield from (Path(parent) / name for name in names if not name.endswith(".partial"))


def name_of(path: Path) -> str:
    """Relative to the workspace, which is the current folder; absolute if it is outside."""
    whole = Path(os.path.abspath(path))  # links are kept: what they lead to is sent under this name
    workspace = Path.cwd()
    return whole.relative_to(workspace).as_posix() if whole.is_relative_to(workspace) else whole.as_posix()


def written_by(spec: JobSpec) -> tuple[str, ...]:
    """Where the job may write: its work folder, and in the workspace where it reads (a stage's store is both)."""
    names = [name_of(place) for place in (spec.folder, *spec.reads)]
    return tuple(dict.fromkeys(name for name in names if not Path(name).is_absolute()))


def order_for(spec: JobSpec, contents: Mapping[str, Content]) -> Order:
    """What the container is told.

    Raises:
        ConfigError: the work folder is outside of the workspace.
    """
    folder = name_of(spec.folder)
    if Path(folder).is_absolute():
        raise ConfigError(f"{spec.name}: the work folder {folder} is outside of the workspace {Path.cwd()}.")
    return Order(
        name=spec.name,
        module=spec.module,
        kind=spec.kind,
        processes=spec.processes,
        threads=spec.threads,
        folder=folder,
        request=name_of(spec.request),
        writes=written_by(spec),
        contents=dict(contents),
    )
