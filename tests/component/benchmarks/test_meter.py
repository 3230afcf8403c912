"""The meter of DynamoDB's capacity against figures of AWS's own pages, and the engine's calls against the meter."""

from __future__ import annotations

from typing import Any

from aws_use.meter import Access, Call, Meter, item_size, read_units, write_units
from support.deployment import Deployment

from loopllama.aws import clients, dynamo
from loopllama.engine.step import StepRunner


def test_sizes_are_those_of_the_developer_guide() -> None:
    # The guide's rules: names and texts in UTF-8, a byte for two digits and one more, 3 for a map or list and 1 for
    # each of its members, 1 for true, false and null.
    assert item_size({"id": {"S": "abc"}, "é": {"S": "é"}}) == 2 + 3 + 2 + 2
    assert item_size({"n": {"N": "27"}}) == 1 + 2
    assert item_size({"n": {"N": "-27"}}) == 1 + 3
    assert item_size({"n": {"N": "1.2345"}}) == 1 + 4
    assert item_size({"m": {"M": {"a": {"S": "xy"}, "b": {"BOOL": True}}}}) == 1 + 3 + (1 + 1 + 2) + (1 + 1 + 1)
    assert item_size({"l": {"L": [{"NULL": True}, {"S": "xy"}]}}) == 1 + 3 + (1 + 1) + (1 + 2)
    assert item_size({"b": {"B": "AAAA"}, "s": {"SS": ["a", "bc"]}}) == 1 + 3 + 1 + 3
    assert [read_units(size, True) for size in (0, 4096, 4097)] == [1, 1, 2]
    assert read_units(4097, consistent=False) == 1
    assert [write_units(*sizes) for sizes in ((0, 1), (1024, 0), (10, 1025))] == [1, 1, 2]


def units(calls: list[Call]) -> list[tuple[str, str, float, int]]:
    return [(one.place, one.partition, one.reads, one.writes) for call in calls for one in call.accesses]


def test_every_kind_of_call_is_counted_as_it_is_billed(live: Deployment) -> None:
    dynamodb, table = clients.client("dynamodb"), "RunsTable"

    def put(run: str, **more: Any) -> None:
        item = {"run_id": run, "item": "RUN", **more}
        dynamodb.put_item(TableName=table, Item=dynamo.to_item(item))

    meter, key = Meter("Test"), {"run_id": "r", "item": "RUN"}
    with meter.on():
        put("r", input="x" * 2000)
        assert units(meter.take()) == [(table, "r", 0, 2)]
        # Into both indexes; out of one and within the other; a change that no index holds; moved to another key.
        put("r", workflow_id="w", created_at="1", active="0", check_at="1")
        put("r", workflow_id="w", created_at="1", status="running")
        put("r", workflow_id="w", created_at="1", status="running", output="o")
        put("r", workflow_id="w", created_at="2", status="running")
        assert [[one[1:] for one in units([call])] for call in meter.take()] == [
            [("r", 0, 2), ("w", 0, 1), ("0", 0, 1)],
            [("r", 0, 1), ("w", 0, 1), ("0", 0, 1)],
            [("r", 0, 1)],
            [("r", 0, 1), ("w", 0, 1), ("w", 0, 1)],
        ]
        refused, _ = dynamo.update(dynamodb, table, key, {"output": "o"}, condition="attribute_not_exists(run_id)")
        assert not refused
        assert units(meter.take()) == [(table, "r", 0, 1)]
        dynamo.batch_get(dynamodb, table, [key, {"run_id": "none", "item": "RUN"}], by="run_id")
        dynamodb.get_item(TableName=table, Key=dynamo.to_item(key))
        assert units(meter.take()) == [(table, "r", 1, 0), (table, "none", 1, 0), (table, "r", 0.5, 0)]
        for place in range(3):
            item = {"run_id": "r", "item": f"STEP#{place}#0#0", "output": "x" * 3000}
            dynamo.batch_put(dynamodb, table, [item])
        meter.take()
        # 9 KB are read whatever is asked of them, and rounded up together.
        found = dynamo.query(
            dynamodb,
            table,
            "run_id = :run AND #item > :step",
            {":run": "r", ":step": "STEP"},
            names={"#item": "item"},
            attributes=("item",),
            consistent=True,
        )
        assert (len(found), units(meter.take())) == (3, [(table, "r", 3, 0)])
        dynamo.query(dynamodb, table, "workflow_id = :w", {":w": "w"}, index="by_workflow")
        assert units(meter.take()) == [(f"{table}/by_workflow", "w", 0.5, 0)]
        with meter.during("Other"):
            dynamodb.delete_item(TableName=table, Key=dynamo.to_item(key))
        [call] = meter.take()
        assert (call.function, call.operation, call.writes) == ("Other", "DeleteItem", 2)
        assert call.accesses[0] == Access(table, "r", writes=1)
    put("r")
    assert not meter.calls  # off


def test_what_a_step_reads_and_writes_does_not_grow_with_the_crew(live: Deployment) -> None:
    """Prompts that name what they use: the last of many steps takes what the second took."""
    crew: list[dict[str, Any]] = [{"name": "s0"}]
    for place in range(1, 12):
        crew.append({"name": f"s{place}", "prompt": f"{{{{ steps.s{place - 1}.output }}}} of {{{{ input }}}}"})
    crew[9]["when"] = "steps.s0.output"
    crew[10]["when"] = "length(values(steps)) > `0`"  # it may read any of them
    work: Any = live.map(live.start(live.accept(live.push(crew))))[0]
    runner, meter = StepRunner(live.settings), Meter()
    taken = []
    with meter.on():
        for place in range(12):
            work = runner.run_step(work, f"invocation-{place}", 60_000)
            steps = [call for call in meter.take() if call.table in ("RunsTable", "UsageTable")]
            taken.append((len(steps), sum(call.reads for call in steps), sum(call.writes for call in steps)))
    assert taken[1:9] == [taken[1]] * 8 == [(5, 3, 4)] * 8
    assert [reads for _, reads, _ in taken[9:]] == [4, 12, 3]
    assert live.provider.calls[-1].messages[0].text == "answer 11 of hello"
