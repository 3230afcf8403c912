"""What a model's `options` may say: an allow-list by the provider's wire format.

Who writes rows of the Models table chooses how a model works, and neither what it is told, nor what it may do, nor
where the call goes. Providers add parameters that do just that, nested too (a stored prompt, plugins, servers of tools,
fallbacks of a gateway's own), so what is not known to be harmless is refused. The deployer's parameter
AllowedModelOptions takes further names; no row does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

from loopllama.catalog.providers import KNOWN, is_own_server
from loopllama.core import exact_json
from loopllama.core.numbers import written
from loopllama.core.patterns import late

MAX_BYTES = 4096
MAX_DEPTH = 16
NEVER = frozenset(
    {
        # What the call is about, and who answers it: the step, the route and the bill say that.
        *("model", "models", "modelId", "messages", "system", "tools", "tool_choice", "toolConfig", "functions"),
        *("function_call", "response_format", "max_tokens", "max_completion_tokens", "temperature"),
        *("input", "instructions", "max_output_tokens", "previous_response_id", "conversation", "prompt"),
        # How the answer comes, and how many of them are paid.
        *("stream", "stream_options", "n", "best_of", "store", "background"),
        # Where the call goes, as gateways take it.
        *("api_key", "api_base", "base_url", "extra_headers", "headers"),
    }
)
"""Names that `options` may not set, in any provider's wire format and whatever the deployer allows."""

_ONE, _MANY, _STOPS, _NAMED = (
    "a number, true, false or a short word",
    "a list of short texts",
    "a short text or a list of them",
    "a map from names to short values",
)
"""Shapes of values. A map in `_Names` has these names and no others."""
_Names = Mapping[str, Any]
_STOP = 40
"""Characters of a text that is no word, as one at which answers stop."""
_WORD = late(r"[\w .,:@+=/-]{0,256}")

_THINKING: _Names = {"type": _ONE, "budget_tokens": _ONE, "display": _ONE, "keep": _ONE, "clear_thinking": _ONE}
_SAMPLING: _Names = dict.fromkeys(
    (
        *("top_p", "top_k", "top_a", "min_p", "typical_p", "seed", "random_seed", "frequency_penalty"),
        *("presence_penalty", "repetition_penalty", "repeat_penalty", "mirostat", "mirostat_eta", "mirostat_tau"),
    ),
    _ONE,
) | {"stop": _STOPS, "logit_bias": _NAMED}
# How servers of one's own sample beside that:
# https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html,
# https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
_OWN_SAMPLING: _Names = dict.fromkeys(
    (
        *("min_tokens", "ignore_eos", "length_penalty", "skip_special_tokens", "spaces_between_special_tokens"),
        *("include_stop_str_in_output", "thinking_token_budget", "cache_salt", "priority"),
        *("repeat_last_n", "top_n_sigma", "xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent"),
        *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "min_keep"),
    ),
    _ONE,
) | {"stop_token_ids": _MANY, "bad_words": _MANY, "samplers": _MANY, "dry_sequence_breakers": _MANY}
_CHAT: _Names = {
    **_SAMPLING,
    # Effort and thoughts, as the servers of this format call them.
    **dict.fromkeys(
        ("reasoning_effort", "verbosity", "include_reasoning", "reasoning_format", "enable_thinking"), _ONE
    ),
    **dict.fromkeys(("thinking_budget", "reasoning_split", "prompt_mode"), _ONE),
    "reasoning": {"effort": _ONE, "max_tokens": _ONE, "enabled": _ONE, "exclude": _ONE, "summary": _ONE},
    "thinking": _THINKING,
    "text": {"verbosity": _ONE},
    "chat_template_kwargs": dict.fromkeys(("enable_thinking", "thinking", "reasoning_effort", "thinking_budget"), _ONE),
    # Service, caching, safety, and who is told to the provider.
    **dict.fromkeys(("service_tier", "prompt_cache_key", "prompt_cache_retention", "cache_prompt", "keep_alive"), _ONE),
    **dict.fromkeys(("safe_prompt", "safety_identifier", "user", "parallel_tool_calls", "truncation"), _ONE),
    "guardrails": _MANY,
}
_ANTHROPIC: _Names = {
    **dict.fromkeys(("top_p", "top_k", "service_tier", "speed", "inference_geo"), _ONE),
    "stop_sequences": _MANY,
    "thinking": _THINKING,
    "output_config": {"effort": _ONE},
    "metadata": {"user_id": _ONE},
    "cache_control": {"type": _ONE, "ttl": _ONE},
}
_BEDROCK: _Names = {
    "guardrailConfig": {"guardrailIdentifier": _ONE, "guardrailVersion": _ONE, "trace": _ONE},
    "performanceConfig": {"latency": _ONE},
    "serviceTier": {"type": _ONE},
    "requestMetadata": _NAMED,
    "inferenceProfile": _ONE,
    "inferenceConfig": {"topP": _ONE, "stopSequences": _MANY},
    "additionalModelRequestFields": {
        **_SAMPLING,
        "thinking": _THINKING,
        "output_config": {"effort": _ONE},
        "anthropic_beta": _MANY,
        "reasoning_effort": _ONE,
        "reasoningConfig": {"type": _ONE, "maxReasoningEffort": _ONE},
        "reasoning_config": {"type": _ONE, "budget_tokens": _ONE, "effort": _ONE},
        "inferenceConfig": {"topK": _ONE},
    },
}
_DIALECTS: Mapping[str, _Names] = {"anthropic": _ANTHROPIC, "bedrock": _BEDROCK}
"""By the names of `Known.dialect`; the others are OpenAI's formats."""
_OF_PROVIDERS: Mapping[str, _Names] = {
    # Whom OpenRouter asks: https://openrouter.ai/docs/guides/routing/provider-selection
    "openrouter": {
        "provider": {
            **dict.fromkeys(("order", "only", "ignore", "quantizations"), _MANY),
            **dict.fromkeys(("sort", "allow_fallbacks", "require_parameters", "data_collection", "zdr"), _ONE),
            **dict.fromkeys(("preferred_min_throughput", "preferred_max_latency", "max_price"), _NAMED),
        },
        "usage": {"include": _ONE},
    },
    # How Perplexity searches, which is what its models do: https://docs.perplexity.ai/docs/agent-api
    "perplexity": {
        **dict.fromkeys(("preset", "search_mode", "search_recency_filter"), _ONE),
        "search_domain_filter": _MANY,
        "web_search_options": {"search_context_size": _ONE},
    },
    # https://ai.google.dev/gemini-api/docs/openai
    "google": {
        "extra_body": {
            "google": {
                "thinking_config": dict.fromkeys(("thinking_budget", "thinking_level", "include_thoughts"), _ONE)
            }
        }
    },
}


