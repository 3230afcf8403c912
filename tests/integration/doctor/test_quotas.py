"""What the doctor says of Bedrock's quotas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.doctor import CROSS, OTHERS, PLENTY, SMALL, checks, denied, quota

pytestmark = pytest.mark.usefixtures("quotas")


def test_enough_of_a_quota(stack: Callable[..., str], bedrock: Any) -> None:
    bedrock()
    found = checks("--stack", stack(OTHERS), code=0)[f"quota bedrock:{SMALL}"]
    assert (found["status"], found["todo"]) == ("ok", "")
    assert found["found"] == "2,000 requests a minute, 4,000,000 tokens a minute"


def test_a_quota_of_nothing_fails_with_the_command_that_asks_for_more(
    stack: Callable[..., str], bedrock: Any, quotas: Any
) -> None:
    bedrock()
    name = stack(OTHERS)
    day = "Model invocation max tokens per day for Amazon Nova Lite (doubled for cross-region calls)"
    quotas(*PLENTY, quota(day, 0, "L-3", adjustable=False))
    found = checks("--stack", name, code=1)[f"quota bedrock:{SMALL}"]
    assert (found["status"], found["found"]) == ("fail", "0 tokens a day: each call is throttled")
    ask, support = found["todo"].splitlines()
    # A quota of a day cannot be asked for alone: it is raised with the tokens a minute.
    assert ask.startswith(
        "aws service-quotas request-service-quota-increase --region us-east-1 --service-code bedrock "
    )
    assert "--quota-code L-2 --desired-value 2000" in ask
    assert "AWS Support" in support
    quotas(quota(CROSS.format("requests per minute"), 0, "L-1"), PLENTY[1])
    todo = checks("--stack", name, code=1)[f"quota bedrock:{SMALL}"]["todo"]
    assert "--quota-code L-1 --desired-value 2000" in todo
    assert "AWS Support" not in todo
    quotas(quota(CROSS.format("requests per minute"), 0, "L-1", adjustable=False))
    todo = checks("--stack", name, code=1)[f"quota bedrock:{SMALL}"]["todo"]
    assert todo.startswith("this cannot be asked for there: open a case with AWS Support")


def test_a_reduced_quota_says_what_it_means_for_a_list(stack: Callable[..., str], bedrock: Any, quotas: Any) -> None:
    bedrock()
    name, model = stack(OTHERS), f"quota bedrock:{SMALL}"
    quotas(quota(CROSS.format("requests per minute"), 20, "L-1"), PLENTY[1])
    found = checks("--stack", name, code=0)[model]
    assert (found["status"], "--quota-code L-1" in found["todo"]) == ("ok", True)
    assert found["found"].endswith(
        "(usual are 2,000): a list of 100 items of 4,000 tokens takes about 5 minutes, and completes"
    )
    quotas(*PLENTY, quota("Model invocation max tokens per day for Amazon Nova Lite", 100_000, "L-3"))
    found = checks("--stack", name, code=0)[model]
    assert found["status"] == "warn"
    assert found["found"].endswith("is more than a day's: the rest fails that day")


def test_quotas_of_other_models_and_other_ways_do_not_count(
    stack: Callable[..., str], bedrock: Any, quotas: Any
) -> None:
    bedrock()
    names = (
        "On-demand model inference requests per minute for Amazon Nova Lite",
        "Global cross-region model inference tokens per day for Amazon Nova Lite",
        "Cross-region model inference requests per minute for Amazon Nova 2 Lite",
        "Cross-region model inference requests per minute for Amazon Nova Lite 1M Context Length",
        "Batch inference job size (in GB) for Nova Lite V1",
    )
    quotas(*(quota(name, 0, f"L-{number}") for number, name in enumerate(names)))
    found = checks("--stack", stack(OTHERS), code=0)[f"quota bedrock:{SMALL}"]
    assert found["found"] == "Service Quotas lists none under its name"


@pytest.mark.parametrize(
    ("listed", "status", "says", "todo"),
    [
        # What is listed of bedrock-runtime, and of other models, does not hold there.
        ("On-demand InvokeModel tokens per minute for OpenAI GPT-5.5", "ok", "lists none: bedrock-mantle lets", ""),
        ("Bedrock Mantle input tokens per minute for Anthropic Claude Opus 4.7", "ok", "lists none", ""),
        (
            "Bedrock Mantle input tokens per minute for OpenAI GPT-5.5",
            "fail",
            "0 input tokens a minute: each call is throttled",
            "and name bedrock-mantle, the region, the model, and input tokens per minute",
        ),
    ],
    ids=["of the other endpoint", "of another model", "none left"],
)
def test_the_quotas_of_bedrock_mantle(
    stack: Callable[..., str], bedrock: Any, quotas: Any, listed: str, status: str, says: str, todo: str
) -> None:
    bedrock()
    quotas(quota(listed, 0, "L-1"))
    name, model = stack(OTHERS, default="bedrock-openai:openai.gpt-5.5"), "quota bedrock-openai:openai.gpt-5.5"
    found = checks("--stack", name, code=int(status == "fail"))[model]
    assert found["status"] == status
    assert says in found["found"]
    assert todo in found["todo"]


def test_who_may_not_see_the_quotas_is_warned_once(stack: Callable[..., str], bedrock: Any, answering: Any) -> None:
    bedrock()
    answering("SERVICE_QUOTAS", denied("servicequotas:ListServiceQuotas"))
    found = checks("--stack", stack(OTHERS), code=0)
    assert found["quotas"]["status"] == "warn"
    assert not [what for what in found if what.startswith("quota ")]
