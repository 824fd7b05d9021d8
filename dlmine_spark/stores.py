"""Object stores: who is asked before work begins, how long anybody waits, and what errors of S3 mean. No Spark.

Credentials come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``) or from
the machine's role, as every client of S3 finds them by itself: they pass through none of our values.
``AWS_ENDPOINT_URL`` names a server of another maker, ``AWS_REGION`` the region.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import pyarrow.fs as arrow_fs

from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.redaction import without_credentials

log = logging.getLogger(__name__)

S3_SCHEMES = ("s3a", "s3", "s3n")
DEFAULT_REGION = "us-east-1"
"""Servers of other makers have none, and clients want one."""
ASK_SECONDS = 8.0
"""How long a store may take to answer the first question."""
READER_LIMITS = {"connect_timeout": "5s", "timeout": "30s", "max_retries": "3", "retry_timeout": "40s"}
"""How long training ranks wait for a file, and how often they ask again."""

_NO_BUCKET = re.compile(r"NoSuchBucket|NO_SUCH_BUCKET|UnknownStoreException|bucket does not exist", re.IGNORECASE)
_WRONG_CREDENTIALS = re.compile(
    r"InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|InvalidClientTokenId|"
    r"UNRECOGNIZED_CLIENT|InvalidToken|ExpiredToken|EXPIRED_TOKEN"
)
_NO_CREDENTIALS = re.compile(
    r"NoAuthWithAWSException|NoAwsCredentials|Unable to load credentials|CredentialsNotLoaded|no providers in chain|"
    r"instance credentials|credential provider was not enabled|MISSING_AUTHENTICATION_TOKEN"
)
_NO_RIGHTS = re.compile(r"\bAccessDenied\b|ACCESS_DENIED|AccessDeniedException|403 Forbidden|Status Code: 403")
_NO_ANSWER = re.compile(
    r"NETWORK_CONNECTION|REQUEST_TIMEOUT|Could not connect to server|Connection refused|UnknownHostException|"
    r"ConnectTimeoutException|SocketTimeoutException|tcp connect error|error sending request|dns error|"
    r"operation timed out|Timeout was reached|Unable to execute HTTP request"
)


def is_s3(address: str) -> bool:
    """Whether an address is one of S3, or of a server that speaks as it does."""
    return urlsplit(address).scheme in S3_SCHEMES


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    """The address of a server of another maker, None where it is Amazon's."""
    return environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None


def region_of(environment: Mapping[str, str]) -> str | None:
    """The region, None where only the bucket can tell."""
    named = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return named or (DEFAULT_REGION if endpoint_of(environment) else None)


def reader_options(address: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Options of ``deltalake`` for a table there; none of them is secret."""
    if not is_s3(address):
        return {}
    options = dict(READER_LIMITS)
    endpoint, region = endpoint_of(environment), region_of(environment)
    if endpoint is not None:
        options["aws_endpoint_url"] = endpoint
        if endpoint.startswith("http://"):
            options["aws_allow_http"] = "true"
    if region is not None:
        options["aws_region"] = region
    return options


def explained(text: str, address: str, environment: Mapping[str, str]) -> str | None:
    """What an error of S3, by whatever client, means and what to try; None where it is something else.

    Args:
        text: of the error, with all it has to say.
        address: that was asked for.
        environment: names the server.
    """
    if not is_s3(address):
        return None
    bucket = urlsplit(address).netloc.rpartition("@")[2]
    server = without_credentials(endpoint_of(environment) or "Amazon S3")
    if _NO_BUCKET.search(text):
        return f"there is no bucket {bucket} at {server}: make it, or see the address (AWS_ENDPOINT_URL, AWS_REGION)"
    if _WRONG_CREDENTIALS.search(text):
        return (
            f"{server} does not take these credentials for bucket {bucket}: see AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and, of those for a time, AWS_SESSION_TOKEN in the environment"
        )
    if _NO_CREDENTIALS.search(text):
        return (
            f"there are no credentials for bucket {bucket} at {server}: export AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or run where the machine has a role"
        )
    if _NO_RIGHTS.search(text):
        return f"{server} denies access to bucket {bucket}: its credentials lack the right to list, read or write there"
    if _NO_ANSWER.search(text):
        return f"{server} does not answer (bucket {bucket}): is it running, and is that its address (AWS_ENDPOINT_URL)?"
    return None


def require_store(address: str, environment: Mapping[str, str]) -> bool:
    """See within seconds whether a bucket is there; addresses of other stores are not looked at.

    Returns:
        Whether it was seen; not where only Spark's client may know how.

    Raises:
        EnvironmentProblem: no server answers, it has no such bucket, or it does not know the credentials.
    """
    if not is_s3(address):
        return False
    parsed = urlsplit(address)
    try:
        store = _store(environment)
        try:
            store.get_file_info(arrow_fs.FileSelector(f"{parsed.netloc}{parsed.path}".rstrip("/")))
        except FileNotFoundError:
            # Nothing lies there yet; of a bucket that is not there, this client may say the same.
            if store.get_file_info(parsed.netloc).type == arrow_fs.FileType.NotFound:
                raise EnvironmentProblem(
                    f"lakehouse.root {address}: {explained('NoSuchBucket', address, environment)}"
                ) from None
    except OSError as error:
        text = str(error)
        if not any(sure.search(text) for sure in (_NO_BUCKET, _WRONG_CREDENTIALS, _NO_ANSWER)):
            # Spark's client may know a way that this one does not: another region, credentials of its own.
            log.debug("%s could not be looked at: %s", address, without_credentials(text))
            return False
        raise EnvironmentProblem(f"lakehouse.root {address}: {explained(text, address, environment)}") from error
    log.debug("%s answers", address)
    return True


def _store(environment: Mapping[str, str]) -> arrow_fs.S3FileSystem:
    endpoint, options = endpoint_of(environment), {}
    if endpoint is not None:
        place = urlsplit(endpoint)
        options = {"endpoint_override": place.netloc.rpartition("@")[2], "scheme": place.scheme}
    return arrow_fs.S3FileSystem(
        region=region_of(environment),
        connect_timeout=ASK_SECONDS,
        request_timeout=ASK_SECONDS,
        retry_strategy=arrow_fs.AwsStandardS3RetryStrategy(max_attempts=2),
        **options,
    )
