"""What an API key opens: its scopes, and its workflows."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.api_client import InProcess, gateway_event
from support.deployment import Deployment
from typer.testing import CliRunner

from loopllama.api.auth import Grant, KeyStore
from loopllama.api.scopes import NEEDS, SCOPES, Need
from loopllama.core import exact_json
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Target


@pytest.fixture
def api(live: Deployment) -> InProcess:
    return InProcess(live.settings)


def key(api: InProcess, *scopes: str, workflows: tuple[str, ...] = (), **limits: Any) -> str:
    return KeyStore(api.settings).create("one", Grant(scopes, workflows, **limits))[0]


def ask(api: InProcess, secret: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    return api.answer(gateway_event(secret, method, path, body))


def routes(api: InProcess) -> dict[tuple[str, str], Any]:
    every = api.api._resolver._static_routes + api.api._resolver._dynamic_routes
    return {(route.method, route.path): route for route in every}


def test_every_route_says_which_scope_it_needs(api: InProcess) -> None:
    assert set(routes(api)) == set(NEEDS)
    for (method, path), need in NEEDS.items():
        names = re.findall("<(.*?)>", path)
        assert (need.about == "workflow") == ("workflow_id" in names), path
        assert (need.about == "run") == ("run_id" in names), path
        assert need.scope is not None or need.about == "nothing"
        assert (need.scope == "read") == (method == "GET" and need.scope is not None), (
            "what changes anything is no read"
        )


def test_the_document_says_it_too(api: InProcess) -> None:
    document = api.ask("GET", "/openapi.json")[1]
    said = {
        (method.upper(), path): operation["security"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    shown = {(method, path.translate(str.maketrans("<>", "{}"))): need.scope for (method, path), need in NEEDS.items()}
    assert said == {route: [{"key": [shown[route]]}] if shown[route] else [] for route in said}
    assert {route for route in shown if shown[route]} <= set(said)


def test_a_route_that_the_table_lacks_is_refused(api: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(NEEDS, ("GET", "/v1/tools"))
    status, answer = api.ask("GET", "/v1/tools")
    assert (status, "opens to no API key" in answer["error"]) == (403, True)
    assert api.ask("GET", "/v1/nothing")[0] == 404


@pytest.mark.parametrize(
    ("asked", "need"),
    [(route, need) for route, need in NEEDS.items() if need.scope],
    ids=lambda asked: " ".join(asked[:2]),
)
def test_a_key_opens_what_its_scope_says_and_no_more(
    live: Deployment, api: InProcess, asked: tuple[str, str], need: Need
) -> None:
    method, path = asked
    address = re.sub("<.*?>", "nothing", path)
    body = None if method == "GET" else {}
    for scope in SCOPES:
        status, answer = ask(api, key(api, scope), method, address, body)
        if need.scope == scope or scope == "admin":
            assert status != 403, (scope, answer)
        else:
            assert status == 403
            both = " ".join(f"--scope {one}" for one in SCOPES if one in (scope, need.scope))
            shown = path.translate(str.maketrans("<>", "{}"))
            assert answer == {
                "error": f"This API key lacks the scope '{need.scope}', which {method} {shown} needs; make one that "
                f"has it: loopllama keys create NAME {both}"
            }
    assert ask(api, key(api), method, address, body)[0] != 403, "a key without scopes opens everything"


def test_the_command_of_a_refusal_makes_a_key_that_is_let_in(
    live: Deployment, api: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "connect", lambda _: Target("test", api.settings, {}, False))
    mine, theirs = (live.push([{"name": "a"}], name=name) for name in ("mine", "theirs"))
    secret = key(api, "read", workflows=(mine,))

    def made_by(refusal: tuple[int, Any]) -> str:
        status, answer = refusal
        assert status == 403
        command = answer["error"].partition(": loopllama ")[2].replace("NAME", "another")
        made = CliRunner().invoke(app, command.split())
        assert made.exit_code == 0, made.stderr
        return made.stdout.strip()

    start = ("POST", f"/v1/workflows/{mine}/runs", {"input": "hello"})
    starts = made_by(ask(api, secret, *start))
    assert ask(api, starts, *start)[0] == 202
    both = made_by(ask(api, starts, "GET", f"/v1/workflows/{theirs}"))
    assert ask(api, both, "GET", f"/v1/workflows/{theirs}")[0] == 200
    assert ask(api, both, "GET", f"/v1/workflows/{mine}")[0] == 200
    create = ("POST", "/v1/workflows", {"name": "New"})
    admin = made_by(ask(api, both, *create))
    everywhere = ask(api, admin, *create)
    assert everywhere[0] == 403, "the scope alone does not reach beyond the workflows"
    assert ask(api, made_by(everywhere), *create)[0] == 201


def test_a_key_of_one_workflow_reaches_no_other(live: Deployment, api: InProcess) -> None:
    mine, theirs = (live.push([{"name": "a"}], name=name) for name in ("mine", "theirs"))
    runs = {name: live.accept(name, f"input of {name}") for name in (mine, theirs)}
    for run_id in runs.values():
        live.start(run_id)
    secret = key(api, workflows=(mine,))
    reached, foreign, missing = runs[mine], runs[theirs], "run_nothing"
    for (method, path), need in NEEDS.items():
        if need.about not in ("workflow", "run"):
            continue
        for workflow, run_id in ((theirs, foreign), ("nothing", missing)):
            address = path.replace("<workflow_id>", workflow).replace("<run_id>", run_id).replace("<step>", "a")
            status, answer = ask(api, secret, method, address, None if method == "GET" else {})
            if run_id == missing and need.about == "run":
                assert status == 404, address
            else:
                assert (status, "limited to the workflows mine" in answer["error"]) == (403, True), address
                assert "input of theirs" not in exact_json.dumps(answer)
    assert ask(api, secret, "GET", f"/v1/workflows/{mine}/routes")[0] == 200
    assert ask(api, secret, "GET", f"/v1/runs/{reached}")[0] == 200
    assert ask(api, secret, "PUT", "/v1/models/gpt-5", {"enabled": False})[0] == 403, "all workflows use the catalog"


def test_lists_show_a_key_its_own_workflows_alone(live: Deployment, api: InProcess) -> None:
    names = [live.push([{"name": "a"}], name=name) for name in ("one", "two", "three")]
    for name in names:
        live.accept(name, f"input of {name}")

    def listed(secret: str, path: str, field: str) -> set[str]:
        status, answer = ask(api, secret, "GET", path)
        assert status == 200, answer
        return {row[field] for row in answer["data"]}

    single, several = key(api, "read", workflows=("one",)), key(api, "read", workflows=("one", "two", "gone"))
    assert listed(single, "/v1/workflows", "id") == {"one"}
    assert listed(several, "/v1/workflows?limit=1", "id") == {"one", "two"}
    assert listed(single, "/v1/runs", "workflow_id") == {"one"}
    assert listed(several, "/v1/runs?workflow=two", "workflow_id") == {"two"}
    for path in ("/v1/runs", "/v1/usage"):
        assert ask(api, several, "GET", f"{path}?workflow=three")[0] == 403
        status, answer = ask(api, several, "GET", path)
        assert (status, answer["error"].endswith("name one of them, as in ?workflow=gone")) == (403, True)
        assert ask(api, single, "GET", path)[0] == 200
        assert ask(api, several, "GET", f"{path}?workflow=one")[0] == 200


def test_a_key_has_its_requests_of_a_day(live: Deployment, api: InProcess) -> None:
    secret = key(api, max_requests_per_day=2)
    answers = [api.api.handle(gateway_event(secret, "GET", "/v1/models"), None) for _ in range(3)]
    assert [answer["statusCode"] for answer in answers] == [200, 200, 429]
    assert 0 < int(answers[-1]["headers"]["Retry-After"]) <= 86_400


def test_the_history_and_the_bill_name_a_key_that_no_other_key_can_be_called(
    live: Deployment, api: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two keys may have one name, and a key the name of a person."""
    workflow = live.push([{"name": "a"}])
    store = KeyStore(api.settings)
    ids = []
    for _ in range(2):
        secret, kept = store.create("root")
        run = ask(api, secret, "POST", f"/v1/workflows/{workflow}/runs", {"input": "hello"})[1]["data"]
        live.play(run["id"])
        row = ask(api, secret, "PUT", f"/v1/workflows/{workflow}/routes/a", {"model": "test:a"})
        assert row[1]["data"]["updated_by"] == kept["id"]
        assert live.runs.run(run["id"])["api_key"] == kept["id"]
        ids.append(kept["id"])
    assert len(set(ids)) == 2
    assert {row["key"] for row in live.usage_rows() if "key" in row} == set(ids)
    status, answer = api.ask("GET", "/v1/usage?by=key")
    assert status == 200
    assert {group["key"] for group in answer["data"]["groups"]} == set(ids)

    monkeypatch.setattr(target, "connect", lambda _: Target("test", api.settings, {}, False))
    printed = CliRunner().invoke(app, ["usage", "--by", "key"])
    assert all(f"{one} root" in printed.stdout for one in ids), "beside its name, for people"
