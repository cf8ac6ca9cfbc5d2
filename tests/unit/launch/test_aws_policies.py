"""The policies of infra/aws allow what the code does and no more; S3's are enforced here, by moto."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from miras.errors import ConfigError
from miras.launch.s3 import PART_BYTES, Bucket, Content, Mirror, ObjectStore
from tests.unit.launch.aws_services import BUCKET, moto

FOLDER = Path(__file__).parents[3] / "infra" / "aws"
EVERYWHERE = {"sagemaker:ListTrainingJobs", "ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}
Login = Callable[[str], Any]
"""Name of a policy -> an S3 client that may do what it allows."""


@pytest.fixture
def login() -> Iterator[Login]:
    with moto() as address:
        place = {"region_name": "us-east-1", "endpoint_url": address}
        iam = boto3.client("iam", aws_access_key_id="aws", aws_secret_access_key="aws", **place)
        values = {"BUCKET": BUCKET, "PREFIX": "miras", "ACCOUNT": "123456789012", "REGION": "us-east-1"}
        clients = {}
        for name in ("submit-policy", "job-policy"):
            text = (FOLDER / f"{name}.json").read_text("utf-8")
            for word, value in values.items():
                text = text.replace(word, value)
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=text)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
            clients[name] = boto3.client("s3", **place, **keys)
        enforce(address, "0")
        yield clients.__getitem__
        enforce(address, "inf")


def enforce(address: str, after: str) -> None:
    """moto looks at policies from the call of this number on."""
    request = urllib.request.Request(
        f"{address}/moto-api/reset-auth", after.encode(), {"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(request).close()


def test_who_submits_and_the_job_may_do_their_part_and_no_more(login: Login, tmp_path: Path) -> None:
    submit, job = login("submit-policy"), login("job-policy")
    files = {"small": tmp_path / "small", "big": tmp_path / "big"}
    files["small"].write_bytes(b"x")
    files["big"].write_bytes(bytes(PART_BYTES + 1))

    Bucket(submit, BUCKET, "miras").check()
    given = ObjectStore(Bucket(submit, BUCKET, "miras/objects")).send(files).contents
    Mirror(Bucket(submit, BUCKET, "miras/jobs/j-1")).send({"job.json": files["small"]})
    ObjectStore(Bucket(job, BUCKET, "miras/objects")).fetch(given, lambda name: tmp_path / "there" / name)
    Bucket(job, BUCKET, "miras/jobs/j-1").fetch("job.json", tmp_path / "order")
    Mirror(Bucket(job, BUCKET, "miras/jobs/j-1/out")).send(files)
    assert set(Bucket(job, BUCKET, "miras/jobs/j-1/out").list()) == set(files)
    Mirror(Bucket(submit, BUCKET, "miras/jobs/j-1/out")).fetch(files, lambda name: tmp_path / "back" / name)

    elsewhere: list[Callable[[], object]] = [
        lambda: Mirror(Bucket(submit, BUCKET, "others")).send(files),
        lambda: Mirror(Bucket(job, BUCKET, "miras/objects")).send(files),
        lambda: Mirror(Bucket(job, BUCKET, "miras/code")).send(files),
        lambda: Mirror(Bucket(job, BUCKET, "miras/jobs/j-1")).send({"job.json": files["small"]}),
        lambda: ObjectStore(Bucket(job, BUCKET, "others")).fetch(
            {"x": Content(sha256="0" * 64, size=1)}, lambda name: tmp_path / name
        ),
    ]
    for do in elsewhere:
        with pytest.raises(ConfigError, match=r"no permission for s3:(Put|Get)Object"):
            do()


@pytest.mark.parametrize("name", ["submit-policy", "job-policy"])
def test_a_policy_allows_no_action_or_resource_at_large(name: str) -> None:
    for statement in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in action for action in actions)
        assert statement["Resource"] != "*" or set(actions) <= EVERYWHERE