def read(value: object) -> Mapping[str, Any]:
    """Return options as a row holds them. Raises `ValueError` for what no deployment takes."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ValueError(f"must be a map of the provider's own parameters, not {written(value)}")
    if refused := sorted(NEVER & value.keys()):
        raise ValueError(f"may not set {', '.join(refused)}: the step and its route say that")
    try:
        size = len(exact_json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        raise ValueError("must hold nothing but JSON") from None
    if not _storable(value, MAX_DEPTH):
        raise ValueError(f"must nest at most {MAX_DEPTH} levels; its numbers must have {exact_json.STORABLE}")
    if size > MAX_BYTES:
        raise ValueError(f"has {size:,} bytes of JSON; at most {MAX_BYTES:,} are taken")
    return value


def checked(provider: str, options: Mapping[str, Any], allowed: Collection[str] = ()) -> tuple[dict[str, Any], str]:
    """Return those options that a provider's models may have, and what is wrong with the others; empty where nothing
    is. `allowed` are the deployer's names, as `plugins` or `reasoning.new_field`: whatever they hold is taken.

    What is right stays beside what is not: without its guardrail a model would answer more freely than before.
    """
    wrong: list[str] = []
    kept = _kept(options, names_for(provider), allowed, "", wrong)
    if not wrong:
        return kept, ""
    listed = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return kept, (
        f"may not set {listed}: they are for effort, sampling, service tier, guardrail, thinking and caching, and the "
        "deployer's parameter AllowedModelOptions takes further names"
    )


def names_for(provider: str) -> Mapping[str, Any]:
    """Return the options that models of a provider may have, by name."""
    known = KNOWN.get(provider)
    names: dict[str, Any] = dict(_DIALECTS.get(known.dialect if known else "", _CHAT))
    if is_own_server(provider):  # speaks what its secret says
        names = {**_ANTHROPIC, **_CHAT, **_OWN_SAMPLING}
    return {**names, **_OF_PROVIDERS.get(provider, {})}


def _kept(
    options: Mapping[str, Any], names: _Names, allowed: Collection[str], place: str, wrong: list[str]
) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in options.items():
        path = f"{place}{name}"
        shape = names.get(name)
        if path in allowed:
            kept[name] = value
        elif isinstance(shape, Mapping) and isinstance(value, Mapping):
            kept[name] = _kept(value, shape, allowed, f"{path}.", wrong)
        elif shape is None and any(other.startswith(f"{path}.") for other in allowed) and isinstance(value, Mapping):
            kept[name] = _kept(value, {}, allowed, f"{path}.", wrong)
        elif shape is None:
            wrong.append(path[:80])
        elif _is_short(value) or (isinstance(shape, str) and _HAS_SHAPE[shape](value)):
            kept[name] = value
        else:
            wrong.append(f"{path[:80]} to anything but {shape if isinstance(shape, str) else _ONE}")
    return kept


def _is_short(value: object) -> bool:
    """Return whether a value is no prompt, no address and no structure."""
    if isinstance(value, str):
        return bool(_WORD.fullmatch(value)) and "//" not in value
    return value is None or isinstance(value, bool | int | float | Decimal)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple) and all(_is_short(inner) or _is_stop(inner) for inner in value)


def _is_stop(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _STOP


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_short, value.values()))


_HAS_SHAPE: Mapping[str, Callable[[object], bool]] = {
    _ONE: _is_short,
    _MANY: _is_list,
    _STOPS: lambda value: _is_stop(value) or _is_list(value),
    _NAMED: _is_map,
}


def _storable(value: object, levels: int) -> bool:
    """Return whether DynamoDB keeps it as it is, in at most so many levels."""
    if isinstance(value, Mapping):
        return levels > 0 and all(_storable(inner, levels - 1) for inner in value.values())
    if isinstance(value, list | tuple):
        return levels > 0 and all(_storable(inner, levels - 1) for inner in value)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return exact_json.storable(Decimal(value))
    return True
