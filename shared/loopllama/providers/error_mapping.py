"""A provider's error answer as one of our `ModelError`s. The only place that decides which.

In this order: what says that the server could not read its own model's answer; a code that the provider's adapter
names; what the message says of a prompt that is too long or an account without credit, for which most providers have no
code; the HTTP status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from loopllama.catalog.providers import KNOWN, OWN, is_own_server
from loopllama.core import exact_json, redaction
from loopllama.core.patterns import late
from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    InvalidModelResponse,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.providers import error_words, waits, wire
from loopllama.providers.credentials import Credentials

_BY_STATUS: dict[int, type[ModelError]] = {
    401: CredentialsRejected,
    402: ModelThrottled,  # the account is out of credit: another provider may serve
    403: ModelNotAvailable,
    404: ModelNotAvailable,
    408: ModelTimeout,
    409: ModelUnavailable,
    410: ModelNotAvailable,
    413: ContextTooLong,
    425: ModelUnavailable,
    429: ModelThrottled,
    498: ModelThrottled,  # Groq: flex tier is at capacity
    499: ModelUnavailable,
    504: ModelTimeout,
    524: ModelTimeout,  # Cloudflare in front of a provider gave up waiting
}
_MORE_THAN_THE_QUOTA = late(r"limit:? (\d{1,15})\b,? .{0,20}requested:? (\d{1,15})\b", re.IGNORECASE)
"""OpenAI's and Groq's form: "Limit 30000, Requested 31024"."""
_MINIMAX = {
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 422,
    1027: 422,
    1039: 429,
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 429,
}
"""MiniMax's own codes, all under status 200, as statuses: https://platform.minimax.io/docs/api-reference/errorcode;
github.com/ENTERPILOT/GoModel, pull requests 640 and 1004."""
_OF_LOADING = (400, 422, 500, 503, 507)
_NO_ROOM = (
    "The server cannot load the model, or has no room for it: free memory there, give the model a shorter context, or "
    "name a smaller model or a fallback"
)
_STREAM_ONLY = (
    "The provider gives this answer in pieces only, which is understood of OpenAI's formats alone: name an "
    "OpenAI-compatible address of it, lower the agent's maxTokens where it is about the length, or name a fallback"
)
_PAGE = late(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_ADDRESS = late(r"https?://\S+")
_LOCATION = late(r"https?://[\w.:@\[\]-]{1,253}(?:/[\w.~%/+:@=-]{0,200})?(?:[?#]|$)", re.ASCII)
_DETAIL_CHARACTERS = 500
_CODE_CHARACTERS = 100
_MOST_READ = 10_000
"""Characters of a message that are looked through."""
_OF_THE_REQUEST = (error_words.TEMPLATE, error_words.STREAM_ONLY, error_words.EFFORT)
"""What servers say under status 500 of a request that they will not take in this form."""
_MESSAGES = ("message", "Message", "detail", "msg", "error_msg", "error_message", "errorMessage")
"""Members of an error that hold its words."""


def failure(
    status: int,
    headers: Mapping[str, str],
    codes: Sequence[str],
    detail: str,
    *,
    kinds: Mapping[str, type[ModelError]],
    credentials: Credentials,
    model: str,
    url: str,
) -> ModelError:
    """Return the error that an HTTP answer with an error status stands for.

    `codes` and `detail` are what its body holds, as `read_error` gives it; `kinds` maps the codes that the provider's
    dialect names. The message quotes at most 500 characters of the provider's own, with the key blotted out. It names
    the address `url`, and what may be missing in it where nobody of that API seems to live there.
    """
    wait = waits.asked(headers, detail)
    kind = kind_of(status, codes, detail, kinds)
    lacks_room = status in _OF_LOADING and is_own_server(credentials.provider) and error_words.NO_ROOM.search(detail)
    if lacks_room:
        kind = ModelNotAvailable  # elsewhere the next try may come to another machine
    page = _PAGE.match(detail)
    scrubbed = redaction.Scrubber([credentials.api_key, *redaction.of_headers(credentials.headers)]).text
    detail = "a web page" if page else scrubbed(detail)[:_DETAIL_CHARACTERS]
    label = ", ".join([f"HTTP {status}", *(scrubbed(code)[:_CODE_CHARACTERS] for code in codes[:1])])
    message = f"{credentials.provider} ({label}) on {model} at {shown(url)}: {detail or 'no explanation'}"
    if (page or status in (404, 405)) and not 300 <= status < 400:
        message = f"{message}. {what_is_missing(credentials, url)}"
    if 300 <= status < 400:
        message = f"{message}. The base URL redirects{_target(headers)}; redirects are not followed."
    if kind is CredentialsRejected:
        message = f"{message}. {credentials.remedy()}"
    if lacks_room:
        message = f"{message}. {_NO_ROOM}"
    if kind is ModelRequestRejected and error_words.STREAM_ONLY.search(detail):
        message = f"{message}. {_STREAM_ONLY}"
    error = kind(
        message, retry_after=wait if kind.later else None, status=status, repeatable=kind is InvalidModelResponse
    )
    return judged(error, codes, detail)


def _target(headers: Mapping[str, str]) -> str:
    """Return where a redirect leads, for a message: scheme, host and path, as far as they are an address."""
    location = headers.get("location", "")
    return f" to {shown(location)}" if _LOCATION.match(location) else ""


def judged(error: ModelError, codes: Sequence[str], detail: str) -> ModelError:
    """Return a provider's error, which says of itself what its class does not: that the step fails at once where no
    model would take the request, and that no later try is of use where a quota is used up that is not there again
    within an hour, or the account's credit."""
    if type(error) is ModelRequestRejected and error_words.OF_EVERY_MODEL.search(detail):
        error.next_model = False
    if type(error) is ModelThrottled and (
        (error_words.OUT_OF_MONEY if error.status == 429 else error_words.OUT_OF_CREDIT).search(detail)
        or error.status == 402
        or not error_words.NO_CREDIT.isdisjoint(codes)
        or waits.is_too_long(codes, detail, error.retry_after)
    ):
        error.later = False
    return error


