"""Files to and from a folder of an S3 bucket, each checked by its sha256.

`ObjectStore` keeps contents that never change under their own hash: what is there is not sent again. `Mirror` keeps the
files of a running job under their paths, each with its hash as metadata: an object is replaced as a whole, and so is
the file made of it. Transfers go on several threads; one that breaks off or arrives wrong is repeated.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeVar

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from s3transfer.exceptions import RetriesExceededError
from s3transfer.utils import ChunksizeAdjuster

from miras.config import Section
from miras.errors import DataError, DiskFullError, MirasError, ServiceUnavailableError
from miras.files import finished_file
from miras.launch.aws import CONNECTIONS, as_miras_error, aws_errors, code_of, without_keys
from miras.machine import free_bytes

SHA256 = "sha256"  # name of the metadata
PART_BYTES = 2**24
"""Files above this are sent and fetched in parts, several at a time."""
_ATTEMPTS = 4
_PAUSE_S = 0.5
_FILES_AT_ONCE = 16
_READ_BYTES = 2**20
_CHANGED = ("BadDigest", "XAmzContentSHA256Mismatch", "PreconditionFailed", "412")
_BROKEN_OFF = (RetriesExceededError, ResponseStreamingError, IncompleteReadError, ReadTimeoutError)
_MISSING = ("404", "NoSuchKey", "NotFound")

Given = TypeVar("Given")
Made = TypeVar("Made")


class Content(Section):
    """What is in a file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Digest:
    """Content of a file, and what S3 calls its checksum."""

    content: Content
    checksum: str
    """Base64 of its sha256; of one sent in parts, of the sha256 of the parts' sha256s."""


@dataclass(frozen=True)
class Sent:
    """What became of files to send."""

    contents: dict[str, Content]
    """Of all, by their names."""
    files: int
    """How many had to be sent."""
    size: int
    """Bytes of these."""


