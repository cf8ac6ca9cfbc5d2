"""Files go to S3 and back whole: not twice, again after faults, never damaged under their name."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from miras.errors import ConfigError, DataError, DiskFullError, ServiceUnavailableError
from miras.launch import s3
from miras.launch.aws import client
from miras.launch.s3 import PART_BYTES, Bucket, Content, Mirror, ObjectStore, inside
from tests.unit.launch.aws_services import BUCKET, SECRET, Front, moto, use

FOLDER = "some one's/miras"
BIG = PART_BYTES + 2**20


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture
def front(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Front]:
    made = Front(server)
    use(made.url, monkeypatch, tmp_path)
    monkeypatch.setattr(s3, "_PAUSE_S", 0.01)
    monkeypatch.chdir(tmp_path)
    yield made
    made.close()
    client.cache_clear()


def bucket(folder: str) -> Bucket:
    return Bucket(client("s3", "us-east-1"), BUCKET, f"{FOLDER}/{folder}")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = {"empty": b"", "ä b 'c'.txt": b"text", "deep/er": b"more", "big": os.urandom(BIG)}
    for name, content in contents.items():
        path = tmp_path / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {name: tmp_path / "here" / name for name in contents}


def sums(files: dict[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items()}


def test_all_arrives_and_nothing_is_sent_twice(front: Front, files: dict[str, Path], tmp_path: Path) -> None:
    store = ObjectStore(bucket("twice"))
    first, again = store.send(files), store.send(files)
    assert (first.files, first.size) == (4, BIG + 8)
    assert (again.files, again.size, again.contents) == (0, 0, first.contents)
    store.fetch(first.contents, lambda name: tmp_path / "there" / name)
    there = {name: tmp_path / "there" / name for name in files}
    assert sums(there) == sums(files)
    seen = len(front.seen)
    store.fetch(first.contents, lambda name: tmp_path / "there" / name)
    assert len(front.seen) == seen, "what is there is fetched again"


def test_a_damaged_object_is_sent_again(front: Front, files: dict[str, Path], tmp_path: Path) -> None:
    store = ObjectStore(bucket("damaged"))
    content = store.send(files).contents["big"]
    key = store.bucket.key(f"{content.sha256[:2]}/{content.sha256}")
    client("s3", "us-east-1").put_object(Bucket=BUCKET, Key=key, Body=b"something else")
    with pytest.raises(DataError, match=r"the content is wrong .* Delete the object there"):
        store.fetch({"big": content}, lambda name: tmp_path / name)
    assert not (tmp_path / "big").exists()
    assert store.send(files).files == 1
    store.fetch({"big": content}, lambda name: tmp_path / name)
    assert (tmp_path / "big").read_bytes() == files["big"].read_bytes()


@pytest.mark.parametrize("fault", ["cut", "flip", "SlowDown"])
@pytest.mark.parametrize("name", ["big", "ä b 'c'.txt"])
def test_an_upload_that_breaks_off_or_arrives_wrong_is_repeated(
    front: Front, files: dict[str, Path], tmp_path: Path, fault: str, name: str
) -> None:
    faults = [fault]
    front.fault = lambda method, path: faults.pop() if faults and method == "PUT" else ""
    store = ObjectStore(bucket(f"{fault} {len(name)}"))
    contents = store.send({name: files[name]}).contents
    assert not faults
    assert sum(line.startswith("PUT") for line in front.seen) > (2 if name == "big" else 1)
    store.fetch(contents, lambda name: tmp_path / "there" / name)
    assert (tmp_path / "there" / name).read_bytes() == files[name].read_bytes()


def test_a_download_that_breaks_off_is_repeated(front: Front, files: dict[str, Path], tmp_path: Path) -> None:
    store = ObjectStore(bucket("down"))
    contents = store.send(files).contents
    faults = ["cut", "cut"]
    front.fault = lambda method, path: faults.pop() if faults and method == "GET" else ""
    store.fetch(contents, lambda name: tmp_path / "there" / name)
    assert not faults
    assert sums({name: tmp_path / "there" / name for name in files}) == sums(files)


def test_without_network_it_says_so_and_leaves_nothing(front: Front, files: dict[str, Path], tmp_path: Path) -> None:
    contents = {"x": Content(sha256="0" * 64, size=1)}
    front.close()
    with pytest.raises(ServiceUnavailableError, match="AWS does not answer"):
        ObjectStore(bucket("no")).fetch(contents, lambda name: tmp_path / "there" / name)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_missing_object_and_a_full_disk_are_one_message_each(front: Front, tmp_path: Path) -> None:
    store = ObjectStore(bucket("missing"))
    with pytest.raises(DataError, match="not there any more"):
        store.fetch({"x": Content(sha256="0" * 64, size=1)}, lambda name: tmp_path / name)
    with pytest.raises(DiskFullError, match="volume_gb"):
        store.fetch({"x": Content(sha256="0" * 64, size=10**18)}, lambda name: tmp_path / name)


def test_a_file_replaced_all_the_time_arrives_whole(front: Front, tmp_path: Path) -> None:
    path, mirror, is_over = tmp_path / "checkpoint", Mirror(bucket("replaced")), threading.Event()
    path.write_bytes(b"a" * BIG)

    def replace() -> None:
        while not is_over.is_set():
            for letter in (b"b", b"a"):
                (tmp_path / "aside").write_bytes(letter * BIG)
                os.replace(tmp_path / "aside", path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(3):
            mirror.send({"checkpoint": path})
            mirror.fetch(["checkpoint"], lambda name: tmp_path / "there")
            assert len(set((tmp_path / "there").read_bytes())) == 1
    finally:
        is_over.set()
        thread.join()


def test_a_log_is_never_older_than_the_checkpoint_beside_it(front: Front, tmp_path: Path) -> None:
    """What a log says of the checkpoint is written before it: sent first, and fetched last."""
    (tmp_path / "log").write_text("1")
    (tmp_path / "checkpoint").write_bytes(b"a" * BIG)
    mirror = Mirror(bucket("order"))
    mirror.send({name: tmp_path / name for name in ("checkpoint", "log")})
    mirror.fetch(["log", "checkpoint"], lambda name: tmp_path / "there" / name)
    puts = [line for line in front.seen if line.startswith(("PUT", "POST")) and "order" in line]
    gets = [line for line in front.seen if line.startswith("GET") and "order" in line]
    assert "log" in puts[0]
    assert "checkpoint" in puts[-1]
    assert "log" in gets[-1]


@pytest.mark.parametrize(
    ("name", "is_inside"),
    [
        ("work/a", True),
        ("work", True),
        ("work/../b", False),
        ("/work/a", False),
        ("workshop", False),
        ("work//a", False),
    ],
)
def test_only_plain_paths_in_the_folders_are_inside(name: str, is_inside: bool) -> None:
    assert inside(name, ["work", "data/x"]) is is_inside


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("AccessDenied", ConfigError, r"no permission for s3:PutObject .*infra/aws"),
        ("ExpiredToken", ConfigError, r"credentials have expired .*aws sso login"),
        ("InvalidAccessKeyId", ConfigError, r"does not accept these credentials"),
        ("NoSuchBucket", ConfigError, r"no such bucket"),
        ("SlowDown", ServiceUnavailableError, r"Run again"),
        ("BadDigest", DataError, r"content is wrong"),
    ],
)
def test_each_refusal_is_one_message_without_keys(
    front: Front, files: dict[str, Path], code: str, error: type[Exception], message: str
) -> None:
    front.fault = lambda method, path: code if method == "PUT" else ""
    with pytest.raises(error, match=message) as found:
        ObjectStore(bucket("refused")).send({"x": files["deep/er"]})
    assert SECRET not in str(found.value)
    assert "AKIA" not in str(found.value)


def test_without_credentials_or_bucket_it_says_what_to_do(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"there is no such bucket\. Set `bucket`"):
        Bucket(client("s3", "us-east-1"), "another-bucket", "").check()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client.cache_clear()
    with pytest.raises(ConfigError, match=r"no AWS credentials .*aws sso login"):
        bucket("x").check()
