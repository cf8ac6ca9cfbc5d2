"""What is sent to the DVC remote arrives whole, or is sent again; what is fetched is what was sent."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from moto.server import ThreadedMotoServer

from miras.errors import ConfigError, DataError, DiskFullError, MirasError, ServiceUnavailableError
from tasks.storage.outputs import fetch, send
from tasks.storage.remote import etag_of_parts
from tasks.storage.remote_errors import explain

CONTENT = {"one.bin": b"1" * 1000, "sub/two.bin": b"2" * 2000}


def make_project(folder: Path, url: str | None) -> Path:
    """A DVC project with one folder of data; its remote is `url`."""
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(content)
    with Repo.init(str(folder), no_scm=True) as repo:
        if url:
            with repo.config.edit() as config:
                config["remote"] = {"store": {"url": url}}
                config["core"]["remote"] = "store"
    with Repo(str(folder)) as repo:
        repo.add(str(folder / "data"))
    return folder


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of every project; DVC's own notes lie in it, too."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    return tmp_path


@pytest.fixture
def project(away: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project with a folder as its remote."""
    folder = make_project(away / "project", str(away / "remote"))
    monkeypatch.chdir(folder)
    return folder


def object_of(root: Path, content: bytes) -> Path:
    name = hashlib.md5(content).hexdigest()
    return root / "files" / "md5" / name[:2] / name[2:]


def test_what_was_pushed_comes_back_identical_elsewhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert send() == 3  # two files and the folder's list
    assert send() == 0
    other = project.with_name("other")
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("data", "cache"))
    monkeypatch.chdir(other)
    assert fetch() == 3
    assert {name: (other / "data" / name).read_bytes() for name in CONTENT} == CONTENT


def test_a_damaged_object_is_told_removed_and_sent_again(project: Path) -> None:
    send()
    damaged = object_of(project.with_name("remote"), CONTENT["one.bin"])
    damaged.chmod(0o644)
    damaged.write_bytes(b"1" * 10)
    with pytest.raises(ServiceUnavailableError, match="10 bytes, expected 1000 bytes"):
        send()
    assert not damaged.exists()
    assert send() == 2  # and the folder's list, which was removed with it
    assert damaged.read_bytes() == CONTENT["one.bin"]


def test_what_is_damaged_on_the_remote_does_not_come_into_the_workspace(project: Path) -> None:
    send()
    damaged = object_of(project.with_name("remote"), CONTENT["one.bin"])
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" * 1000)
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(project / "data")
    with pytest.raises(DataError, match="damaged"):
        fetch()
    assert not (project / "data" / "one.bin").exists()


def test_an_output_that_is_nowhere_is_told(project: Path) -> None:
    object_of(project / ".dvc" / "cache", CONTENT["one.bin"]).unlink()
    with pytest.raises(DataError, match=r"1 output.*dvc repro"):
        send()


def test_no_remote_is_a_mistake_of_the_user(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(away / "project", None))
    for action in (send, fetch):
        with pytest.raises(ConfigError, match="dvc remote add"):
            action()


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadedMotoServer]:
    """A real S3 server, moto's."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield server
    server.stop()


class TestS3:
    """The same with a real S3 server, moto's, and DVC's real client."""

    @pytest.fixture
    def store(self, server: ThreadedMotoServer, away: Path, monkeypatch: pytest.MonkeyPatch) -> object:
        import boto3

        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(away / "no_config"),
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="miras")
        monkeypatch.chdir(make_project(away / "project", "s3://miras/dvc"))
        return client

    def test_an_object_of_the_right_size_and_wrong_content_is_sent_again(self, store: object) -> None:
        send()
        name = hashlib.md5(CONTENT["one.bin"]).hexdigest()
        key = f"dvc/files/md5/{name[:2]}/{name[2:]}"
        store.put_object(Bucket="miras", Key=key, Body=b"x" * 1000)  # type: ignore[attr-defined]
        with pytest.raises(ServiceUnavailableError, match="MD5 .*expected " + name):
            send()
        assert send() == 2
        assert store.get_object(Bucket="miras", Key=key)["Body"].read() == CONTENT["one.bin"]  # type: ignore[attr-defined]

    def test_an_object_uploaded_in_parts_is_compared_part_by_part(self, store: object) -> None:
        content, part = b"ab" * 4 * 2**20, 5 * 2**20
        Path("data/large.bin").write_bytes(content)
        with Repo() as repo:
            repo.add("data")
        send()
        name = hashlib.md5(content).hexdigest()
        key = {"Bucket": "miras", "Key": f"dvc/files/md5/{name[:2]}/{name[2:]}"}
        self._upload_in_parts(store, key, content, part)
        assert send() == 0
        self._upload_in_parts(store, key, b"x" + content[1:], part)
        with pytest.raises(ServiceUnavailableError, match="checksum of parts"):
            send()

    @staticmethod
    def _upload_in_parts(store: object, key: dict[str, str], content: bytes, part_bytes: int) -> None:
        upload = {**key, "UploadId": store.create_multipart_upload(**key)["UploadId"]}  # type: ignore[attr-defined]
        parts = []
        for number, first in enumerate(range(0, len(content), part_bytes), 1):
            body = content[first : first + part_bytes]
            done = store.upload_part(**upload, PartNumber=number, Body=body)  # type: ignore[attr-defined]
            parts.append({"PartNumber": number, "ETag": done["ETag"]})
        store.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})  # type: ignore[attr-defined]

    def test_a_bucket_that_is_not_there_is_a_mistake_of_the_user(
        self, store: object, away: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(make_project(away / "elsewhere", "s3://none/dvc"))
        with pytest.raises(ConfigError, match="no such bucket"):
            send()

    def test_no_credentials_are_a_mistake_of_the_user(self, store: object, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
            send()


def test_the_checksum_of_parts_is_that_of_s3(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"a" * 5 + b"b" * 3)
    digests = hashlib.md5(b"a" * 5).digest() + hashlib.md5(b"b" * 3).digest()
    assert etag_of_parts(file, part_bytes=5) == hashlib.md5(digests).hexdigest() + "-2"


@pytest.mark.parametrize(
    ("failure", "kind", "can_retry"),
    [
        (PermissionError("Access Denied"), ConfigError, False),
        (OSError("An error occurred (SignatureDoesNotMatch)"), ConfigError, False),
        (ConnectionResetError("reset by peer"), ServiceUnavailableError, True),
        (TimeoutError(), ServiceUnavailableError, True),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, False),
    ],
)
def test_only_what_another_try_can_help_with_is_tried_again(
    failure: Exception, kind: type[MirasError], can_retry: bool
) -> None:
    error = explain([failure], address="s3://miras/dvc", name="dvc push")
    assert type(error) is kind
    assert error.can_retry == can_retry


def test_a_secret_in_a_clients_message_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-aws-secret")
    error = explain([OSError("bad key planted-aws-secret")], address="s3://miras/dvc", name="dvc push")
    assert "planted" not in str(error)
