"""Values of a run: small ones live inline in its record, large ones in the bucket, by reference."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from loopllama.aws import clients
from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama.settings import Settings

INLINE_BYTES = 32 * 1024
"""A value whose JSON is longer goes to the bucket: DynamoDB's items end at 400 KB, Step Functions' state at 256 KiB,
and a write costs a unit a KB."""
MAX_BYTES = 16 * 1024 * 1024
"""The longest value taken at all; a Lambda function holds several in memory at once."""

PARTS = "$parts"
"""A text that is put together from others: `{"$parts": [texts as they are stored], "bytes": n}` (`runs/prompts.py`)."""
_S3, _JSON = "$s3", "$json"
_QUOTED_CHARACTERS = 4 * 1024 * 1024
"""Of texts from the bucket that a process keeps for the next prompt that quotes them."""
_REMEMBERED = 10_000
"""Values whose storing a process remembers: who asks for a large run again and again has its values stored once."""


class ValueStore:
    """Stores and reads values of runs. Writing the same value under the same name twice is harmless.

    In the record a text is itself, any other value `{"$json": its JSON}`, which keeps numbers and nesting that
    DynamoDB's own types refuse, and a large value `{"$s3": key, "bytes": n}`.
    """

    def __init__(self, settings: Settings, s3: Any = None) -> None:
        self._bucket = settings.values_bucket
        self._s3 = s3
        self._there: set[str] = set()
        self._quoted: dict[str, str] = {}

    def _client(self) -> Any:
        if self._s3 is None:
            self._s3 = clients.client("s3")
        return self._s3

    def store(self, run_id: str, name: str, value: Any, inline_bytes: int = INLINE_BYTES) -> Any:
        """Return what the record holds for `value`. Raises `InvalidRequest` over `MAX_BYTES`."""
        try:
            text = exact_json.dumps(value)
        except ValueError as error:  # NaN and infinities
            raise InvalidRequest(f"{name} cannot be kept: {error}") from error
        data = text.encode()
        if len(data) <= inline_bytes:
            return value if isinstance(value, str) or value is None else {_JSON: text}
        if len(data) > MAX_BYTES:
            raise InvalidRequest(f"{name} has {len(data):,} bytes of JSON; at most {MAX_BYTES:,} are taken")
        # The key carries the content's hash, so that a late writer never replaces what a record points to.
        key = f"runs/{run_id}/{name}-{hashlib.sha256(data).hexdigest()[:16]}.json"
        if key not in self._there:
            self._client().put_object(Bucket=self._bucket, Key=key, Body=data, ContentType="application/json")
            if len(self._there) >= _REMEMBERED:
                self._there.clear()
            self._there.add(key)
        return {_S3: key, "bytes": len(data)}

    def load(self, stored: Any) -> Any:
        """Return the value behind what `store` returned."""
        if not isinstance(stored, dict):
            return stored
        if _JSON in stored:
            return exact_json.loads_kept(stored[_JSON])
        if PARTS in stored:
            return "".join(self._quote(part) for part in stored[PARTS])
        return exact_json.loads_kept(self._client().get_object(Bucket=self._bucket, Key=stored[_S3])["Body"].read())

    def begins(self, stored: Any, beginning: str) -> bool:
        """Return whether a value begins with a text: where it is no text itself, its JSON does. Of a value in the
        bucket only the beginning is read; one that is gone from there begins with nothing."""
        if not self.is_reference(stored):
            text = stored[_JSON] if isinstance(stored, dict) else stored
            return isinstance(text, str) and text.startswith(beginning)
        quoted, plain = exact_json.dumps(beginning)[:-1].encode(), beginning.encode()
        client = self._client()
        try:
            answer = client.get_object(
                Bucket=self._bucket, Key=stored[_S3], Range=f"bytes=0-{max(len(quoted), len(plain)) - 1}"
            )
        except client.exceptions.ClientError as error:
            if not _is_gone(error):
                raise
            return False
        data: bytes = answer["Body"].read()
        return data.startswith(quoted if data.startswith(b'"') else plain)

    def _quote(self, stored: Any) -> str:
        """Return a text of a prompt. Prompts of one run quote the same few, so that one from the bucket is read
        once."""
        if not self.is_reference(stored):
            return str(stored)
        text = self._quoted.get(stored[_S3])
        if text is None:
            text = str(self.load(stored))
            if sum(map(len, self._quoted.values())) + len(text) > _QUOTED_CHARACTERS:
                self._quoted = {}
            self._quoted[stored[_S3]] = text
        return text

    @staticmethod
    def is_reference(stored: Any) -> bool:
        """Return whether what a record holds is a value in the bucket."""
        return isinstance(stored, dict) and _S3 in stored

    @staticmethod
    def fingerprint(stored: Any) -> str | None:
        """Return what tells by itself, without a look into the bucket, whether two values are equal: equal fingerprints
        are equal values. Unequal ones may be equal values that were stored in another way. `None` for no value."""
        if stored is None:
            return None
        if isinstance(stored, dict) and _S3 in stored:
            # The key ends with the hash of the content, behind the run's id and the value's name.
            return "s3-" + str(stored[_S3]).rpartition("-")[2]
        if isinstance(stored, dict) and PARTS in stored:
            parts = stored[PARTS]
            if all(isinstance(part, str) for part in parts):
                return _hash("".join(parts))
            return _hash("".join(f"{ValueStore.fingerprint(part)};" for part in parts))
        return _hash(str(stored[_JSON]) if isinstance(stored, dict) and _JSON in stored else str(stored))

    def renew(self, stored: Mapping[str, Any]) -> bool:
        """Let a value in the bucket count as new, so that its age deletes it later; `False` where it is gone."""
        key, client = stored[_S3], self._client()
        try:
            client.copy_object(
                Bucket=self._bucket,
                Key=key,
                CopySource={"Bucket": self._bucket, "Key": key},
                ContentType="application/json",
                MetadataDirective="REPLACE",  # S3 copies an object onto itself only if something changes
            )
        except client.exceptions.ClientError as error:
            if not _is_gone(error):
                raise
            return False
        return True

    def link(self, stored: Any, seconds: int = 3600) -> str | None:
        """Return a signed link to a value in the bucket, valid for `seconds`; `None` for an inline value."""
        if not self.is_reference(stored):
            return None
        url: str = self._client().generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": stored[_S3]}, ExpiresIn=seconds
        )
        return url


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _is_gone(error: Any) -> bool:
    """Return whether S3 says that an object is not there; without the right to list, it says that it is forbidden."""
    return error.response["Error"]["Code"] in ("NoSuchKey", "AccessDenied")
