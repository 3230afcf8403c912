"""The cost of a call: ours, genai-prices' and LiteLLM's, how long it takes and whether it is the same.

    python benchmarks/bench_pricing.py [--rounds N] [--short]

The three take turns in each round; figures are processor time. Prices are compared for every bundled model, on a short
prompt and on a long one that was mostly cached. A difference that `EXPLAINED` does not know is an error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
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
from loopllama.llm.types import Usage

MOMENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMED = ("gpt-5-mini", "claude-sonnet-5", "gpt-5.4", "deepseek-v4-pro")
USAGES = (Usage(10_000, 800), Usage(300_000, 800, cached_tokens=250_000))
AIM = 5.0
LITELLM_NAMES = {"google": "gemini", "bedrock": "bedrock_converse", "x-ai": "xai"}
"""Providers that LiteLLM calls otherwise."""
EXPLAINED = {
    "claude-sonnet-4-5": "above 200,000 tokens: LiteLLM's list has no such price for Anthropic's own API, ours has",
    "bedrock:global.anthropic.claude-sonnet-4-5-20250929-v1:0": (
        "above 200,000 tokens: LiteLLM's list has such a price on Bedrock, genai-prices' and so ours has none"
    ),
    "bedrock:us.anthropic.claude-sonnet-4-5-20250929-v1:0": (
        "above 200,000 tokens: LiteLLM's list has such a price on Bedrock, genai-prices' and so ours has none"
    ),
    "mistral-large-4": "LiteLLM's list has the price until 2026-10-20; ours is dated, with those after it",
}
"""Why a model's cost is not the same at LiteLLM."""
PEER = """
import json, os, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

print(0, flush=True)
for line in sys.stdin:
    model, provider, read, written, cached, calls = json.loads(line)
    name = f"{provider}/{model}"
    if model not in litellm.model_cost and name not in litellm.model_cost:
        print("null", flush=True)
        continue
    usage = litellm.Usage(
        prompt_tokens=read, completion_tokens=written, total_tokens=read + written,
        prompt_tokens_details={"cached_tokens": cached},
    )
    answer = litellm.ModelResponse(model=model, usage=usage)
    start = time.process_time()
    for _ in range(calls):
        usd = litellm.completion_cost(completion_response=answer, model=model, custom_llm_provider=provider)
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
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cache_read_tokens=usage.cached_tokens
    )
    return calc_price(
        used, model.provider_model, provider_id=price_book(model), genai_request_timestamp=MOMENT
    ).total_price


def price_book(model: Model) -> str:
    """What genai-prices calls a model's provider."""
    return {"bedrock": "aws"}.get(model.provider, model.provider)


def question(model: Model, usage: Usage, calls: int) -> str:
    """What LiteLLM's worker is asked."""
    provider = LITELLM_NAMES.get(model.provider, model.provider)
    return json.dumps(
        [model.provider_model, provider, usage.input_tokens, usage.output_tokens, usage.cached_tokens, calls]
    )


def differences(peer: harness.Worker) -> Iterator[tuple[str, str]]:
    """Each bundled model and usage with what became of the comparison: `same`, `missing` at LiteLLM, or the two
    costs."""
    for model in bundled().models():
        for usage in USAGES:
            ours = cost(model, usage, MOMENT)
            answer = peer.ask(question(model, usage, 1))
            if ours != theirs(model, usage):
                raise SystemExit(f"{model.id}: {ours} is not genai-prices' {theirs(model, usage)}")
            if answer is None or ours is None:
                yield model.id, "missing"
            elif abs(answer[0] - float(ours)) < 1e-9:
                yield model.id, "same"
            else:
                yield model.id, f"{usage.input_tokens:,} tokens: {ours:f} USD, LiteLLM {answer[0]:.6f}"


def main() -> None:
    """Compare and publish."""
    options = harness.parse(harness.arguments(__doc__, rounds=25))
    peer = harness.Worker(harness.LITELLM, "-c", PEER)
    contestants: dict[str, Callable[[], float]] = {}
    for name in TIMED:
        model = bundled().resolve(name)
        contestants |= {
            f"LoopLlama, {name}": lambda model=model: timed(lambda: cost(model, USAGES[1], MOMENT), 2_000),
            f"genai-prices, {name}": lambda model=model: timed(lambda: theirs(model, USAGES[1]), 50),
            f"LiteLLM, {name}": lambda model=model: peer.ask(question(model, USAGES[1], 50))[1],
        }
    figures = harness.take_turns(contestants, options.rounds)
    verdicts = list(differences(peer))
    peer.close()
    differing = [
        [name, verdict, EXPLAINED.get(name, "")] for name, verdict in verdicts if verdict not in ("same", "missing")
    ]
    if unknown := [difference for difference in differing if not difference[2]]:
        raise SystemExit(f"costs differ from LiteLLM's and nobody has said why: {unknown}")
    table = harness.table("The cost of a call, processor time", "µs", figures, f"LoopLlama, {TIMED[0]}")
    slowest = max(row["median"] for row in table["rows"] if row["name"].startswith("LoopLlama"))
    counts = {kind: sum(verdict == kind for _, verdict in verdicts) for kind in ("same", "missing")}
    rows = [
        harness.value("our cost of a call, the slowest model", slowest, "µs", AIM),
        harness.value("calls of bundled models that cost the same at genai-prices", len(verdicts)),
        harness.value("calls that cost the same at LiteLLM", counts["same"]),
        harness.value("calls of models that LiteLLM does not know", counts["missing"]),
        harness.value("calls that cost something else at LiteLLM, explained below", len(differing)),
        harness.value("calls that cost something else at LiteLLM, unexplained", len(unknown), "", 0),
    ]
    versions = {
        **harness.versions(sys.executable, "genai-prices"),
        "litellm": harness.versions(harness.LITELLM, "litellm")["litellm"],
    }
    more = {"columns": ["model", "what differs", "why"], "lines": differing}
    harness.publish("pricing", "The cost of a call", [table], rows, versions, options.short, **more)


if __name__ == "__main__":
    main()
