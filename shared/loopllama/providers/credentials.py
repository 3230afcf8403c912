"""A provider's key and the host that it may be sent to.

Both come from one place: the environment (`OPENAI_API_KEY`, `OPENAI_BASE_URL`, …), else the provider's secret in
Secrets Manager, named `<PROVIDER_SECRETS_PREFIX><provider>`:

    {"api_key": "sk-…", "base_url": "https://…", "dialect": "openai", "api_version": "…", "headers": {"name": "value"}}

All but `api_key` are optional for a provider that `KNOWN` lists; a server of one's own needs `base_url`, and needs
`api_key` only if it asks for one. A secret that is no JSON is taken for the key itself. The local stack writes such a
secret for each server that people run themselves (Ollama, vLLM, …), at its usual port on this machine. A deployed stack
has none until somebody stores its address, so no row of a table makes a function call itself.

The host rule. A key goes to the provider's own host, or to the base URL that stands beside it, so that nobody who can
only edit a table can send it elsewhere. Where ALLOWED_PROVIDER_HOSTS is set, the host must moreover be the provider's
own or listed there (`llm.example.com`, `*.example.com` for subdomains). Plain http is for loopback hosts, and for
hosts listed with the scheme written out (`http://llm.internal`): a server inside a VPC, say.

A secret is read once per process and again after five minutes, or after the provider rejected the key, so that a
rotated key acts; when reading again fails, the old one serves on.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from loopllama.aws import clients
from loopllama.catalog.providers import KNOWN, Known, variables_of
from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import CredentialsRejected, ModelError, ModelNotAvailable, ModelUnavailable
from loopllama.providers import DIALECTS
from loopllama.settings import Settings

REREAD_SECONDS = 300.0
_ENDPOINT = late(r"/(?:(?:chat/)?completions|responses|v1/messages|models)/*$")
"""What people copy behind a base URL: the address of one call."""
_FIELDS = frozenset({"api_key", "base_url", "dialect", "api_version", "headers"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an adapter needs to reach a provider. `base_url` has no trailing slash; `api_key` may be empty for a server
    that asks for none; `source` says for a person where they come from."""

    provider: str
    base_url: str
    api_key: str = field(repr=False)
    source: str
    dialect: str = "openai"
    api_version: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def remedy(self) -> str:
        """Return what a person does about a wrong key."""
        return f"The key came from {self.source}; set the right one {_how(self.provider)}"


def from_environment(provider: str, environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the provider's `api_key` and `base_url` as the environment has them, in the form of its secret; `None`
    where it has neither."""
    for prefix in variables_of(provider):
        key = environment.get(f"{prefix}_API_KEY", "").strip()
        url = environment.get(f"{prefix}_BASE_URL", "").strip() or environment.get(f"{prefix}_ENDPOINT", "").strip()
        if key or url:
            fields = {"api_key": key, "base_url": url, "api_version": environment.get(f"{prefix}_API_VERSION", "")}
            return {name: value for name, value in fields.items() if value}
    return None


def credentials_for(provider: str, settings: Settings) -> Credentials:
    """Return the provider's credentials. Raises `CredentialsRejected` (missing, unreadable), `ModelNotAvailable` (a
    host that the key may not be sent to) and `ModelUnavailable` (Secrets Manager does not answer)."""
    fields = from_environment(provider, os.environ)
    if fields is not None:
        return checked(provider, fields, f"environment variable {variables_of(provider)[0]}_API_KEY", settings)
    name = secret_name(provider, settings)
    if name:
        kept = _kept.get(name)
        if kept is None or time.monotonic() - kept[1] > REREAD_SECONDS:
            kept = _read_again(provider, name, kept)
        if kept is not None:
            return checked(provider, kept[0], f"secret {name!r}", settings)
    known = KNOWN.get(provider)
    if known is not None and known.by_role:
        return checked(provider, {}, "the built-in list of providers", settings)
    if known is not None and known.local_server:
        raise CredentialsRejected(
            f"no address for provider {provider!r}: {known.base_url} is known to a local stack only. Set it "
            f"{_how(provider)} --base-url URL"
        )
    raise CredentialsRejected(
        f"no key for provider {provider!r}: neither environment variable {variables_of(provider)[0]}_API_KEY "
        + (f"nor secret {name!r}" if name else "nor a secret (PROVIDER_SECRETS_PREFIX is empty)")
        + f" is set. Set it {_how(provider)}"
    )


def secret_name(provider: str, settings: Settings) -> str:
    """Return the name of the provider's secret; empty where the deployment has none."""
    return f"{settings.provider_secrets_prefix}{provider}" if settings.provider_secrets_prefix else ""


def forget(provider: str, settings: Settings) -> None:
    """Read the provider's secret again at its next use: the provider rejected the key."""
    _kept.pop(secret_name(provider, settings), None)


def _how(provider: str) -> str:
    return f"with: loopllama providers set {provider}"


_kept: dict[str, tuple[Mapping[str, Any], float]] = {}
_lock = threading.Lock()


def _read_again(
    provider: str, name: str, kept: tuple[Mapping[str, Any], float] | None
) -> tuple[Mapping[str, Any], float] | None:
    with _lock:
        now = _kept.get(name)
        if now is not None and now is not kept:
            return now
        try:
            text = _read_secret(provider, name)
        except ModelUnavailable:
            if kept is None:
                raise
            fresh = (kept[0], time.monotonic())
        else:
            if text is None:
                _kept.pop(name, None)
                return None
            fresh = (_parse(provider, name, text), time.monotonic())
        _kept[name] = fresh
        return fresh


