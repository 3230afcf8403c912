"""A model's `options` at each door: the API, what commands and files write by, and a row written by hand when it is
used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.api_client import InProcess
from support.deployment import Deployment

from loopllama.catalog.store import CatalogStore
from loopllama.errors import CatalogInvalid

OPTIONS: dict[str, Any] = {
    "reasoning": {"effort": "low", "tools": [{"type": "web_search"}]},
    "plugins": [{"id": "web"}],
}
ENTRY = {"provider": "test", "provider_model": "hard"}


def test_the_api_and_what_commands_write_by_refuse_them(live: Deployment) -> None:
    status, answer = InProcess(live.settings).ask(
        "PUT", "/v1/models/hard", {**ENTRY, "provider": "vllm", "options": OPTIONS}
    )
    assert status == 400
    assert answer["details"][0]["field"] == "options"
    assert "may not set reasoning.tools; plugins" in answer["details"][0]["message"]
    store = CatalogStore(live.settings)
    with pytest.raises(CatalogInvalid, match=r"may not set reasoning\.tools; plugins.*AllowedModelOptions"):
        store.write("hard", {**ENTRY, "options": OPTIONS}, updated_by="me", reason="")
    assert store.get("hard") is None


@pytest.mark.parametrize(
    ("allowed", "used"),
    [
        ((), {"reasoning": {"effort": "low"}}),
        (("plugins",), {"reasoning": {"effort": "low"}, "plugins": [{"id": "web"}]}),
        (("plugins", "reasoning.tools"), OPTIONS),
    ],
)
def test_of_a_row_written_by_hand_is_used_what_is_allowed(
    live: Deployment, allowed: tuple[str, ...], used: dict[str, Any]
) -> None:
    live.settings = replace(live.settings, allowed_model_options=allowed)
    live.put_model("hard", **ENTRY, options=OPTIONS)
    live.provider.script = lambda request: "done"
    live.play(live.accept(live.push([{"name": "one", "model": "hard"}])))
    assert live.provider.calls[-1].options == used
    problems = [problem["reason"] for problem in CatalogStore(live.settings).catalog().problems]
    assert bool(problems) == (used != OPTIONS)


def test_the_deployer_lets_the_api_write_further_names(live: Deployment) -> None:
    live.settings = replace(live.settings, allowed_model_options=("plugins", "reasoning.tools"))
    body = {**ENTRY, "provider": "vllm", "options": OPTIONS}
    status, answer = InProcess(live.settings).ask("PUT", "/v1/models/hard", body)
    assert status == 200, answer
    assert answer["data"]["options"] == OPTIONS
