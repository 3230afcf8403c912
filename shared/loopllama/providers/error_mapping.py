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

from loopllama.catalog.providers import KNOWN, OWN
from loopllama.core import exact_json, redaction
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
from loopllama.providers import waits, wire
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
_TOO_LONG = re.compile(
    r"(?<!than the `)context[ _](?:length|window|size|limit)|prompt (?:is )?too long|input is too long"
    r"|too many (?:input|total) tokens"
    r"|(?:input )?token count .{0,40}exceeds|exceeds? the (?:model'?s )?maximum (?:number of )?(?:input )?tokens"
    r"|too large for model with \d+ maximum|reduce the length of (?:the|your) (?:messages|prompt|input)"
    r"|range of input length|exceed(?:ed|s)? (?:the )?(?:max message tokens|model token limit)"
    r"|input tokens exceed|maximum (?:prompt|input|sequence) length|tokens? \+ .?max_new_tokens.? must be"
    r"|\b(?:input|prompt)(?: length| tokens?)?(?: \(?\d{1,12}(?: tokens)?\)?)? exceeds? (?:the )?max(?:imum)?"
    r"(?: allowed)? length|exceeded maximum allowed content length|longer than the maximum model length"
    r"|too many tokens: |\binputs\b.{0,3} must have less than",
    re.IGNORECASE,
)
"""Groq says of a limit of the answer, not of the prompt, that it is "less than the `context_window`". The last lines:
SGLang (github.com/sgl-project/sglang, issue 4048), Volcano, Z.ai's 1261 "Prompt exceeds max
length"; Databricks; vLLM "The decoder prompt (length 2136) is longer than the maximum model length of 2048", also with
status 500; Cohere "too many tokens: size limit exceeded by 1523 tokens"; TGI "`inputs` must have less than 4096
tokens"."""
_NO_MONEY = (
    r"credit balance|insufficient (?:account )?(?:balance|credits?|funds)|out of credits?|(?:spend(?:ing)?|billing)"
    r"(?: hard)? (?:limit|cap)\b|(?:used all|requires more) (?:available )?credits|credits? (?:are|is) depleted"
    r"|in good standing|arrears|arrearage|balance is (?:insufficient|too low)|past invoices"
    r"|budget has been exceeded|exceededbudget|\bover (?:its |your )?budget\b|\u4f59\u989d\u4e0d\u8db3"
)
_OUT_OF_MONEY = re.compile(_NO_MONEY, re.IGNORECASE)
"""What says that money is missing, whatever the status: Z.ai's 1113 "Insufficient balance or no resource package"
(in Chinese too), LiteLLM's proxy "Budget has been exceeded!" and "ExceededBudget" (https://docs.litellm.ai/docs/proxy/
users), Gemini "Your prepayment credits are depleted" and its monthly spending cap, all of them with 429 as well."""
_OUT_OF_CREDIT = re.compile(
    _NO_MONEY + r"|insufficient quota|exceeded your current quota|usage limit|monthly included credits", re.IGNORECASE
)
"""The same with what, under status 429, may be said of a quota of a minute: Gemini has these words for it."""
_NO_CREDIT = {
    *("insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted", "billing_error"),
    *("exceeded_current_quota_error", "budget_exceeded"),
}
"""Codes for it, some of them with status 429: OpenAI's, Anthropic's, Moonshot's
(https://platform.moonshot.ai/docs/api/chat, errors), LiteLLM's proxy's."""
_MODEL_NAME = r"(?: (?:id|name|identifier|version))?(?:(?: is)?:)?(?: ?[\"'`(]?[\w./:@-]{1,160}[\"'`)]?[,;]?)?"
_GONE = (
    r"(?:do(?:es)? not exist|doesn't exist|not exist|(?:is|was|are)(?: not|n't)(?: currently)? (?:found|available)"
    r"|(?:can|could) ?(?:not|n't) be found|not found|(?:is|has been) (?:now )?(?:no longer|decommissioned|deprecated"
    r"|retired|discontinued|unavailable|shut down))"
)
_NO_MODEL = re.compile(
    rf"\b(?:model|deployment|endpoint)\b{_MODEL_NAME} ?{_GONE}|\bmodels/[\w.@-]{{1,160}} {_GONE}"
    r"|\b(?:no|unknown|invalid|unavailable) (?:such )?model(?: (?:id|name|identifier))?\b(?! (?:output|response|input))"
    r"|not a valid model\b|not found the model\b|unable to access (?:non-serverless )?model\b"
    r"|(?:don't|do not|does not) have access to (?:the |this )?model\b|\bno models? (?:is |are )?loaded\b"
    r"|failed to load (?:the )?model\b|\bmodel (?:is )?not loaded\b|\bno chat-capable models?\b",
    re.IGNORECASE,
)
"""That the model is not there: it is what is missing, with at most its name between. Bedrock writes "The model returned
the following errors" before whatever Claude says of a request. The last are LM Studio's (github.com/NousResearch/
hermes-agent, pull request 62765)."""
_STOPPED = re.compile(r"\bmodel (?:has |was |is )?(?:unloaded|crashed)|\bmodel is (?:still )?loading", re.IGNORECASE)
"""LM Studio's words, with status 400, for a model that another one has displaced or that has died: the next request
loads it again."""
_UNREADABLE = re.compile(
    r"tool_use_failed|output_parse_failed|json_validate_failed|failed to call a function"
    r"|error parsing tool call|failed to parse input at pos|invalid sequence as part of tooluse",
    re.IGNORECASE,
)
"""Codes and messages of servers that refuse what their own model wrote: Groq (status 400,
https://console.groq.com/docs/errors and github.com/pydantic/pydantic-ai, pull request 2774), Ollama (500,
github.com/ollama/ollama, issue 17638), llama.cpp (500, github.com/ggml-org/llama.cpp, issue 24644), Nova on Bedrock
(424, github.com/strands-agents/harness-sdk, issue 649). The request was right, and the next answer to it may be."""
_FILTERED = re.compile(
    r"content[ _]?(?:filter|policy)|content_?blocked|content exists risk|inappropriate content|data_?inspection_?failed"
    r"|\busage (?:policy|policies|guidelines)|flagged (?:by|as|for)|safety (?:system|policy)|considered high[ -]risk"
    r"|blocked by (?:the |our )?(?:safety|moderation)|(?:cyber|bio)_policy|new_sensitive|\u654f\u611f"
    r"|unsafe or sensitive content|prohibited_content",
    re.IGNORECASE,
)
"""What filters say that refuse a prompt, or what came of it, with a status of the request's: Anthropic "Output blocked
by content filtering policy", OpenAI `invalid_prompt` and `cyber_policy`, DeepSeek "Content Exists Risk"
(github.com/NousResearch/hermes-agent, issue 115218), Qwen `data_inspection_failed` (github.com/QwenLM/qwen-code, issue
2905), OpenRouter and xAI with status 403, MiniMax `new_sensitive`, Z.ai's 1301 (in Chinese too)."""
_TEMPLATE = re.compile(r"jinja exception|chat template", re.IGNORECASE)
"""llama.cpp's words, with status 500, for a conversation that the model's template does not take
(github.com/ggml-org/llama.cpp, common/chat.cpp): trying later is of no use, another form may be."""
_BAD_KEY = re.compile(
    r"(?:incorrect|invalid|wrong|expired|missing|no) api[ _-]?key|api[ _-]?key (?:is )?(?:not valid|invalid|expired"
    r"|missing)|\bvalid api[ _-]?key|unregistered callers|login fail",
    re.IGNORECASE,
)
"""What says that the key is wrong with another status than 401: xAI and Gemini with 400, Gemini without one 403."""
_OF_EVERY_MODEL = re.compile(
    r"at least one message is required|\bmessages?\b\W{0,3}(?:(?:array|list|field|parameter)\W{1,3})?(?:(?:must|may|can"
    r"|should)(?: ?not|n't) be (?:empty|null)|(?:is|are) (?:required|empty|missing|not specified)|: ?field required)"
    r"|\bcontents (?:is|are) not specified|\bmessages\b.{0,20}\bempty (?:array|list)|\[\] is too short.{0,5}messages"
    r"|(?:could not|cannot|failed to) (?:parse|decode) the (?:json|request) body|body (?:is not|contains no) valid json"
    r"|\bmodel\W{1,3}(?:field required|is required)|must provide a model parameter",
    re.IGNORECASE,
)
"""What refusals say of a request that no model takes: one without a message or a model, or that is no JSON. All others
are about this model, or this server: a tool, a parameter, a limit, a form. Another may take it, and a refusal costs
nothing, so the next fallback is tried. Nobody can list how servers say it (github.com/openclaw/openclaw, issues 1879
and 64840)."""
_MORE_THAN_THE_QUOTA = re.compile(r"limit:? (\d{1,15})\b,? .{0,20}requested:? (\d{1,15})\b", re.IGNORECASE)
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
_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://\S+")
_DETAIL_CHARACTERS = 500


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
    page = _PAGE.match(detail)
    detail = "a web page" if page else redaction.without(credentials.api_key, detail)[:_DETAIL_CHARACTERS]
    label = ", ".join([f"HTTP {status}", *codes[:1]])
    message = f"{credentials.provider} ({label}) on {model} at {shown(url)}: {detail or 'no explanation'}"
    if (page or status in (404, 405)) and not 300 <= status < 400:
        message = f"{message}. {what_is_missing(credentials, url)}"
    if 300 <= status < 400:
        message = f"{message}. The base URL redirects to {headers.get('location', '?')}; redirects are not followed."
    if kind is CredentialsRejected:
        message = f"{message}. {credentials.remedy()}"
    error = kind(
        message, retry_after=wait if kind.later else None, status=status, repeatable=kind is InvalidModelResponse
    )
    return judged(error, codes, detail)


