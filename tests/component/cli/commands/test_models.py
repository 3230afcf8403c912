"""Commands on models and providers: what they write, what they print, how they end."""

import json
from decimal import Decimal

import boto3
import pytest
from support.command_line import answer, invoke

from loopllama.aws import clients, dynamo
from loopllama.catalog import catalog
from loopllama_cli import target

# Models and providers


def test_models_are_those_of_catalog_and_table():
    item = {
        "model": "house-model",
        "provider": "openai",
        "provider_model": "house-1",
        "prices": [{"effective_from": "2026-01-01", "input": Decimal("0.5"), "output": 2}],
    }
    clients.client("dynamodb").put_item(TableName="Models", Item=dynamo.to_item(item))
    listed = {model["model"]: model for model in answer("models", "list", "--provider", "openai")}
    assert {model["provider"] for model in listed.values()} == {"openai"}
    assert listed["house-model"]["price"]["input"] == Decimal("0.5")
    assert "0.5" in invoke("models", "show", "house-model").stdout
    small = catalog.bundled().resolve("small")
    assert answer("models", "show", "small")["model"] == small.id
    assert small.id in invoke("models", "show", "small").stdout
    assert "house-model" in invoke("models", "list").stdout
    assert "gpt-nope" in invoke("models", "show", "gpt-nope", code=3).stderr


def test_models_need_no_stack(monkeypatch):
    def nowhere(_):
        raise target.TargetMissing("no target")

    monkeypatch.setattr(target, "connect", nowhere)
    assert answer("models", "list")
    assert "bundled" in invoke("models", "list").stderr


def test_a_key_goes_to_secrets_manager_and_nowhere_else():
    secrets = boto3.client("secretsmanager")
    for key, before in (("sk-first", ""), ("sk-second", "\ufeff")):  # PowerShell puts a byte order mark before it
        result = invoke("providers", "set", "openai", input=f"{before}{key}\r\n")
        assert key not in result.output
        stored = secrets.get_secret_value(SecretId="test/providers/openai")["SecretString"]
        assert json.loads(stored) == {"api_key": key}
    invoke("providers", "set", "house", "--base-url", "https://llm.example.com/v1", input="k")
    stored = secrets.get_secret_value(SecretId="test/providers/house")["SecretString"]
    assert json.loads(stored) == {"api_key": "k", "base_url": "https://llm.example.com/v1"}
    listed = {one["provider"]: one for one in answer("providers", "list")}
    assert {name: listed[name]["key"] for name in ("openai", "house", "bedrock", "mistral")} == {
        "openai": "set",
        "house": "set",
        "bedrock": "keyless",
        "mistral": "missing",
    }
    assert listed["google"]["simulated"] is True
    assert "sk-second" not in invoke("providers", "list").output


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("openai",), ""),
        (("openai",), "two words"),
        (("openai",), "sk-first\n".encode("utf-16")),
        (("openai",), "x" * 5000),
        (("bedrock",), "k"),
        (("nobody-knows",), "k"),
        (("Bad Name",), "k"),
        (("openai", "--base-url", "ftp://x"), "k"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(arguments, key):
    invoke("providers", "set", *arguments, input=key, code=2)
    assert boto3.client("secretsmanager").list_secrets()["SecretList"] == []


def test_a_price_from_a_day_tells_it_and_keeps_what_cached_tokens_cost():
    cached = catalog.bundled().resolve("gpt-5").prices[-1].cache_read
    result = invoke("models", "price", "gpt-5", "--input", "1", "--output", "8", "--from", "2099-01-01")
    assert (
        "gpt-5 costs $1 and $8 a million tokens of prompt and answer from 2099-01-01, 00:00 UTC, on." in result.stderr
    )
    assert f"Kept: cache_read ${cached:f}; --cache-read" in result.stderr
    assert "acts within" not in result.stderr
    (price,) = answer("models", "price", "gpt-5", "--input", "1", "--output", "8", "--from", "2099-01-01")["prices"]
    assert price == {"effective_from": "2099-01-01", "input": 1, "output": 8, "cache_read": cached}
    again = invoke("models", "price", "gpt-5", "--input", "2", "--output", "8", "--cache-read", "0.5").stderr
    assert "from today on" in again
    assert "Kept" not in again
    assert "acts within" in again
