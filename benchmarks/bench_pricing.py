"""The cost of a call: ours, genai-prices' and LiteLLM's, how long it takes and whether it is the same.

    python benchmarks/bench_pricing.py [--rounds N] [--short]

The three take turns in each round; figures are processor time. Prices are compared for every bundled model: short and
long prompts, read from a cache and written to one for five minutes and for an hour, at every service tier and (with
genai-prices, as LiteLLM prices no single call so) in batches. A difference that `EXPLAINED` does not know is an error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "shared")]

import harness
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price

from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model
from loopllama.catalog.pricing import cost
from loopllama.catalog.variants import priced_tiers
from loopllama.llm.types import Usage
from loopllama_cli.catalog.build import VARIANTS
from loopllama_cli.catalog.facts import price_book

MOMENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMED = ("gpt-5-mini", "claude-sonnet-5", "gpt-5.4", "deepseek-v4-pro")
USAGES = (
    Usage(10_000, 800),
    Usage(10_000, 800, cached_tokens=8_000),
    Usage(10_000, 800, cache_write_tokens=6_000),
    Usage(10_000, 800, cached_tokens=1_000, cache_write_tokens=6_000, cache_write_1h_tokens=4_000),
    Usage(300_000, 800, cached_tokens=250_000),
    Usage(300_000, 800, cache_write_tokens=250_000, cache_write_1h_tokens=250_000),
)
AIM = 5.0
LITELLM_NAMES = {"google": "gemini", "bedrock": "bedrock_converse", "x-ai": "xai"}
"""Providers that LiteLLM calls otherwise."""
LONG, WRITTEN = "300,000 tokens", "written"
EXPLAINED = (
    # (model, whose price, what differs, why): parts of names and verdicts.
    (
        "bedrock:jp.amazon.nova-2-lite",
        "genai-prices",
        "",
        "ours is the AWS price list's of Tokyo, the one region that calls this profile; genai-prices has the US one",
    ),
    (
        "anthropic.claude-sonnet-4-5",
        "LiteLLM",
        LONG,
        "neither matters: its context window is 200,000 tokens since 2026-04-30 (platform.claude.com, release notes); "
        "LiteLLM still has the price above it on Bedrock, genai-prices and so we do not",
    ),
    (
        "claude-sonnet-4-5",
        "LiteLLM",
        LONG,
        "neither matters: its context window is 200,000 tokens since 2026-04-30 (platform.claude.com, release notes); "
        "genai-prices and so we have the price that longer prompts had before",
    ),
    (
        "mistral-large-4",
        "LiteLLM",
        "",
        "ours is right: LiteLLM has the price until 2026-10-20; ours is dated, with those after it (docs.mistral.ai)",
    ),
    (
        "deepseek",
        "LiteLLM",
        WRITTEN,
        "neither matters: DeepSeek writes its cache by itself and tells no written tokens; LiteLLM would charge "
        "nothing for them, we as for any input, which is what a miss costs (api-docs.deepseek.com/quick_start/pricing)",
    ),
    (
        "gpt-5.",
        "LiteLLM",
        "priority",
        "neither matters: OpenAI has no priority for more than 272,000 tokens (openai.com/api-fast-mode), so that "
        "another tier answers and its price counts; LiteLLM prices it as standard from the start",
    ),
)
"""Why a model's cost is not the same at another, and which is right."""
VARIANTS_OF = {"": None, **VARIANTS}
PEER = """
import json, os, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

print(0, flush=True)
for line in sys.stdin:
    model, provider, read, written, cached, created, hour, tier, calls = json.loads(line)
    name = f"{provider}/{model}"
    if model not in litellm.model_cost and name not in litellm.model_cost:
        print("null", flush=True)
        continue
    usage = litellm.Usage(
        prompt_tokens=read, completion_tokens=written, total_tokens=read + written,
        prompt_tokens_details={
            "cached_tokens": cached, "cache_creation_tokens": created,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": created - hour, "ephemeral_1h_input_tokens": hour,
            } if created else None,
        },
        cache_read_input_tokens=cached, cache_creation_input_tokens=created,
    )
    answer = litellm.ModelResponse(model=model, usage=usage)
    start = time.process_time()
    for _ in range(calls):
        usd = litellm.completion_cost(
            completion_response=answer, model=model, custom_llm_provider=provider, service_tier=tier or None
        )
    print(json.dumps([usd, (time.process_time() - start) / calls * 1e6]), flush=True)
"""


def timed(call: Callable[[], object], calls: int) -> float:
    """Microseconds a call."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls * 1e6


def theirs(model: Model, usage: Usage) -> Decimal:
    """genai-prices' cost."""
    used = TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
    )
    return calc_price(
        used,
        model.provider_model,
        provider_id=price_book(model.provider),
        genai_request_timestamp=MOMENT,
        price_context=VARIANTS_OF[usage.service_tier],
    ).total_price


