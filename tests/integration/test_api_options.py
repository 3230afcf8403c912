"""A model's `options` through the HTTP API, on the local stack."""

from __future__ import annotations

from support.api_client import Client


def test_options_are_kept_shown_and_checked(api: Client) -> None:
    entry = {
        "provider": "openai",
        "provider_model": "gpt-5",
        "options": {"reasoning_effort": "low", "logit_bias": {"50256": -1.5}, "stop": None},
    }
    stored = api.raw("PUT", "/v1/models/gpt-5-low", entry)
    assert stored.status_code == 200, stored.text
    shown = api.get("/v1/models/gpt-5-low")
    assert shown["options"] == entry["options"]
    assert shown["prices"] == api.get("/v1/models/gpt-5")["prices"] != []
    assert api.get("/v1/models/gpt-5")["options"] == {}

    refused = api.raw("PUT", "/v1/models/gpt-5-low", {**entry, "options": {"model": "gpt-5-pro", "stream": True}})
    assert refused.status_code == 400
    [detail] = refused.json()["details"]
    assert (detail["field"], detail["message"]) == (
        "options",
        "may not set model, stream: the step and its route say that",
    )
    assert api.raw("DELETE", "/v1/models/gpt-5-low", None).status_code == 200
