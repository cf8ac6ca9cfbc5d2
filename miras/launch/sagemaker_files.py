"""What a work folder knows of its training jobs, in `sagemaker.json`: their key, and its files as they last agreed."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from miras.config import Section
from miras.errors import DataError
from miras.files import write_json
from miras.launch.bundle import written_by
from miras.launch.job import JobSpec
from miras.launch.s3 import PART_BYTES, Bucket, Mirror, inside

RECORD = "sagemaker.json"


class Known(Section):
    """A file as it was when it was sent or brought back."""

    tag: str = ""
    """Of the object that it came from."""
    size: int = -1
    modified_ns: int = -1
    """Both -1: it is being brought."""


class Record(Section):
    """What `sagemaker.json` holds."""

    key: str
    """In the names of the folder's jobs."""
    files: dict[str, Known]


class JobFiles:
    """The files that a job has written, in S3 and here."""

    def __init__(self, bucket: Bucket, job: str, spec: JobSpec) -> None:
        self._bucket, self._job, self._spec = bucket, job, spec

    def bring(self, *, is_over: bool) -> None:
        """What has changed there; of a running job's big files those that are new: a checkpoint comes at its end.

        Raises:
            DataError: the job has written where it has no business, or an object is damaged.
            ServiceUnavailableError: AWS was not reached.
        """
        known, changed = _read(self._spec).files, {}
        for name, (tag, size) in self._bucket.list().items():
            is_here = Path(name).exists()
            has_changed = not is_here or name not in known or known[name].tag != tag
            if has_changed and (is_over or not is_here or size <= PART_BYTES):
                changed[name] = tag
        self._fetch(changed)

    def catch_up(self) -> None:
        """What a job that is over has left since it was last followed.

        Files that have changed here since then are left alone.
        """
        known, changed = _read(self._spec).files, {}
        for name, (tag, _) in self._bucket.list().items():
            mine = known.get(name)
            if mine and mine.tag == tag:
                continue
            if Path(name).exists() and (not mine or (mine.size >= 0 and _known(Path(name), mine.tag) != mine)):
                print(f"{name}: changed here since {self._job} began; it is kept.", file=sys.stderr, flush=True)
            else:
                changed[name] = tag
        self._fetch(changed)

    def _fetch(self, changed: Mapping[str, str]) -> None:
        if not changed:
            return
        allowed = written_by(self._spec)
        if strange := [name for name in changed if not inside(name, allowed)]:
            raise DataError(
                f"{self._bucket.address(strange[0])}: the job has no business there; it may write to "
                f"{', '.join(allowed)}. Nothing was brought. Look at who can write to the bucket, and delete it."
            )
        # Said before it is done: after a kill in the middle these are still the job's.
        _update(self._spec, {name: Known() for name in changed})
        Mirror(self._bucket).fetch(changed, Path)
        _update(self._spec, {name: _known(Path(name), tag) for name, tag in changed.items() if Path(name).exists()})


def name_stem(spec: JobSpec) -> str:
    """With which the names of all jobs of this work folder begin."""
    path = spec.folder / RECORD
    if not path.exists():
        write_json(path, Record(key=secrets.token_hex(8), files={}).model_dump())
    return f"miras-{re.sub('[^a-zA-Z0-9]+', '-', spec.name).strip('-')[:24]}-{_read(spec).key}"


def record_sent(spec: JobSpec, files: Mapping[str, Path]) -> None:
    """A job begins with these files."""
    record = _read(spec)
    _write(spec, record.model_copy(update={"files": {name: _known(path) for name, path in files.items()}}))


def _update(spec: JobSpec, files: Mapping[str, Known]) -> None:
    record = _read(spec)
    _write(spec, record.model_copy(update={"files": {**record.files, **files}}))


def _read(spec: JobSpec) -> Record:
    return Record.model_validate_json((spec.folder / RECORD).read_text("utf-8"))


def _write(spec: JobSpec, record: Record) -> None:
    write_json(spec.folder / RECORD, record.model_dump())


def _known(path: Path, tag: str = "") -> Known:
    found = os.stat(path)
    return Known(tag=tag, size=found.st_size, modified_ns=found.st_mtime_ns)