def question(model: Model, usage: Usage, calls: int) -> str:
    """What LiteLLM's worker is asked."""
    provider = LITELLM_NAMES.get(model.provider, model.provider)
    return json.dumps(
        [
            *(model.provider_model, provider, usage.input_tokens, usage.output_tokens, usage.cached_tokens),
            *(usage.cache_write_tokens, usage.cache_write_1h_tokens, usage.service_tier, calls),
        ]
    )


def usages(model: Model) -> Iterator[Usage]:
    """The usages to compare of a model, at each tier that it has a price for."""
    for usage in USAGES:
        for tier in ("", *priced_tiers(model)):
            yield replace(usage, service_tier=tier)


def differences(peer: harness.Worker) -> Iterator[tuple[str, str, str]]:
    """Each bundled model and usage with what became of the comparison, by whose price it is: `same`, `missing` there,
    or the two costs."""
    for model in bundled().models():
        for usage in usages(model):
            ours = cost(model, usage, MOMENT)
            what = ", ".join(
                [
                    f"{usage.input_tokens:,} tokens",
                    *([f"{usage.cached_tokens:,} cached"] if usage.cached_tokens else []),
                    *([f"{usage.cache_write_tokens:,} written"] if usage.cache_write_tokens else []),
                    *([f"{usage.cache_write_1h_tokens:,} of them for an hour"] if usage.cache_write_1h_tokens else []),
                    *([usage.service_tier] if usage.service_tier else []),
                ]
            )
            known = not (usage.service_tier and model.provider == "bedrock")
            yield model.id, "genai-prices", verdict(what, ours, theirs(model, usage) if known else None)
            answer = None if usage.service_tier == "batch" else peer.ask(question(model, usage, 1))
            yield model.id, "LiteLLM", verdict(what, ours, None if answer is None else Decimal(str(answer[0])))


def verdict(what: str, ours: Decimal | None, other: Decimal | None) -> str:
    """What became of one comparison."""
    if ours is None or other is None:
        return "missing"
    return "same" if abs(ours - other) < Decimal("1e-9") else f"{what}: {ours:f} USD, there {other:f}"


def reason(model: str, peer: str, differs: str) -> str:
    """Why a cost is not the same there; empty where nobody has said it."""
    return next(
        (why for name, where, part, why in EXPLAINED if name in model and where == peer and part in differs), ""
    )


def main() -> None:
    """Compare and publish."""
    options = harness.parse(harness.arguments(__doc__, rounds=25))
    peer = harness.Worker(harness.LITELLM, "-c", PEER)
    contestants: dict[str, Callable[[], float]] = {}
    for name in TIMED:
        model = bundled().resolve(name)
        contestants |= {
            f"LoopLlama, {name}": lambda model=model: timed(lambda: cost(model, USAGES[4], MOMENT), 2_000),
            f"genai-prices, {name}": lambda model=model: timed(lambda: theirs(model, USAGES[4]), 50),
            f"LiteLLM, {name}": lambda model=model: peer.ask(question(model, USAGES[4], 50))[1],
        }
    figures = harness.take_turns(contestants, options.rounds)
    verdicts = list(differences(peer))
    peer.close()
    differing = [
        [name, where, differs, reason(name, where, differs)]
        for name, where, differs in verdicts
        if differs not in ("same", "missing")
    ]
    if unknown := [difference for difference in differing if not difference[-1]]:
        raise SystemExit(f"costs differ and nobody has said why: {unknown}")
    table = harness.table("The cost of a call, processor time", "µs", figures, f"LoopLlama, {TIMED[0]}")
    slowest = max(row["median"] for row in table["rows"] if row["name"].startswith("LoopLlama"))
    rows = [harness.value("our cost of a call, the slowest model", slowest, "µs", AIM)]
    for where in ("genai-prices", "LiteLLM"):
        found = [differs for _, other, differs in verdicts if other == where]
        same, missing = found.count("same"), found.count("missing")
        rows += [
            harness.value(f"calls that cost the same at {where}", same),
            harness.value(f"calls of models or tiers that {where} does not know", missing),
            harness.value(f"calls that cost something else at {where}, explained below", len(found) - same - missing),
        ]
    rows.append(harness.value("calls that cost something else, unexplained", len(unknown), "", 0))
    versions = {
        **harness.versions(sys.executable, "genai-prices"),
        "litellm": harness.versions(harness.LITELLM, "litellm")["litellm"],
    }
    more = {"columns": ["model", "where", "what differs", "why"], "lines": differing}
    harness.publish("pricing", "The cost of a call", [table], rows, versions, options.short, **more)


if __name__ == "__main__":
    main()
