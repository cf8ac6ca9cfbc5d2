"""Amazon's services through boto3: clients, and their errors as one message each.

Credentials come from boto3's own chain alone (environment, ~/.aws, SSO, the machine's role) and are never read here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from miras.errors import ConfigError, MirasError, ServiceUnavailableError

try:
    import boto3
    from botocore import exceptions as botocore
    from botocore.config import Config
except ImportError as error:  # an extra: see pyproject.toml
    raise ConfigError(f"{error}: AWS needs more packages. Run `pip install -c constraints.txt -e '.[aws]'`.") from None

POLICIES = "infra/aws"
CONNECTIONS = 32

_CREDENTIALS = "Log in (`aws sso login`), or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
_NO_CREDENTIALS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.TokenRetrievalError,
    botocore.SSOError,
    botocore.ProfileNotFound,
)
_UNREACHED = (botocore.HTTPClientError, botocore.ConnectionError, botocore.IncompleteReadError)
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN_KEY = {
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "AuthFailure",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AllAccessDisabled", "403"}
_BUSY = {
    "InternalError",
    "InternalFailure",
    "InternalServerException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_S3_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}


@lru_cache
def client(service: str, region: str | None) -> Any:
    """A boto3 client with retries; one per service and region, it may be used by several threads.

    Raises:
        ConfigError: no region is set, or AWS_PROFILE names no profile.
    """
    config = Config(
        retries={"mode": "standard", "max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", "6"))},
        connect_timeout=10,
        read_timeout=30,
        max_pool_connections=CONNECTIONS,
    )
    with aws_errors(f"opening {service}"):
        return boto3.Session(region_name=region).client(service, config=config)


@contextmanager
def aws_errors(doing: str) -> Iterator[None]:
    """Turns what boto3 raises into one message; `doing` says what it was about, such as "uploading to s3://b/k"."""
    try:
        yield
    except (botocore.BotoCoreError, botocore.ClientError) as error:
        raise as_miras_error(error, doing) from error


def code_of(error: BaseException | None) -> str:
    """The service's code of an error, such as `NoSuchKey`; empty if it is not the service's."""
    return str(error.response["Error"]["Code"]) if isinstance(error, botocore.ClientError) else ""


def as_miras_error(error: Exception, doing: str) -> MirasError:
    """An error of boto3's with what to do about it."""
    text = without_keys(str(error))
    if isinstance(error, _NO_CREDENTIALS):
        return ConfigError(f"{doing}: no AWS credentials ({text}). {_CREDENTIALS}")
    if isinstance(error, botocore.NoRegionError):
        return ConfigError(f"{doing}: no AWS region. Set `region` in the launch profile, or AWS_REGION.")
    if isinstance(error, _UNREACHED):
        return ServiceUnavailableError(f"{doing}: AWS does not answer ({text}). Run again when the network is back.")
    if not isinstance(error, botocore.ClientError):
        return ConfigError(f"{doing}: boto3 refused the request: {text}")
    return _service_error(error, code_of(error), doing, text)


def _service_error(error: Any, code: str, doing: str, text: str) -> MirasError:
    said = without_keys(str(error.response["Error"].get("Message", "")))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _EXPIRED:
        return ConfigError(f"{doing}: the AWS credentials have expired ({code}). {_CREDENTIALS}")
    if code in _UNKNOWN_KEY:
        return ConfigError(f"{doing}: AWS does not accept these credentials ({code}). {_CREDENTIALS}")
    if code in _DENIED:
        return ConfigError(
            f"{doing}: no permission for {action_of(error)} ({said or code}). Have it added to your policy "
            f"({POLICIES} holds one that suffices)."
        )
    if code == "NoSuchBucket":
        return ConfigError(f"{doing}: there is no such bucket. Set `bucket` in the launch profile, or make it.")
    if code in ("PermanentRedirect", "301") or status == 301:
        return ConfigError(f"{doing}: the bucket is in another region. Set `region` in the launch profile to that.")
    if code == "ResourceLimitExceeded":
        return ConfigError(
            f"{doing}: over a limit of your account: {said} Ask AWS for more (Service Quotas, SageMaker), take another "
            "`instance_type`, or fewer."
        )
    if code in _BUSY or status >= 500:
        return ServiceUnavailableError(f"{doing}: AWS cannot now ({text}). Run again in a while.")
    return ConfigError(f"{doing}: AWS refused it: {code}: {said}")


def action_of(error: Any) -> str:
    """The IAM action behind a failed call, such as `s3:PutObject`."""
    operation: str = error.operation_name
    if operation in _S3_ACTIONS or operation.endswith("Object"):
        return f"s3:{_S3_ACTIONS.get(operation, operation)}"
    service = next((service for service, words in _SERVICES.items() if any(word in operation for word in words)), "")
    return f"{service}:{operation}" if service else operation


_SERVICES = {
    "sagemaker": ("TrainingJob",),
    "logs": ("Log",),
    "ecr": ("Images", "Repositories"),
    "sts": ("CallerIdentity",),
}


def without_keys(text: str) -> str:
    """The text without access key ids."""
    return re.sub(r"\bA[SK]IA[A-Z0-9]{12,}", "(access key id)", text)
