"""Requests to AWS that no client of the SDK makes, signed with this process's credentials.

Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html. It covers the address, the
content type, the time and a hash of the body; a session's token goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from loopllama.aws import clients


def signed(url: str, body: bytes, service: str, region: str) -> Mapping[str, str]:
    """Return the headers that sign a POST of JSON for a service, by its name in signatures.

    Raises botocore's `NoCredentialsError` where this process has no credentials, and its other `BotoCoreError`s where
    they cannot be had.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import NoCredentialsError

    keys = clients.credentials()
    if keys is None:
        raise NoCredentialsError
    request = AWSRequest("POST", url, {"content-type": "application/json"}, body)
    SigV4Auth(keys, service, region).add_auth(request)
    return dict(request.headers.items())
