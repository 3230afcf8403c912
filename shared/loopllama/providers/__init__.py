"""Model providers: `provider_for` finds the adapter that speaks a model's wire format.

`DIALECTS` holds every wire format. `catalog.providers.KNOWN` says which one a provider speaks; the secret of a server
of one's own says it too. An adapter's module, and what it imports, loads when a step first uses a provider of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from loopllama.catalog.providers import KNOWN, Known
from loopllama.catalog.takes import needs_responses
from loopllama.errors import ModelError, ModelNotAvailable, ModelUnknown
from loopllama.llm.types import Identity, ModelRequest, ModelResponse, Provider

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.settings import Settings


class Dialect(NamedTuple):  # loads faster than a dataclass
    """An entry of the registry.

    `load` imports the adapter's class and returns it; made of a provider's name and the settings, that is a `Provider`.
    `own_servers`: the secret of a server of one's own may name the dialect. `responses`: the dialect that asks the
    models which need OpenAI's Responses API (`needs_responses`).
    """

    load: Callable[[], Callable[[str, Settings], Provider]]
    own_servers: bool = True
    responses: str = ""


def _openai() -> Callable[[str, Settings], Provider]:
    from loopllama.providers.openai import OpenAI

    return OpenAI


def _openai_responses() -> Callable[[str, Settings], Provider]:
    from loopllama.providers.openai_responses import OpenAIResponses

    return OpenAIResponses


def _anthropic() -> Callable[[str, Settings], Provider]:
    from loopllama.providers.anthropic import Anthropic

    return Anthropic


def _bedrock() -> Callable[[str, Settings], Provider]:
    from loopllama.providers.bedrock.converse import Bedrock

    return Bedrock


def _bedrock_chat() -> Callable[[str, Settings], Provider]:
    from loopllama.providers.bedrock.chat_completions import BedrockChat

    return BedrockChat


def _bedrock_responses() -> Callable[[str, Settings], Provider]:
    from loopllama.providers.bedrock.responses import BedrockResponses

    return BedrockResponses


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(_openai, responses="openai-responses"),
    # The same format at another address, with the key in another header.
    "azure": Dialect(_openai, responses="openai-responses"),
    "openai-responses": Dialect(_openai_responses),
    "anthropic": Dialect(_anthropic),
    "bedrock": Dialect(_bedrock, own_servers=False),
    # The same two formats again, signed by the function's role.
    "bedrock-openai": Dialect(_bedrock_chat, own_servers=False, responses="bedrock-openai-responses"),
    "bedrock-openai-responses": Dialect(_bedrock_responses, own_servers=False),
}
"""Wire formats by the names that `KNOWN` and secrets use."""

_adapters: dict[tuple[str, bool, str, tuple[str, ...]], Provider] = {}


def provider_for(model: Model, settings: Settings) -> Provider:
    """Return the adapter of a catalog model's provider, one for each provider, wire format and process.

    A provider in `settings.simulated_providers`, or any where that holds `*`, is answered by the simulated one, at
    the model's own speed. Never raises: what is wrong with a provider's configuration comes out of `complete`.
    """
    if is_simulated(model.provider, settings):
        from loopllama.providers.simulated.adapter import Simulated

        return Simulated(model.speed, settings.simulated_speed)
    effort = {"reasoning_effort": model.effort} if model.effort else {}
    name = model.stands_for.model if model.stands_for else model.provider_model
    responses = needs_responses(name, {**(model.options or {}), **effort}, model.provider)
    key = (model.provider, responses, settings.provider_secrets_prefix, settings.allowed_provider_hosts)
    if key not in _adapters:
        try:
            _adapters[key] = _make(model.provider, responses, settings)
        except ModelError as error:
            return _Unusable(error)
    return _adapters[key]


def behind_profile(model: Model, resolve: Callable[[str], Model]) -> Model:
    """Return a model that is an ARN of Bedrock, with the prices, limits and capabilities of the model that it stands
    for; any other, or one whose inference profile cannot be read, as it is. `resolve` finds a catalog model by its
    id."""
    by_role = KNOWN.get(model.provider, Known()).by_role
    if model.prices or model.stands_for or not by_role or "arn:" not in model.provider_model:
        return model
    from loopllama.providers.bedrock.service import underlying_model

    try:
        name = underlying_model(model.provider_model)
        base = resolve(f"{model.provider}:{name}")
    except (ModelError, ModelUnknown):
        return model
    return replace(
        model,
        prices=base.prices,
        context_window=base.context_window,
        max_output=base.max_output,
        capabilities=base.capabilities,
        efforts=base.efforts,
        speed=base.speed,
        stands_for=Identity(model.provider, name),
    )


def is_simulated(provider: str, settings: Settings) -> bool:
    """Return whether the simulated provider stands in for `provider`."""
    return provider in settings.simulated_providers or "*" in settings.simulated_providers


class _Unusable:
    """Stands for a provider that cannot be reached as things are configured now."""

    def __init__(self, error: ModelError) -> None:
        self._error = error

    def complete(self, call: ModelRequest) -> ModelResponse:  # noqa: ARG002
        raise self._error


def _make(provider: str, responses: bool, settings: Settings) -> Provider:
    if provider == "simulated":
        raise ModelNotAvailable(
            "the simulated provider is off in this deployment; SIMULATED_PROVIDERS lists what it answers for"
        )
    if provider in KNOWN and KNOWN[provider].by_role:
        dialect = KNOWN[provider].dialect
    else:  # the secret may name another one
        from loopllama.providers.credentials import credentials_for

        dialect = credentials_for(provider, settings).dialect
    if responses and (provider in ("openai", "perplexity") or dialect != "openai"):
        # Other servers that serve the model need not have OpenAI's newer format: their secret says it.
        dialect = DIALECTS[dialect].responses or dialect
    return DIALECTS[dialect].load()(provider, settings)