def digest_of(file: BinaryIO) -> Digest:
    """Of what an open file holds, from its beginning; leaves it there."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    part_bytes: int = ChunksizeAdjuster().adjust_chunksize(PART_BYTES, size)
    whole, parts = hashlib.sha256(), b""
    left = size
    while left > 0:
        part, part_left = hashlib.sha256(), min(part_bytes, left)
        left -= part_left
        while part_left > 0 and (chunk := file.read(min(_READ_BYTES, part_left))):
            part_left -= len(chunk)
            whole.update(chunk)
            if size > PART_BYTES:
                part.update(chunk)
        parts += part.digest()
    file.seek(0)
    content = Content(sha256=whole.hexdigest(), size=size)
    checksum = whole if size <= PART_BYTES else hashlib.sha256(parts)
    return Digest(content, base64.b64encode(checksum.digest()).decode())


def agrees(said: Mapping[str, Any] | None, digest: Digest) -> bool:
    """Whether what S3 says of an object is of this content; None: it is not there."""
    # S3 adds the number of parts, `-2`.
    return said is not None and said.get("ChecksumSHA256", "").partition("-")[0] == digest.checksum


class Listed(NamedTuple):
    """What a listing says of an object."""

    tag: str
    """Changes with the content."""
    size: int


class Bucket:
    """A folder of a bucket; names are relative to it."""

    def __init__(self, client: Any, bucket: str, folder: str) -> None:
        self.client, self.bucket = client, bucket
        self.folder = folder.strip("/")
        settings = TransferConfig(
            multipart_threshold=PART_BYTES + 1,
            multipart_chunksize=PART_BYTES,
            max_concurrency=CONNECTIONS - _FILES_AT_ONCE,
            num_download_attempts=_ATTEMPTS,
        )
        self._manager = create_transfer_manager(client, settings)

    def key(self, name: str) -> str:
        """The whole key."""
        return f"{self.folder}/{name}" if self.folder else name

    def address(self, name: str) -> str:
        """`s3://...`"""
        return f"s3://{self.bucket}/{self.key(name)}"

    def check(self) -> None:
        """Raises ConfigError if there is no such bucket, or it may not be used."""
        with aws_errors(f"s3://{self.bucket}"):
            self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.key(""), MaxKeys=1)

    def head(self, name: str) -> dict[str, Any] | None:
        """What S3 says of an object, with its checksum; None: it is not there."""
        with aws_errors(self.address(name)):
            try:
                found: dict[str, Any] = self.client.head_object(
                    Bucket=self.bucket, Key=self.key(name), ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise
        return found

    def list(self) -> dict[str, Listed]:
        """Every object in the folder, by name."""
        prefix = self.key("")
        with aws_errors(f"listing {self.address('')}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            objects = [found for page in pages for found in page.get("Contents", ())]
        return {found["Key"].removeprefix(prefix): Listed(found["ETag"], found["Size"]) for found in objects}

    def send(self, name: str, file: BinaryIO, digest: Digest) -> None:
        """Uploads a file; returns when S3 has confirmed its checksum.

        Raises:
            ServiceUnavailableError: AWS was not reached, or what arrived was wrong, after several attempts.
        """
        repeated(lambda: self._send(name, file, digest), doing=f"uploading to {self.address(name)}")

    def _send(self, name: str, file: BinaryIO, digest: Digest) -> None:
        file.seek(0)
        place = {"Bucket": self.bucket, "Key": self.key(name)}
        metadata = {SHA256: digest.content.sha256}
        if digest.content.size <= PART_BYTES:
            body = file.read(digest.content.size)
            said = self.client.put_object(
                **place, Body=body, Metadata=metadata, ChecksumAlgorithm="SHA256", ChecksumSHA256=digest.checksum
            )
        else:
            options = {"ChecksumAlgorithm": "SHA256", "Metadata": metadata}
            self._manager.upload(_Left(file), place["Bucket"], place["Key"], options).result()
            said = self.client.head_object(**place, ChecksumMode="ENABLED")
        if not agrees(said, digest):
            raise _WrongContentError(f"its checksum there is {said.get('ChecksumSHA256')}, not {digest.checksum}")

    def fetch(self, name: str, path: Path, *, sha256: str | None = None) -> Content:
        """Downloads an object; the file takes its place when its content is right.

        Args:
            name: of the object.
            path: of the file.
            sha256: of its content; None: what the object's metadata says.

        Raises:
            DataError: it is not there, or its content is wrong however often it is fetched.
            ServiceUnavailableError: AWS was not reached.
        """
        with finished_file(path) as aside:
            return repeated(lambda: self._fetch(name, aside, sha256), doing=f"downloading {self.address(name)}")

    def _fetch(self, name: str, aside: Path, sha256: str | None) -> Content:
        found = self.client.get_object(Bucket=self.bucket, Key=self.key(name))
        expected = sha256 or found["Metadata"].get(SHA256)
        if found["ContentLength"] <= PART_BYTES:
            aside.write_bytes(found["Body"].read())
        else:
            found["Body"].close()
            with aside.open("wb") as file:
                self._manager.download(self.bucket, self.key(name), file).result()
        with aside.open("rb") as file:
            content = digest_of(file).content
        if content.sha256 != expected:
            raise _WrongContentError(f"sha256 {content.sha256[:12]}, expected {str(expected)[:12]}")
        return content


class ObjectStore:
    """Contents under their own hash."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def send(self, files: Mapping[str, Path]) -> Sent:
        """Sends what is not there yet, or is there damaged.

        Args:
            files: name -> file; the name is for `fetch`.

        Raises:
            DataError: a file changed while it was sent.
        """

        def send(path: Path) -> tuple[Content, bool]:
            with path.open("rb") as file:
                digest = digest_of(file)
                name = _object_name(digest.content)
                if agrees(self.bucket.head(name), digest):
                    return digest.content, False
                self.bucket.send(name, file, digest)
                return digest.content, True

        done = in_parallel(send, files.values())
        sent = [content.size for content, is_sent in done if is_sent]
        contents = {name: content for name, (content, _) in zip(files, done, strict=True)}
        return Sent(contents, len(sent), sum(sent))

    def fetch(self, contents: Mapping[str, Content], place: Callable[[str], Path]) -> None:
        """Makes the files that are not there with this content.

        Args:
            contents: by name.
            place: name -> file.

        Raises:
            DataError: an object is missing or damaged.
            DiskFullError: they do not fit.
        """
        wanted = {name: content for name, content in contents.items() if not _is(place(name), content)}
        if not wanted:
            return
        first = place(next(iter(wanted)))
        needed, free = sum(content.size for content in wanted.values()), free_bytes(first)
        if needed > free:
            raise DiskFullError(
                f"{first.parent}: {needed / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free. Give it more "
                "(`volume_gb` in the launch profile)."
            )
        in_parallel(
            lambda item: self.bucket.fetch(_object_name(item[1]), place(item[0]), sha256=item[1].sha256),
            wanted.items(),
        )


