"""The objects that a workspace has on DVC's default remote, compared with ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc_data.hashfile.db import get_index

from tasks.environment import shown_address

_PARALLEL = 32
_FOLDER = ".dir"  # ending of the object that lists a folder's files
_MD5 = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"([0-9a-f]{32})-(\d+)")  # ETag of an object that was uploaded in parts


@dataclass(frozen=True)
class RemoteObject:
    """One object: a file's content, or the list of a folder's files."""

    name: str
    """DVC's name: the MD5 of the content, for a folder's list with `.dir` behind it."""
    local: Path
    """Its file in DVC's cache here, if it is there."""
    path: str
    """Its place on the remote."""
    is_missing: bool
    """Whether neither this machine nor the remote has it."""


@dataclass(frozen=True)
class Damaged:
    """An object whose content on the remote is not what its name says."""

    name: str
    path: str
    found: str
    expected: str


def remote_address(repo: Repo) -> str:
    """The default remote's address for messages, without a password."""
    name = repo.config["core"].get("remote")
    url = repo.config["remote"].get(name, {}).get("url") if name else None
    return shown_address(str(url)) if url else "the DVC remote (none is set)"


def objects_of(repo: Repo) -> list[RemoteObject]:
    """Every object that the workspace's outputs need, once."""
    remote = repo.cloud.get_remote_odb()
    cache = repo.cache.local
    names = {found.value for objects in repo.used_objs(push=True).values() for found in objects}
    return [
        RemoteObject(
            name=name,
            local=Path(cache.oid_to_path(name)),
            path=remote.oid_to_path(name),
            is_missing=not cache.exists(name) and not remote.exists(name),
        )
        for name in sorted(names)
    ]


def wrong_objects(repo: Repo, objects: Iterable[RemoteObject]) -> list[Damaged]:
    """The objects whose size or checksum on the remote is not ours, or that are not there."""
    fs = repo.cloud.get_remote_odb().fs
    fs.fs.invalidate_cache()
    with ThreadPoolExecutor(_PARALLEL) as pool:
        found = pool.map(lambda one: _compare(fs, one), objects)
        return [damaged for damaged in found if damaged]


def forget_damaged(repo: Repo, objects: Iterable[RemoteObject], damaged: Iterable[Damaged]) -> None:
    """Removes what is damaged from the remote, so that the next push sends it again.

    The lists of the folders it belongs to go, too: DVC takes a folder's files for sent when its list is there,
    and remembers here which lists are.
    """
    remote = repo.cloud.get_remote_odb()
    names = {one.name for one in damaged}
    lists = [one for one in objects if one.name.endswith(_FOLDER) and one.local.exists()]
    names |= {one.name for one in lists if any(name in one.local.read_text(encoding="utf-8") for name in names)}
    for name in sorted(names, key=lambda name: not name.endswith(_FOLDER)):  # never a list without its files
        if remote.exists(name):
            remote.delete(name)
    with closing(get_index(remote)) as index:
        index.clear()


def _compare(fs: Any, wanted: RemoteObject) -> Damaged | None:
    try:
        info = fs.info(wanted.path)
    except FileNotFoundError:
        return Damaged(wanted.name, wanted.path, "nothing there", "the object")
    size = wanted.local.stat().st_size if wanted.local.exists() else None
    if size is not None and info["size"] != size:
        return Damaged(wanted.name, wanted.path, f"{info['size']} bytes", f"{size} bytes")
    md5 = wanted.name.removesuffix(_FOLDER)
    etag = str(info.get("ETag", "")).strip('"')
    if _MD5.fullmatch(etag) and etag != md5 and not _is_encrypted(fs, wanted.path):
        return Damaged(wanted.name, wanted.path, f"MD5 {etag}", md5)
    parts = _PARTS.fullmatch(etag)
    if parts and wanted.local.exists() and not _is_encrypted(fs, wanted.path):
        expected = etag_of_parts(wanted.local, part_bytes=_part_bytes(fs, wanted.path))
        if etag != expected:
            return Damaged(wanted.name, wanted.path, f"checksum of parts {etag}", expected)
    return None


def etag_of_parts(file: Path, *, part_bytes: int) -> str:
    """S3's checksum of an object uploaded in parts: the MD5 of the parts' MD5s, and how many there are."""
    digests = []
    with file.open("rb") as content:
        while part := content.read(part_bytes):
            digests.append(hashlib.md5(part, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _part_bytes(fs: Any, path: str) -> int:
    return int(_head(fs, path, PartNumber=1)["ContentLength"])


def _is_encrypted(fs: Any, path: str) -> bool:
    """Whether the store encrypts it with a key of its own: then its ETag is no MD5 of the content."""
    head = _head(fs, path)
    return str(head.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in head


def _head(fs: Any, path: str, **words: Any) -> dict[str, Any]:
    bucket, key, _ = fs.fs.split_path(path)
    return dict(fs.fs.call_s3("head_object", Bucket=bucket, Key=key, **words))
