"""Secrets of HTTP tools: read from Secrets Manager by the function, never seen by a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import ToolFailed
from loopllama.tools.definitions import Aws, Fields

REREAD_SECONDS = 300.0
_OF_TOOLS = late(r"(?:arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:)?[A-Za-z][A-Za-z0-9-]*/tools/[^:]+")
"""Names, or ARNs, of the secrets that are a stack's tools' own."""

_kept: dict[str, tuple[str, float]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Secret:
    """`{"name": of the secret, "header": that it goes to, "prefix"?: before it, "field"?: of a JSON secret}`.

    It goes to the definition's own host and no other, redirects included.
    """

    name: str
    header: str
    prefix: str
    field: str

    @classmethod
    def read(cls, fields: Fields, header_name: Callable[[str, Fields], str]) -> Secret:
        """From its definition. Raises `ToolInvalid`."""
        secret = cls(
            fields.text("name", longest=512),
            header_name(fields.text("header", "Authorization"), fields),
            fields.text("prefix", "", longest=100),
            fields.text("field", "", longest=100),
        )
        if not _OF_TOOLS.fullmatch(secret.name):
            # A provider's key must not come into a definition's hands, whatever the function's role could read.
            raise fields.wrong("name", f"must begin with <stack>/tools/, not be {secret.name[:100]!r}")
        if not secret.prefix.isascii() or (secret.prefix and not secret.prefix.isprintable()):
            raise fields.wrong("prefix", "must be printable ASCII")
        fields.done()
        return secret

    def value(self, aws: Aws, tool: str) -> str:
        """Return the secret, read at most every five minutes; an old one serves on while it cannot be read. Raises
        `ToolFailed`."""
        from botocore.exceptions import BotoCoreError, ClientError

        with _lock:
            kept = _kept.get(self.name)
            if kept is None or time.monotonic() - kept[1] > REREAD_SECONDS:
                try:
                    client = aws.client("secretsmanager", read_seconds=5, attempts=2)
                    text = client.get_secret_value(SecretId=self.name).get("SecretString", "").strip()
                except (BotoCoreError, ClientError) as error:
                    if kept is None:
                        raise self._unusable(tool, f"cannot be read ({_code(error)})") from error
                    text = kept[0]
                kept = _kept[self.name] = (text, time.monotonic())
        return self._taken(tool, kept[0])

    def forget(self) -> None:
        """Read it again at the next use."""
        _kept.pop(self.name, None)

    def _taken(self, tool: str, text: str) -> str:
        if self.field:
            try:
                text = exact_json.loads(text)[self.field]
            except (ValueError, TypeError, KeyError):
                raise self._unusable(tool, f"is no JSON object with the field {self.field!r}") from None
        if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
            raise self._unusable(tool, "is not a line of printable ASCII")
        return text

    def _unusable(self, tool: str, why: str) -> ToolFailed:
        return ToolFailed(
            f"{tool} cannot be used: its secret {self.name!r} {why}. Whoever runs this deployment sets it with: "
            f"aws secretsmanager create-secret --name {self.name} --secret-string VALUE"
        )


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
