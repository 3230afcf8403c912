"""The Workflows table: versions, races, crashes, pages."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.moto_account import account, create_tables

from loopllama.aws import dynamo
from loopllama.errors import InvalidRequest, VersionConflict, WorkflowNotFound
from loopllama.settings import Settings
from loopllama.workflows import store as definitions
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore

SETTINGS = Settings(workflows_table="Workflows")
TABLE = {
    "AttributeDefinitions": [
        {"AttributeName": "workflow_id", "AttributeType": "S"},
        {"AttributeName": "version", "AttributeType": "N"},
        {"AttributeName": "listed", "AttributeType": "S"},
        {"AttributeName": "updated_at", "AttributeType": "S"},
    ],
    "KeySchema": [
        {"AttributeName": "workflow_id", "KeyType": "HASH"},
        {"AttributeName": "version", "KeyType": "RANGE"},
    ],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "by_updated",
            "KeySchema": [
                {"AttributeName": "listed", "KeyType": "HASH"},
                {"AttributeName": "updated_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }
    ],
}


@pytest.fixture
def dynamodb(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with account(monkeypatch) as client:
        create_tables({"Workflows": TABLE}, "eu-central-1")
        yield client("dynamodb", region="eu-central-1")


@pytest.fixture
def store(dynamodb):
    return DefinitionStore(SETTINGS, dynamodb)


@pytest.fixture
def clock(monkeypatch):
    """Times that grow by a second each."""
    ticks = iter(range(100, 1000))
    monkeypatch.setattr(definitions, "now_text", lambda: f"2026-11-23T20:15:00.{next(ticks)}Z")


def workflow(name="Support reply", prompt="Answer.", **fields):
    crew: Any = [{"role": "Writer", "systemPrompt": prompt, **fields}]
    return Workflow(name=name, crew=crew)


def prompt_of(item):
    return item["definition"]["crew"][0]["system_prompt"]


class Interrupted:
    """A DynamoDB client that calls `act` once, before its `at`-th request."""

    def __init__(self, client, at, act):
        self.client, self.left, self.act = client, at, act

    def __getattr__(self, name):
        found = getattr(self.client, name)
        if name not in ("get_item", "put_item", "update_item"):
            return found

        def call(**request):
            self.left -= 1
            if self.left == 0:
                self.act()
            return found(**request)

        return call


def test_a_push_creates_version_1_as_the_current_one(store):
    item = store.push(workflow())
    assert item["workflow_id"] == "support_reply"
    assert (item["version"], item["current_version"], item["status"]) == (0, 1, "active")
    assert item == store.get("support_reply")
    version = store.get("support_reply", 1)
    assert version["definition"] == item["definition"] == workflow().to_definition()
    assert version["version"] == 1
    assert "current_version" not in version


def test_the_same_content_makes_no_new_version(store):
    assert store.push(workflow()) == store.push(workflow())


def test_each_change_makes_a_version_and_leaves_the_old_ones(store):
    created = store.push(workflow())
    for number, change in enumerate(
        (
            workflow(prompt="Shorter."),
            Workflow(name="Support reply", description="x", crew=workflow(prompt="Shorter.").crew),
        ),
        2,
    ):
        item = store.push(change)
        assert item["current_version"] == number
    assert item["created_at"] == created["created_at"]
    assert [prompt_of(store.get("support_reply", number)) for number in (1, 2, 3)] == [
        "Answer.",
        "Shorter.",
        "Shorter.",
    ]
    assert store.get("support_reply")["description"] == "x"


def test_numbers_schemas_and_empty_values_come_back_as_they_were(store):
    crew = [
        {
            "role": "Extractor",
            "systemPrompt": "Take the facts out.",
            "temperature": 0.7,
            "maxTokens": 300,
            "tools": [],
            "policy": "weighted",
            "candidates": [{"model": "a", "weight": 0.1}, {"model": "b", "weight": 2}],
            "outputSchema": {
                "type": "object",
                "properties": {
                    "amount": {"type": "number", "minimum": 0.01, "maximum": 1e20},
                    "note": {"enum": [None, ""]},
                },
                "required": [],
            },
        }
    ]
    given = Workflow.model_validate({"name": "Facts", "model": "small", "crew": crew})
    definition = store.push(given)["definition"]
    assert definition == given.to_definition()
    step = definition["crew"][0]
    assert type(step["temperature"]) is float
    assert type(step["max_tokens"]) is int
    assert store.push(given)["current_version"] == 1


def test_an_expected_version_guards_a_change(store):
    with pytest.raises(VersionConflict, match="at version 0, not 3"):
        store.push(workflow(), expected_version=3)
    store.push(workflow(), expected_version=0)
    store.push(workflow(prompt="B"), expected_version=1)
    with pytest.raises(VersionConflict, match="at version 2, not 1"):
        store.push(workflow(prompt="C"), expected_version=1)
    assert prompt_of(store.get("support_reply")) == "B"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_two_pushes_at_once_make_two_versions(dynamodb, store, at):
    store.push(workflow(prompt="base"))
    slow = DefinitionStore(SETTINGS, Interrupted(dynamodb, at, lambda: store.push(workflow(prompt="fast"))))
    assert prompt_of(slow.push(workflow(prompt="slow"))) == "slow"
    current = store.get("support_reply")
    assert prompt_of(current) == "slow"
    prompts = [
        prompt_of(definitions._plain(dynamo.from_item(item)))
        for item in dynamodb.scan(TableName="Workflows")["Items"]
        if int(item["version"]["N"])
    ]
    assert {"base", "fast", "slow"} == set(prompts)
    assert prompt_of(store.get("support_reply", current["current_version"])) == "slow"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_of_two_pushes_based_on_one_version_one_wins(dynamodb, store, at):
    store.push(workflow(prompt="base"))
    fast = lambda: store.push(workflow(prompt="fast"), expected_version=1)  # noqa: E731
    slow = DefinitionStore(SETTINGS, Interrupted(dynamodb, at, fast))
    with pytest.raises(VersionConflict):
        slow.push(workflow(prompt="slow"), expected_version=1)
    assert prompt_of(store.get("support_reply")) == "fast"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_two_first_pushes_at_once(dynamodb, store, at):
    slow = DefinitionStore(SETTINGS, Interrupted(dynamodb, at, lambda: store.push(workflow())))
    assert slow.push(workflow())["definition"] == store.get("support_reply")["definition"]
    current = store.get("support_reply")
    assert store.get("support_reply", current["current_version"])["definition"] == current["definition"]


class Crash(Exception):
    pass


@pytest.mark.parametrize("at", [2, 3])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("then", ["same", "other"])
def test_a_crash_between_the_writes_is_harmless(dynamodb, store, at, before, then):
    def crash():
        raise Crash

    if before:
        store.push(workflow(prompt="base"))
    with pytest.raises(Crash):
        DefinitionStore(SETTINGS, Interrupted(dynamodb, at, crash)).push(workflow(prompt="same"))
    if before:
        assert prompt_of(store.get("support_reply")) == "base"
        assert store.get("support_reply")["current_version"] == 1
    else:
        with pytest.raises(WorkflowNotFound):
            store.get("support_reply")
    current = store.push(workflow(prompt=then))
    assert prompt_of(current) == then
    assert prompt_of(store.get("support_reply", current["current_version"])) == then


def test_a_version_is_read_once_and_the_current_one_each_time(dynamodb, store):
    store.push(workflow())
    reader = DefinitionStore(SETTINGS, dynamodb)
    first = reader.get("support_reply", 1)
    store.push(workflow(prompt="B"))
    dynamodb.delete_item(TableName="Workflows", Key={"workflow_id": {"S": "support_reply"}, "version": {"N": "1"}})
    assert reader.get("support_reply", 1) is first
    assert reader.get("support_reply")["current_version"] == 2


def test_the_cache_is_bounded(dynamodb, store, monkeypatch):
    monkeypatch.setattr(definitions, "_CACHED", 3)
    for number in range(5):
        store.push(workflow(name=f"W{number}"))
        store.get(f"w{number}", 1)
    assert list(store._versions) == [("w2", 1), ("w3", 1), ("w4", 1)]


@pytest.mark.parametrize("workflow_id", ["nobody", "", "x" * 5000, "§"])
def test_an_unknown_workflow_is_not_found(store, workflow_id):
    for call in (
        store.get,
        store.delete,
        lambda name: store.get(name, 2),
        lambda name: store.set_status(name, "paused"),
    ):
        with pytest.raises(WorkflowNotFound, match="There is no"):
            call(workflow_id)


def test_an_id_of_ones_own_is_checked(store):
    assert store.push(workflow(), "refunds_eu")["workflow_id"] == "refunds_eu"
    for bad in ("", "Refunds", "a#b", "x" * 129, "a b"):
        with pytest.raises(InvalidRequest, match="a-z, 0-9 and _"):
            store.push(workflow(), bad)


def test_pausing_makes_no_version_and_outlives_a_push(store, clock):
    created = store.push(workflow())
    paused = store.set_status("support_reply", "paused")
    assert (paused["status"], paused["current_version"]) == ("paused", 1)
    assert paused["updated_at"] > created["updated_at"]
    assert store.push(workflow(prompt="B"))["status"] == "paused"
    assert store.set_status("support_reply", "active")["status"] == "active"


def test_create_finds_a_free_id(store):
    ids = [store.create(workflow())["workflow_id"] for _ in range(3)]
    assert ids[0] == "support_reply"
    assert len(set(ids)) == 3
    assert all(one.startswith("support_reply_") and len(one) == len("support_reply_") + 4 for one in ids[1:])
    assert all(store.get(one)["current_version"] == 1 for one in ids)


def test_the_list_is_newest_first_in_pages(store, clock):
    for name in ("a", "b", "c", "d", "e"):
        store.push(workflow(name=name))
    store.push(workflow(name="b", prompt="changed"))
    store.set_status("a", "paused")
    seen, cursor = [], None
    while True:
        items, cursor = store.list(2, cursor)
        seen += [item["workflow_id"] for item in items]
        assert len(items) <= 2
        if cursor is None:
            break
    assert seen == ["a", "b", "e", "d", "c"]
    assert store.list()[0][0]["definition"]["crew"]


@pytest.mark.parametrize("cursor", ["", "x", "e30", "WzEsMl0", "é", "WyJhIiwgImIiLCAiYyJd", "bnVsbA"])
def test_a_strange_cursor_is_refused(store, cursor):
    with pytest.raises(InvalidRequest, match="next_cursor") as caught:
        store.list(2, cursor)
    assert caught.value.details[0]["field"] == "cursor"


def test_deleting_takes_the_versions_away_but_never_their_numbers(dynamodb, store):
    created = store.push(workflow(prompt="A"))["created_at"]
    store.push(workflow(prompt="B"))
    assert store.lives() == {"support_reply": (created, "")}
    store.delete("support_reply")
    for version in (0, 1, 2):
        with pytest.raises(WorkflowNotFound):
            store.get("support_reply", version)
    with pytest.raises(WorkflowNotFound):
        store.set_status("support_reply", "paused")
    with pytest.raises(WorkflowNotFound):
        store.delete("support_reply")
    assert store.list() == ([], None)
    [left] = dynamodb.scan(TableName="Workflows")["Items"]
    assert left.keys() == {"workflow_id", "version", "current_version", "listed", "since", "updated_at"}
    assert (left["version"], left["current_version"]) == ({"N": "0"}, {"N": "2"})
    assert store.lives() == {"support_reply": (created, left["updated_at"]["S"])}
    again = store.push(workflow(prompt="C"), expected_version=0)
    assert (again["current_version"], again["status"]) == (3, "active")
    assert again["created_at"] > created
    assert store.lives() == {"support_reply": (created, "")}


def test_an_interrupted_delete_is_ended_by_the_next(dynamodb, store):
    store.push(workflow())

    class Dies(Interrupted):
        def delete_item(self, **request):
            raise Crash

    with pytest.raises(Crash):
        DefinitionStore(SETTINGS, Dies(dynamodb, 0, None)).delete("support_reply")
    with pytest.raises(WorkflowNotFound):
        store.get("support_reply")
    with pytest.raises(WorkflowNotFound):
        store.delete("support_reply")
    assert dynamodb.scan(TableName="Workflows")["Count"] == 1


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_delete_during_a_push_leaves_a_whole_workflow(dynamodb, store, at):
    store.push(workflow(prompt="base"))
    slow = DefinitionStore(SETTINGS, Interrupted(dynamodb, at, lambda: store.delete("support_reply")))
    current = slow.push(workflow(prompt="new"))
    assert store.get("support_reply") == current
    assert prompt_of(store.get("support_reply", current["current_version"])) == "new"


def test_the_largest_crew_fits_an_item(store):
    crew: Any = [{"role": f"Agent {number}", "systemPrompt": "é" * 800} for number in range(200)]
    assert len(store.push(Workflow(name="Large", crew=crew))["definition"]["crew"]) == 200


def test_reading_loads_no_libraries():
    code = (
        "import sys, loopllama.workflows.store;"
        "sys.exit(any(m in sys.modules for m in ('pydantic', 'boto3', 'jsonschema', 'yaml', 'httpx')))"
    )
    path = str(Path(definitions.__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path})
