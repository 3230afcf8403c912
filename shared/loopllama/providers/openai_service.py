"""What OpenAI and Azure have in common in each of their wire formats: the key's header, addresses, codes of errors,
schemas that are not held to.

Azure differs in the address and in the key's header: https://learn.microsoft.com/azure/ai-foundry/openai/reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

from loopllama.catalog.providers import KNOWN
from loopllama.core.patterns import late
from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelNotAvailable,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.llm.schema_restating import Restated
from loopllama.llm.types import ModelRequest, Usage
from loopllama.providers import streams
from loopllama.providers.credentials import Credentials
from loopllama.providers.http_adapter import Access, ApiKey, HttpAdapter

CODES: Mapping[str, type[ModelError]] = {
    "context_length_exceeded": ContextTooLong,
    **dict.fromkeys(
        (f"{who}_model_access_denied" for who in ("key", "team", "user", "org", "project")), ModelNotAvailable
    ),
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    "request_too_large": ContextTooLong,
    "invalid_api_key": CredentialsRejected,
    "invalid_authentication": CredentialsRejected,
    "authentication_error": CredentialsRejected,
    "API_KEY_INVALID": CredentialsRejected,  # Gemini
    "UNAUTHENTICATED": CredentialsRejected,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "ResponsibleAIPolicyViolation": ContentFiltered,  # Azure
    "model_not_found": ModelNotAvailable,
    "model_decommissioned": ModelNotAvailable,  # Groq
    "model_not_available": ModelNotAvailable,  # Together
    "invalid_model": ModelNotAvailable,  # Mistral
    "DeploymentNotFound": ModelNotAvailable,  # Azure
    "unsupported_country_region_territory": ModelNotAvailable,
    "rate_limit_exceeded": ModelThrottled,
    "rate_limit_error": ModelThrottled,
    "slow_down": ModelThrottled,
    "insufficient_quota": ModelThrottled,
    "billing_hard_limit_reached": ModelThrottled,
    "credit_balance_exhausted": ModelThrottled,
    "exceeded_current_quota_error": ModelThrottled,  # Moonshot
    "budget_exceeded": ModelThrottled,  # LiteLLM's proxy
    "RESOURCE_EXHAUSTED": ModelThrottled,  # Gemini
    "server_error": ModelUnavailable,
    "server_is_overloaded": ModelUnavailable,
    "service_unavailable_error": ModelUnavailable,
    "UNAVAILABLE": ModelUnavailable,
}
"""Codes and types of error bodies whose meaning the status alone would not give.
https://platform.openai.com/docs/guides/error-codes"""


_REGIONAL = late(r"https://[a-z]{2}\.api\.openai\.com(?:[:/]|\Z)", re.IGNORECASE)
_REGIONAL_FACTOR = Decimal("1.1")
_DEARER_IN_REGIONS = late(r"gpt-(?:5\.(?:[4-9]|\d\d)|[6-9]|\d\d)")
"""Models that OpenAI has released since 5 March 2026; GPT-5.4 was the first."""
_BEFORE = late(r"gpt-(?:3|4|5(?:\.[0-3])?(?![.\d]))|(?:^|:)o[134](?!\d)|codex-mini")
"""Models that it had released before."""


class Key(ApiKey):
    """A bearer token; Azure has a header of its own."""

    def headers(self, credentials: Credentials, url: str, body: bytes) -> Mapping[str, str]:
        """Return the key's header."""
        if credentials.dialect == "azure":
            return {"api-key": credentials.api_key}
        return super().headers(credentials, url, body)


class OpenAIService(HttpAdapter):
    """What an adapter of any of the wire formats does."""

    access: ClassVar[Access] = Key()
    codes = CODES
    streams = True

    def document(self, call: ModelRequest, body: bytes) -> Mapping[str, Any]:
        """Return the JSON object that a good answer is, also where it came in pieces."""
        together = streams.document(body)
        return super().document(call, body) if together is None else together

    def charged(self, call: ModelRequest, usage: Usage | None) -> Usage | None:
        """Return the usage with the tenth more that OpenAI charges at its regional addresses, of all prices, "for
        models released on or after March 5, 2026" (https://developers.openai.com/api/docs/guides/data-residency, read
        in November 2026; github.com/BerriAI/litellm, pull request 31136). Of a model whose name does not tell how old
        it is, the cost is an estimate."""
        elsewhere = self.provider in KNOWN and self.provider != "openai"
        if usage is None or elsewhere or _BEFORE.search(call.known_as):
            return usage
        base = self.access.credentials(self.provider, self.settings, call.model).base_url
        if not _REGIONAL.match(base):
            return usage
        dearer = _DEARER_IN_REGIONS.search(call.known_as)
        return replace(usage, price_factor=_REGIONAL_FACTOR) if dearer else replace(usage, uncertain=True)

    def native_schema(self, call: ModelRequest) -> Restated:
        """Return the call's schema as the provider takes it. One that strict mode cannot say goes out as it is, and
        the provider is not told to hold to it."""
        restated = super().native_schema(call)
        unsayable = restated.schema is None and self.known(call).strict
        return Restated(call.output_schema) if unsayable else restated


def address(credentials: Credentials, path: str, deployment: str = "") -> str:
    """Return the address of `path` at the provider. `deployment` is the model's name where Azure's dated API wants it
    in the address."""
    base = credentials.base_url
    if credentials.provider == "perplexity" and path == "responses" and not base.endswith("/v1"):
        base = f"{base}/v1"  # the Agent API's; Chat Completions are not below it
    if credentials.dialect == "azure":
        if credentials.api_version:
            root = base.removesuffix("/openai/v1").removesuffix("/openai")
            within = f"deployments/{quote(deployment, safe='')}/" if deployment else ""
            return f"{root}/openai/{within}{path}?api-version={quote(credentials.api_version, safe='')}"
        if not base.endswith("/v1"):
            # Without a version: the v1 API, whose model is the deployment's name.
            base = f"{base.removesuffix('/openai')}/openai/v1"
    return f"{base}/{path}"
