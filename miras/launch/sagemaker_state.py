"""What SageMaker's description of a training job says: how it stands, what it has cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from miras.launch.job import JobState

_RUNNING = ("Training", "Uploading", "Stopping")
_BILLED = ("Downloading", "Training", "Uploading", "Stopping")
_LIMITS = {
    "MaxRuntimeExceeded": "it ran for as long as it may; raise `max_run_hours` (and `cost_limit_usd`) to go on",
    "MaxWaitTimeExceeded": "it waited and ran for as long as it may; raise `max_wait_hours`, or set `spot: false`",
}
_ADVICE = {
    "Capacity": "AWS has none of these instances free now. Run again later, or take another `instance_type`",
    "Cannot pull": "the image cannot be fetched; look at `image` and at the role's ECR permissions",
    "AccessDenied": "the job's role lacks a permission; infra/aws holds a policy that suffices",
}


def state_of(described: Mapping[str, Any]) -> JobState:
    """The job's state with SageMaker's own words."""
    status, secondary = described["TrainingJobStatus"], described["SecondaryStatus"]
    if status in ("InProgress", "Stopping"):
        return JobState("running" if secondary in _RUNNING else "waiting", _words(described))
    if status == "Completed":
        return JobState("done")
    if secondary in _LIMITS:
        return JobState("failed", f"{secondary}: {_LIMITS[secondary]}")
    if status == "Stopped":
        return JobState("cancelled", "stopped")
    reason = described.get("FailureReason", secondary)
    advice = next((text for word, text in _ADVICE.items() if word in reason), "")
    return JobState("failed", f"{reason}{f' ({advice})' if advice else ''}")


def _words(described: Mapping[str, Any]) -> str:
    changes = described.get("SecondaryStatusTransitions") or [{}]
    return f"{described['SecondaryStatus']}: {changes[-1].get('StatusMessage', '')}".rstrip(": ")


def billed_hours(described: Mapping[str, Any]) -> float:
    """Hours of instances that the job has used and AWS counts: for one that is over as billed, else an upper bound."""
    instances = int(described["ResourceConfig"].get("InstanceCount", 1))
    if "BillableTimeInSeconds" in described:
        return float(described["BillableTimeInSeconds"]) * instances / 3600
    now = _now(described)
    seconds = sum(
        ((change.get("EndTime") or now) - change["StartTime"]).total_seconds()
        for change in described.get("SecondaryStatusTransitions", ())
        if change["Status"] in _BILLED
    )
    return max(0.0, seconds) * instances / 3600


def _now(described: Mapping[str, Any]) -> datetime:
    """By the clock of AWS, not by ours."""
    return parsedate_to_datetime(described["ResponseMetadata"]["HTTPHeaders"]["date"])