def _read_secret(provider: str, name: str) -> str | None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = clients.client("secretsmanager", read_seconds=3, attempts=2).get_secret_value(SecretId=name)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "ResourceNotFoundException":
            return None
        if (
            code in ("InternalServiceError", "ThrottlingException")
            or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
        ):
            raise ModelUnavailable(f"{provider}: secret {name!r} cannot be read now ({code})", against=False) from error
        if code == "InvalidRequestException":  # scheduled for deletion
            raise CredentialsRejected(
                f"{provider}: secret {name!r} cannot be used ({error}). Set it {_how(provider)}"
            ) from error
        raise CredentialsRejected(
            f"{provider}: secret {name!r} cannot be read ({code}); the function's role needs "
            f"secretsmanager:GetSecretValue on it. Set it {_how(provider)}"
        ) from error
    except BotoCoreError as error:
        message = f"{provider}: secret {name!r} cannot be read now ({type(error).__name__})"
        raise ModelUnavailable(message, against=False) from error
    return str(answer.get("SecretString") or "")


def _parse(provider: str, name: str, text: str) -> Mapping[str, Any]:
    text = text.strip("\ufeff \t\r\n")
    if not text.startswith("{"):
        return {"api_key": text}
    try:
        value = exact_json.loads(text)
    except ValueError as error:
        why = f": {error}" if isinstance(error, exact_json.NotTaken) else ""
        raise CredentialsRejected(
            f"{provider}: secret {name!r} is no JSON object{why}. Set it {_how(provider)}"
        ) from error
    unknown = sorted(set(value) - _FIELDS)
    if unknown:
        raise CredentialsRejected(
            f"{provider}: secret {name!r} has unknown fields {', '.join(unknown)}; it may have "
            f"{', '.join(sorted(_FIELDS))}. Set it {_how(provider)}"
        )
    return value  # type: ignore[no-any-return]


def checked(provider: str, fields: Mapping[str, Any], source: str, settings: Settings) -> Credentials:
    """Return credentials of the fields of a secret, which `source` names. Raises as `credentials_for` does."""

    def wrong(problem: str) -> ModelError:
        return CredentialsRejected(f"{provider}: {problem} in {source}. Set it {_how(provider)}")

    known = KNOWN.get(provider, Known())
    key, url, dialect = fields.get("api_key", ""), fields.get("base_url", ""), fields.get("dialect", known.dialect)
    headers, version = fields.get("headers", {}), fields.get("api_version", "")
    if not (isinstance(key, str) and isinstance(url, str) and isinstance(version, str)):
        raise wrong("api_key, base_url and api_version must be text")
    if not isinstance(headers, dict) or not all(
        isinstance(text, str) and text.isascii() and text.isprintable() for pair in headers.items() for text in pair
    ):
        raise wrong("headers must be an object of printable ASCII texts")
    allowed = [name for name, entry in DIALECTS.items() if entry.own_servers]
    if dialect not in allowed:
        raise wrong(f"dialect {dialect!r} is none of {', '.join(allowed)}")
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise wrong("api_key has characters that no key has")
    if not key and not known.keyless and not (provider not in KNOWN and url):
        raise wrong("no api_key is set")
    if not (url or known.base_url):
        raise wrong("base_url is needed, as this provider has no address of its own, and is missing")
    if url:
        _check_host(provider, url, known, source, settings.allowed_provider_hosts)
    base = _ENDPOINT.sub("", (url or known.base_url).rstrip("/"))
    return Credentials(provider, base, key, source, dialect, version, headers)


@functools.lru_cache(maxsize=64)  # the same few are asked for at every call; a refusal is not kept
def _check_host(provider: str, url: str, known: Known, source: str, allowed: tuple[str, ...]) -> None:
    """Raise `ModelNotAvailable` for a URL that a key may not be sent to."""

    def refuse(why: str) -> ModelError:
        return ModelNotAvailable(f"{provider}: the base_url in {source} {why}")

    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        _ = parts.port
    except ValueError as error:
        raise refuse(f"is no URL: {error}") from error
    if parts.scheme not in ("https", "http") or not host or parts.username or parts.query or parts.fragment:
        raise refuse("must be https://host[:port][/path], without user name, query or fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise refuse("must be plain ASCII")
    if parts.scheme == "http" and not _loopback(host) and not _matches(host, _with_http(allowed)):
        raise refuse(
            f"uses http. Use https, or let the deployment's ALLOWED_PROVIDER_HOSTS name http://{host} if that host "
            "may get the key unencrypted"
        )
    known_hosts = (urlsplit(known.base_url).hostname or "", *known.hosts)
    if allowed and not _matches(host, known_hosts) and not _matches(host, tuple(_bare(entry) for entry in allowed)):
        raise refuse(f"names the host {host}, which the deployment's ALLOWED_PROVIDER_HOSTS does not list")


def _with_http(allowed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_bare(entry) for entry in allowed if entry.startswith("http://"))


def _bare(entry: str) -> str:
    return entry.removeprefix("http://").removeprefix("https://").rstrip("/").lower()


def _matches(host: str, patterns: tuple[str, ...]) -> bool:
    return any(
        host.endswith(pattern[1:]) and host != pattern[2:] if pattern.startswith("*.") else host == pattern
        for pattern in patterns
        if pattern
    )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