def judged(error: ModelError, codes: Sequence[str], detail: str) -> ModelError:
    """Return a provider's error, which says of itself what its class does not: that the step fails at once where no
    model would take the request, and that no later try is of use where a quota is used up that is not there again
    within an hour, or the account's credit."""
    if type(error) is ModelRequestRejected and _OF_EVERY_MODEL.search(detail):
        error.next_model = False
    if type(error) is ModelThrottled and (
        (_OUT_OF_MONEY if error.status == 429 else _OUT_OF_CREDIT).search(detail)
        or error.status == 402
        or not _NO_CREDIT.isdisjoint(codes)
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
    if status == 500 and _TEMPLATE.search(detail):
        return ModelRequestRejected
    if status >= 400 and _UNREADABLE.search(" ".join([*names, detail])):
        return InvalidModelResponse
    kind = next((codes[name] for name in names if name in codes), None)
    if kind is None or kind is ModelRequestRejected:
        if status in (400, 413, 422, 500) and _TOO_LONG.search(detail):
            return ContextTooLong
        if status in (400, 402, 403, 412) and _OUT_OF_CREDIT.search(detail):
            return ModelThrottled  # another provider may serve, and this one again once it is paid
        if status in (400, 403, 422) and _BAD_KEY.search(detail):
            return CredentialsRejected
        if status in (400, 403, 422) and _FILTERED.search(" ".join([*names, detail])):
            return ContentFiltered
        if status in (400, 422) and _STOPPED.search(detail):
            return ModelUnavailable
        if status in (400, 422) and _NO_MODEL.search(detail):
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
    written = error.get("message") or error.get("Message") or error.get("detail") or value.get("message")
    written = written or wire.member(value, "base_resp").get("status_msg")
    detail = _as_text(written or error)
    parameter = error.get("param")
    named = f" (param: {parameter})" if isinstance(parameter, str) and parameter and parameter not in detail else ""
    if isinstance(raw := wire.member(error, "metadata").get("raw"), str) and raw not in detail:
        detail = f"{detail}: {raw}"  # OpenRouter's upstream, in its own words
    wait = waits.beside(value, error) if waits.in_text(detail) is None else None
    return list(_codes(error)), detail + named + (f" (retry in {wait:g}s)" if wait is not None else "")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value)[:2000]


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
