"""Reading and writing of result files: nothing half-written is ever seen under its final name."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from miras.errors import DataError, DiskFullError
from miras.machine import free_bytes

Record = TypeVar("Record", bound=BaseModel)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left" into a `DiskFullError` that names the place and what is needed."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if _is_full(error):
            raise DiskFullError(
                f"{path}: the disk is full ({free_bytes(path) // 2**20} MiB free). Free some space and run the same "
                "command again; finished stages are kept and are not run twice."
            ) from error
        raise


def _is_full(error: Exception) -> bool:
    """safetensors and torch raise errors of their own, without errno."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error) for words in ("No space left on device", "Disk quota exceeded", "unexpected pos"))


def count_lines(path: Path) -> int:
    """Records of a JSONL file.

    Raises:
        DataError: the file is missing.
    """
    try:
        with path.open("rb") as lines:
            return sum(1 for _ in lines)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage that makes it (`dvc repro`).") from None


@contextmanager
def finished_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `path` when the block ends well, else it is removed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        _remove_what_a_kill_left(path)
        aside.mkdir(parents=True)
        try:
            yield aside
            shutil.rmtree(path, ignore_errors=True)
            os.replace(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _remove_what_a_kill_left(path: Path) -> None:
    """Folders that `finished_folder` made aside in processes that are no more, and in this one."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        process = left.name.split(".")[-2]
        if not process.isdecimal() or int(process) == os.getpid() or not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A file name to write to; the file takes the place of `path` when the block ends well."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes indented UTF-8 JSON; not-a-number is refused."""
    with finished_file(path) as aside:
        aside.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def write_records(path: Path, records: Iterable[BaseModel]) -> int:
    """Writes one JSON line per record; returns how many."""
    count = 0
    with finished_file(path) as aside, aside.open("w", encoding="utf-8") as lines:
        for record in records:
            lines.write(record.model_dump_json() + "\n")
            count += 1
    return count


def read_records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The records of a JSONL file, one at a time.

    Raises:
        DataError: the file is missing, or a line does not hold such a record (with file and line).
    """
    try:
        lines = path.open(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run the stage that makes it (`dvc repro`).") from None
    with lines:
        for number, line in enumerate(lines, 1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise DataError(
                    f"{path}:{number}: not a {kind.__name__}: {where}: {first['msg']}. "
                    "Run the stage that makes this file again, or drop the line."
                ) from None