def shown(url: str) -> str:
    """Return an address as messages may show it: without user name and query, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def without_addresses(error: Exception) -> str:
    """Return an error's message without addresses, which may have any word in them that a pattern looks for."""
    return _ADDRESS.sub("", str(error))


def what_is_missing(credentials: Credentials, url: str) -> str:
    """Return what may be wrong with an address at which there is another thing than the API, and the command that
    changes it."""
    if KNOWN.get(credentials.provider, OWN).by_role:
        return "Is the model one that the region has?"
    base = shown(credentials.base_url)
    missing = "" if re.search(r"/v\d", shown(url)) else f" Most servers have the API below /v1: {base}/v1"
    return (
        f"Is {base} the base URL of the API, and the model one that it has?{missing}. Set it with: loopllama --stack "
        f"NAME providers set {credentials.provider} --base-url URL"
    )


def status_in(value: Mapping[str, Any]) -> int:
    """Return the status of an error that stands in the body of an answer whose own status says that all is well, as
    gateways send it when their upstream fails late: the error's `code`, where that is one."""
    error, own = value.get("error"), wire.member(value, "base_resp").get("status_code")
    if own is not None and not error:
        return _MINIMAX.get(own, 502) if isinstance(own, int) else 502
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(status, str) and re.fullmatch("[0-9]{3}", status):
        status = int(status)
    return status if isinstance(status, int) and 400 <= status < 600 else 502


