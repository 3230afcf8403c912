"""`loopllama doctor` as a person runs it, and what AWS's services answer it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner, Result

from loopllama.catalog.catalog import bundled
from loopllama_cli.main import app

PARTS = [
    f"table {name}" for name in ("workflows", "routes", "route_history", "models", "tools", "runs", "usage", "api_keys")
]
USABLE = {
    "agreementAvailability": {"status": "AVAILABLE"},
    "authorizationStatus": "AUTHORIZED",
    "entitlementAvailability": "AVAILABLE",
    "regionAvailability": "AVAILABLE",
}
Answers = Callable[[str], tuple[int, Any]]
"""Of a request's path, or of the operation and the body where the protocol has no paths: status and answer."""


def run(*arguments: str) -> Result:
    """Run it, and return what it printed."""
    return CliRunner().invoke(app, ["doctor", *arguments])


def checks(*arguments: str, code: int) -> dict[str, dict[str, str]]:
    """What it found, by what it looked at."""
    done = run(*arguments, "--json")
    found = {check["what"]: check for check in json.loads(done.stdout)}
    assert done.exit_code == code, [check for check in found.values() if check["status"] != "ok"]
    return found


def denied(action: str) -> Answers:
    """Return the answers of a service that lets nobody in."""
    said = f"User: arn:aws:iam::1:user/somebody is not authorized to perform: {action}"
    return lambda _: (400, {"__type": "AccessDeniedException", "message": said})


OTHERS = "anthropic,openai,mistral,google,deepseek"
"""Providers but Bedrock, to be simulated."""
SMALL, BALANCED, FRONTIER = (
    bundled("us-east-1").resolve(alias).provider_model for alias in ("small", "balanced", "frontier")
)
CROSS = "Cross-region model inference {} for Amazon Nova Lite"


def quota(name: str, value: float, code: str, adjustable: bool = True) -> dict[str, Any]:
    return {"QuotaName": name, "Value": value, "QuotaCode": code, "Adjustable": adjustable}


PLENTY = [
    quota(CROSS.format("requests per minute"), 2_000, "L-1"),
    quota(CROSS.format("tokens per minute"), 4e6, "L-2"),
]


def applied(*quotas: dict[str, Any]) -> Callable[[str], tuple[int, Any]]:
    """Answer as Service Quotas, a quota a page; 2,000 is usual everywhere."""

    def answers(asked: str) -> tuple[int, Any]:
        operation, _, body = asked.partition(" ")
        if operation == "GetAWSDefaultServiceQuota":
            return 200, {"Quota": {"Value": 2000}}
        assert (operation, json.loads(body)["ServiceCode"]) == ("ListServiceQuotas", "bedrock")
        page = int(json.loads(body).get("NextToken", 0))
        more = {"NextToken": str(page + 1)} if page + 1 < len(quotas) else {}
        return 200, {"Quotas": list(quotas[page : page + 1]), **more}

    return answers
