"""Profiles, requests, states and cost of SageMaker jobs; whole lives of jobs are in tests/slow/test_sagemaker.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from miras.errors import ConfigError, DataError, ServiceUnavailableError
from miras.launch import sagemaker
from miras.launch.aws import client
from miras.launch.bundle import code_archive, files_of, name_of
from miras.launch.container import Instance
from miras.launch.job import HISTORY, JobSpec
from miras.launch.profiles import read_launch
from miras.launch.s3 import Bucket, Mirror
from miras.launch.sagemaker import SageMakerLaunch, SageMakerPlace
from miras.launch.sagemaker_files import RECORD, JobFiles, name_stem, record_sent
from miras.launch.sagemaker_state import billed_hours, state_of
from tests.slow.sagemaker_server import SageMakerServer
from tests.unit.launch.aws_services import BUCKET, moto, use

ROOT = Path(__file__).parents[3]
PROFILE = ROOT / "infra" / "launch" / "sagemaker.yaml"


def launch(**changes: object) -> SageMakerLaunch:
    found = read_launch(str(PROFILE))
    assert isinstance(found, SageMakerLaunch)
    return found.model_copy(update={"bucket": BUCKET, "image": "an-image", "poll_s": 0.05} | changes)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "profile.yaml"
    text = PROFILE.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("environment: {}", "environment: {HF_TOKEN: hf_x}", r"HF_TOKEN: secrets do not belong here"),
        ("environment: {}", "environment: {DB: 'http://me:word@host/x'}", r"DB: secrets do not belong here"),
        ("instance_type: ml.g5", "instance_type: g5", r"launch\.instance_type: .*pattern"),
        ("arn:aws:iam::123456789012:role/miras-job", "miras-job", r"launch\.role_arn: .*pattern"),
        ("spot: true", "spots: true", r"did you mean spot\?"),
        ("instance_count: 1", "instance_count: 3", r"processes 4 do not spread evenly over 3 nodes"),
    ],
)
def test_mistakes_in_a_profile_are_told_before_anything_runs(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        read_launch(str(changed(tmp_path, old, new)))
    assert "word@" not in str(found.value)
    assert "hf_x" not in str(found.value)


def test_more_than_the_cost_limit_is_not_even_submitted() -> None:
    with pytest.raises(ConfigError, match=r"max_run_hours 10 of 2 ml\.g5\.12xlarge .* may cost 141\.80 USD"):
        SageMakerPlace(launch(instance_count=2))


@pytest.mark.parametrize(
    ("changes", "left"),
    [({}, "bucket and image"), ({"bucket": BUCKET}, "image"), ({"image": "an-image"}, "bucket")],
)
def test_the_delivered_profile_is_refused_until_it_is_filled_in(changes: dict[str, str], left: str) -> None:
    delivered = read_launch(str(PROFILE))
    assert isinstance(delivered, SageMakerLaunch)
    with pytest.raises(ConfigError, match=rf"launch profile: {left}: still the delivered CHANGE-ME\. Fill in"):
        SageMakerPlace(delivered.model_copy(update=changes))


def test_this_machines_gpus_say_nothing_about_shares() -> None:
    assert launch(processes=16).number_of_shares() == 16
    assert launch(shares=3).number_of_shares() == 3


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def described(status: str, secondary: str, **more: Any) -> dict[str, Any]:
    headers = {"date": NOW.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    whole = {"TrainingJobStatus": status, "SecondaryStatus": secondary, "ResourceConfig": {"InstanceCount": 2}}
    return {**whole, "ResponseMetadata": {"HTTPHeaders": headers}, **more}


@pytest.mark.parametrize(
    ("status", "secondary", "reason", "state", "words"),
    [
        ("InProgress", "Pending", "", "waiting", "Pending"),
        ("InProgress", "Interrupted", "", "waiting", "Interrupted"),
        ("InProgress", "Training", "", "running", "Training"),
        ("Completed", "Completed", "", "done", ""),
        ("Stopped", "Stopped", "", "cancelled", "stopped"),
        ("Stopped", "MaxRuntimeExceeded", "", "failed", "raise `max_run_hours`"),
        ("Stopped", "MaxWaitTimeExceeded", "", "failed", "raise `max_wait_hours`"),
        ("Failed", "Failed", "CapacityError: none", "failed", "another `instance_type`"),
        ("Failed", "Failed", "ClientError: Cannot pull the image", "failed", "look at `image`"),
    ],
)
def test_every_state_of_sagemaker_is_one_of_ours(
    status: str, secondary: str, reason: str, state: str, words: str
) -> None:
    found = state_of(described(status, secondary, **({"FailureReason": reason} if reason else {})))
    assert found.state == state
    assert words in found.reason


def test_a_running_jobs_cost_is_its_billed_states_by_the_clock_of_aws() -> None:
    def change(status: str, start_h: float, end_h: float | None) -> dict[str, Any]:
        end = {"EndTime": NOW - timedelta(hours=end_h)} if end_h is not None else {}
        return {"Status": status, "StartTime": NOW - timedelta(hours=start_h), **end}

    changes = [
        change("Pending", 9, 6),
        change("Training", 6, 5),
        change("Interrupted", 5, 2),
        change("Training", 2, None),
    ]
    assert billed_hours(described("InProgress", "Training", SecondaryStatusTransitions=changes)) == pytest.approx(6)
    over = described("Completed", "Completed", SecondaryStatusTransitions=changes, BillableTimeInSeconds=1800)
    assert billed_hours(over) == pytest.approx(1)


def test_instances_are_numbered_by_their_hosts(tmp_path: Path) -> None:
    path = tmp_path / "resourceconfig.json"
    hosts = [f"algo-{number}" for number in (10, 2, 1)]
    path.write_text(json.dumps({"current_host": "algo-10", "hosts": hosts, "network_interface_name": "eth9"}))
    assert Instance.read(path) == Instance(2, ("algo-1", "algo-2", "algo-10"), "eth9")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture
def server(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerServer]:
    use(endpoint, monkeypatch, tmp_path)
    made = SageMakerServer(tmp_path / "sagemaker", endpoint)
    made.without_capacity.add("ml.g5.12xlarge")  # no container starts here
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", made.url)
    client.cache_clear()
    workspace = tmp_path / "work space"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    yield made
    made.close()
    client.cache_clear()


def spec() -> JobSpec:
    folder = Path("work/stage1/a 'key'")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.json").write_text("{}")
    Path("data").mkdir(exist_ok=True)
    (Path("data") / "x").write_text("x")
    return JobSpec("stage1", "a_module", folder / "request.json", "ranks", 4, 1, (Path("data"), Path("missing")))


def test_the_request_says_all_and_no_more(server: SageMakerServer) -> None:
    job = SageMakerPlace(launch(environment={"A": "b"}, cost_limit_usd=71.0)).submit(spec())
    (asked,) = server.requests
    mine = f"s3://{BUCKET}/miras/jobs/{job}"
    code = asked.pop("InputDataConfig")
    assert code[0]["DataSource"]["S3DataSource"]["S3Uri"].startswith(f"s3://{BUCKET}/miras/code/")
    assert asked == {
        "TrainingJobName": job,
        "AlgorithmSpecification": {
            "TrainingImage": "an-image",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/miras.zip"],
        },
        "RoleArn": "arn:aws:iam::123456789012:role/miras-job",
        "OutputDataConfig": {"S3OutputPath": f"{mine}/output"},
        "ResourceConfig": {"InstanceType": "ml.g5.12xlarge", "InstanceCount": 1, "VolumeSizeInGB": 300},
        "StoppingCondition": {"MaxRuntimeInSeconds": 36_000, "MaxWaitTimeInSeconds": 36_000 + 14 * 3600},
        "CheckpointConfig": {"S3Uri": f"{mine}/checkpoints", "LocalPath": "/opt/ml/checkpoints"},
        "EnableManagedSpotTraining": True,
        "Environment": {"A": "b", "MIRAS_JOB": mine},
        "RetryStrategy": {"MaximumRetryAttempts": 2},
        "Tags": [{"Key": "project", "Value": "miras"}, {"Key": "miras:work", "Value": "work/stage1/a _key_"}],
    }


def test_names_count_on_and_a_name_in_use_is_followed(server: SageMakerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    job, place = spec(), SageMakerPlace(launch())
    first = place.submit(job)
    assert first == f"{name_stem(job)}-1"
    monkeypatch.setattr(SageMakerPlace, "_jobs", lambda self, spec: [])  # the list is late: the same number again
    assert place.submit(job) == first
    monkeypatch.undo()
    assert len(server.jobs) == 1


def test_a_bad_end_is_not_attached_to(server: SageMakerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    job, place = spec(), SageMakerPlace(launch())
    assert place.attach(job) is None
    name = place.submit(job)
    while not place.state(name).is_over:
        pass
    assert "Run again later, or take another" in place.state(name).reason
    assert place.attach(job) is None
    server.jobs[name] |= {"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed"}
    assert place.attach(job) == name
    (job.folder / HISTORY).write_text(json.dumps({"job": name, "ended": "done"}) + "\n")
    assert place.attach(job) is None


def test_limits_image_bucket_and_network_are_one_message_each(
    server: SageMakerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.over_limit.add("ml.p5.48xlarge")
    with pytest.raises(ConfigError, match=r"over a limit of your account: .*Service Quotas"):
        SageMakerPlace(launch(instance_type="ml.p5.48xlarge")).submit(spec())
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/miras:7"
    with pytest.raises(ConfigError, match=r"miras:7: not in ECR\. Build and push it"):
        SageMakerPlace(launch(image=image)).submit(spec())
    with pytest.raises(ConfigError, match=r"no such bucket"):
        SageMakerPlace(launch(bucket="not-there")).submit(spec())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    client.cache_clear()
    with pytest.raises(ConfigError, match=r"no AWS credentials"):
        SageMakerPlace(launch()).submit(spec())
    assert server.jobs == {}


def test_out_of_sight_a_job_stays_as_it_was_for_a_while(
    server: SageMakerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, place = spec(), SageMakerPlace(launch())
    name = place.submit(job)
    before = place.state(name).state
    server.close()
    assert place.state(name).state == before
    assert "goes on meanwhile" in place.state(name).reason
    monkeypatch.setattr(sagemaker, "_PATIENCE_S", 0.0)
    with pytest.raises(ServiceUnavailableError):
        place.state(name)


def out(job: JobSpec) -> tuple[Mirror, JobFiles]:
    bucket = Bucket(client("s3", "us-east-1"), BUCKET, f"miras/jobs/{name_stem(job)}-1/out")
    return Mirror(bucket), JobFiles(bucket, "job", job)


def test_only_what_has_changed_is_brought(server: SageMakerServer, tmp_path: Path) -> None:
    job = spec()
    mirror, files = out(job)
    log = (job.folder / "log").as_posix()
    for text in ("1", "12"):
        (tmp_path / "there").write_text(text)
        mirror.send({log: tmp_path / "there"})
        files.bring(is_over=False)
        assert Path(log).read_text() == text
    stamp = Path(log).stat().st_mtime_ns
    files.bring(is_over=False)
    assert Path(log).stat().st_mtime_ns == stamp


def test_what_went_on_here_since_is_not_overwritten_by_an_older_job(server: SageMakerServer, tmp_path: Path) -> None:
    job = spec()
    mirror, files = out(job)
    names = {name: (job.folder / name).as_posix() for name in ("kept", "brought")}
    for name in names.values():
        Path(name).write_text("sent")
    record_sent(job, {name: Path(name) for name in names.values()})
    (tmp_path / "there").write_text("the job's")
    mirror.send(dict.fromkeys(names.values(), tmp_path / "there"))
    Path(names["kept"]).write_text("newer here")
    files.catch_up()
    assert [Path(name).read_text() for name in names.values()] == ["newer here", "the job's"]


@pytest.mark.parametrize("name", ["../outside", "miras/x.py", "/etc/x"])
def test_a_job_cannot_write_where_it_has_no_business(server: SageMakerServer, tmp_path: Path, name: str) -> None:
    job = spec()
    mirror, files = out(job)
    (tmp_path / "there").write_text("x")
    mirror.send({name: tmp_path / "there"})
    with pytest.raises(DataError, match="has no business there"):
        files.bring(is_over=True)


def test_a_job_is_given_what_it_reads_and_its_folder_but_not_our_records(server: SageMakerServer) -> None:
    job = spec()
    for name in (RECORD, "job.json", HISTORY, ".x.1.partial", "checkpoint.safetensors"):
        (job.folder / name).write_text("{}")
    folder = name_of(job.folder)
    found = files_of(job, own=RECORD)
    assert set(found) == {"data/x", f"{folder}/request.json", f"{folder}/checkpoint.safetensors"}


def test_the_code_is_the_same_archive_each_time() -> None:
    assert code_archive() == code_archive()
