"""What a training job has printed, read from CloudWatch while it runs."""

from __future__ import annotations

import sys
from typing import Any

from miras.errors import ConfigError
from miras.launch.aws import action_of, aws_errors, code_of

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_MISSING = "ResourceNotFoundException"


class JobLog:
    """The log streams of a job, one per instance and start: `<job>/algo-1-<number>`."""

    def __init__(self, client: Any, job: str, *, is_alone: bool) -> None:
        """`is_alone`: the job has one instance."""
        self._client, self._job, self._is_alone = client, job, is_alone
        self._tokens: dict[str, str | None] = {}
        self._is_refused = False

    def new_text(self) -> str:
        """What was printed since the last call; of several instances each line begins with its name."""
        if self._is_refused:
            return ""
        try:
            with aws_errors(f"reading the log of {self._job}"):
                for name in self._streams():
                    self._tokens.setdefault(name, None)
                found = {name: self._read(name) for name in sorted(self._tokens)}
        except ConfigError as error:
            cause: Any = error.__cause__
            if code_of(cause) == _MISSING:  # nothing was printed yet
                return ""
            if "permission" not in str(error):
                raise
            self._is_refused = True  # the job does not need its log read
            print(f"{error} The job goes on without its output here ({action_of(cause)}).", file=sys.stderr, flush=True)
            return ""
        return "".join(
            f"{'' if self._is_alone else f'{_host(name)}: '}{line}\n" for name, lines in found.items() for line in lines
        )

    def _streams(self) -> list[str]:
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job}/"
        )
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    def _read(self, stream: str) -> list[str]:
        """Lines after the last token; the same token again means the end."""
        lines: list[str] = []
        while True:
            token = self._tokens[stream]
            start = {"nextToken": token} if token else {}
            page = self._client.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **start
            )
            lines += [event["message"].rstrip("\n") for event in page["events"]]
            self._tokens[stream] = page["nextForwardToken"]
            if page["nextForwardToken"] == token or not page["events"]:
                return lines


def _host(stream: str) -> str:
    return stream.rpartition("/")[2].rpartition("-")[0]