def kind_of(status: int, names: Iterable[str], detail: str, codes: Mapping[str, type[ModelError]]) -> type[ModelError]:
    """Return the class for a status, the codes and the message of an error."""
    names = list(names)
    if status == 500 and any(words.search(detail) for words in _OF_THE_REQUEST):
        return ModelRequestRejected
    if status >= 400 and error_words.UNREADABLE.search(" ".join([*names, detail])):
        return InvalidModelResponse
    kind = next((codes[name] for name in names if name in codes), None)
    may_be_too_long = kind in (None, ModelRequestRejected, ModelUnavailable) and status in (400, 413, 422, 500)
    if may_be_too_long and error_words.TOO_LONG.search(" ".join([*names, detail])):
        return ContextTooLong
    if kind is None or kind is ModelRequestRejected:
        if status in (400, 402, 403, 412) and error_words.OUT_OF_CREDIT.search(detail):
            return ModelThrottled  # another provider may serve, and this one again once it is paid
        if status in (400, 403, 422) and error_words.BAD_KEY.search(detail):
            return CredentialsRejected
        if status in (400, 403, 422) and error_words.FILTERED.search(" ".join([*names, detail])):
            return ContentFiltered
        if status in (400, 422) and error_words.STOPPED.search(detail):
            return ModelUnavailable
        if status in (400, 422) and error_words.NO_MODEL.search(detail):
            return ModelNotAvailable
        if status in (403, 404, 410):
            kind = None  # its code says no more than the status
    kind = kind or _BY_STATUS.get(status) or (ModelUnavailable if status >= 500 else ModelRequestRejected)
    if kind is ModelThrottled and (quota := _MORE_THAN_THE_QUOTA.search(detail)) and int(quota[2]) > int(quota[1]):
        return ContextTooLong  # no wait makes room for a request that is larger than the whole quota
    return kind


def read_error(body: bytes) -> tuple[list[str], str]:
    """Return the codes, most telling first, and the message of an error body of any of the shapes in use:
    `{"error": {"code", "type", "message"}}`, `{"error": text}`, `{"code", "message"}`, `{"detail": …}`, a list of one
    of these, or plain text. A `param` that the message does not name is put behind it, and so is a wait that stands
    beside it, and what a gateway passes on of its upstream."""
    try:
        value = exact_json.loads_around(body)
    except ValueError:
        return [], " ".join(body[:2000].decode("utf-8", "replace").split())
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return [], _as_text(value)
    error = value.get("error", value)
    if not isinstance(error, dict):
        return [], _as_text(error)
    written = next((error[key] for key in _MESSAGES if error.get(key)), None) or value.get("message")
    written = written or wire.member(value, "base_resp").get("status_msg")
    detail = _as_text(written or error)[:_MOST_READ]
    parameter = error.get("param")
    named = f" (param: {parameter})" if isinstance(parameter, str) and parameter and parameter not in detail else ""
    if isinstance(raw := wire.member(error, "metadata").get("raw"), str) and raw not in detail:
        detail = f"{detail}: {raw[:_MOST_READ]}"  # OpenRouter's upstream, in its own words
    wait = waits.beside(value, error) if waits.in_text(detail) is None else None
    return list(_codes(error)), detail + named + (f" (retry in {wait:g}s)" if wait is not None else "")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value, ascii_only=False)[:2000]


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    inner = error.get("innererror")
    if isinstance(inner, Mapping):  # Azure
        yield from _codes(inner)
    details = error["details"] if isinstance(error.get("details"), list) else []
    for detail in details:
        if isinstance(detail, Mapping) and isinstance(detail.get("reason"), str):  # google.rpc.ErrorInfo
            yield detail["reason"]
    for key in ("code", "type", "status", "__type"):
        if isinstance(error.get(key), str):
            yield error[key].rpartition("#")[2]  # AWS writes com.amazon.coral.service#AccessDeniedException
    for detail in details:
        violations = detail.get("violations") if isinstance(detail, Mapping) else None  # google.rpc.QuotaFailure
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, Mapping) and isinstance(violation.get("quotaId"), str):
                yield violation["quotaId"]