class Mirror:
    """Files of a job under their paths in the workspace."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def send(self, files: Mapping[str, Path]) -> None:
        """Sends the files as they are at one moment.

        Big files are opened first and sent last: they are replaced, never written to, so the open file stays as it
        is, and what is said of it in small ones (a log, a journal) is there when it is.
        """
        there = {name: path for name, path in files.items() if path.exists()}  # some may have been removed meanwhile
        opened = {name: path.open("rb") for name, path in there.items() if path.stat().st_size > PART_BYTES}
        try:
            small = {name: path.read_bytes() for name, path in there.items() if name not in opened}
            in_parallel(lambda item: self._send(item[0], io.BytesIO(item[1])), small.items())
            for name, file in opened.items():
                self._send(name, file)
        finally:
            for file in opened.values():
                file.close()

    def _send(self, name: str, file: BinaryIO) -> None:
        self.bucket.send(name, file, digest_of(file))

    def fetch(self, names: Iterable[str], place: Callable[[str], Path]) -> None:
        """Makes the files anew; big ones first, so that the small ones are never older than they."""
        heads = in_parallel(lambda name: (name, self.bucket.head(name)), names)
        there = [(name, head) for name, head in heads if head is not None]
        there.sort(key=lambda item: -item[1]["ContentLength"])
        big = [name for name, head in there if head["ContentLength"] > PART_BYTES]
        for name in big:
            self.bucket.fetch(name, place(name))
        in_parallel(lambda item: self.bucket.fetch(item[0], place(item[0])), there[len(big) :])


def inside(name: str, folders: Collection[str]) -> bool:
    """Whether a name is a plain path in one of the folders, or one of them."""
    path = PurePosixPath(name)
    is_plain = not path.is_absolute() and ".." not in path.parts and str(path) == name
    return is_plain and any(path.is_relative_to(folder) for folder in folders)


def in_parallel(do: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """The results in their order, made by several threads; the first error ends it."""
    with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
        results = [threads.submit(do, item) for item in items]
        try:
            return [result.result() for result in results]
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


class _WrongContentError(Exception):
    """What arrived is not what was sent."""


class _Left(io.BufferedIOBase):
    """A file that the transfer manager may close, and we keep open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.seek, self.tell = file.read, file.seek, file.tell  # type: ignore[method-assign, assignment]

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def repeated(do: Callable[[], Made], *, doing: str) -> Made:
    """What `do` returns; after a broken connection or wrong content it is done again, a few times."""
    for attempt in range(_ATTEMPTS):
        try:
            return do()
        except (_WrongContentError, BotoCoreError, ClientError, RetriesExceededError) as error:
            problem = _problem(error, doing)
            # What boto3 repeats itself is not repeated here.
            is_worth_it = isinstance(error, _BROKEN_OFF) or _is_wrong_content(error)
            if attempt + 1 == _ATTEMPTS or not is_worth_it:
                raise problem from error
        time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError


def _is_wrong_content(error: Exception) -> bool:
    return isinstance(error, (_WrongContentError, FlexibleChecksumError)) or code_of(error) in _CHANGED


def _problem(error: Exception, doing: str) -> MirasError:
    if _is_wrong_content(error):
        return DataError(
            f"{doing}: the content is wrong ({without_keys(str(error))}), {_ATTEMPTS} times. Delete the object there "
            "and run again: it is sent anew."
        )
    if isinstance(error, RetriesExceededError):
        return ServiceUnavailableError(f"{doing}: the connection breaks off ({error.last_exception}). Run again.")
    if code_of(error) in _MISSING:
        return DataError(f"{doing}: it is not there any more. Run again: what is missing is sent anew.")
    return as_miras_error(error, doing)


def _is(path: Path, content: Content) -> bool:
    if not path.is_file() or path.stat().st_size != content.size:
        return False
    with path.open("rb") as file:
        return digest_of(file).content == content


def _object_name(content: Content) -> str:
    return f"{content.sha256[:2]}/{content.sha256}"
