"""Every answer that was ever paid for, one file each: `answers/<3 digits>/<key>.json` in the cache folder.

Files rather than a database: an answer is on the disk before it is used, damage costs one answer, caches of two
machines are merged by copying, and the recording that `replay` reads is the same thing. A million answers are 4096
folders of about 250 files; nothing ever lists them.

Processes may share the folder. Who asks a question claims its key; the claim goes when its process does.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from miras.errors import DataError
from miras.files import disk_errors, finished_file
from miras.llm.wire import Reply, read_reply

log = logging.getLogger(__name__)
_CLAIM_DIGITS = 15  # hexadecimal; a file offset has 63 bits


class AnswerCache:
    """Answers by the key of their request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: set[str] = set()
        """Keys of entries that were found damaged since this was opened."""

    def path(self, key: str) -> Path:
        """Where the answer to a request lies."""
        return self.folder / "answers" / key[:3] / f"{key}.json"

    def get(self, key: str) -> Reply | None:
        """The answer; None where there is none, or a damaged one (with a warning)."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}. Mend the cache folder.") from None
        try:
            entry = json.loads(content)
            if entry["sha256"] != _checksum(key, entry["response"]):
                raise ValueError("its checksum differs")
            return read_reply(entry["response"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if key not in self.damaged:
                log.warning("damaged_answer path=%s found=%s; it will be asked again", path, str(error)[:100])
            self.damaged.add(key)
            return None

    def put(self, key: str, response: dict[str, Any], *, about: dict[str, str]) -> None:
        """Keeps a server's response; when this returns it outlasts a loss of power.

        Args:
            key: of the request.
            response: a chat completion as it came.
            about: what was asked, for people who look into the folder.
        """
        entry = {"about": about, "response": response, "sha256": _checksum(key, response)}
        path = self.path(key)
        with finished_file(path) as aside, aside.open("w", encoding="ascii") as file:
            json.dump(entry, file)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)


def _checksum(key: str, response: Any) -> str:
    return hashlib.sha256(f"{key}\n{json.dumps(response)}".encode("ascii")).hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Claims:
    """Which process is asking what: locks on single bytes of one empty file, dropped by the system with the process.

    Within a process a claim excludes nothing; one model looks after its own calls.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "claims.lock"
        with disk_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")

    def take(self, key: str) -> bool:
        """Whether the key is now ours; False while another process has it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key), os.SEEK_SET)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def drop(self, key: str) -> None:
        """Lets others have it."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key), os.SEEK_SET)

    def close(self) -> None:
        """Drops all."""
        self._file.close()


def _offset(key: str) -> int:
    return int(key[:_CLAIM_DIGITS], 16)
