"""What runs take of AWS, measured: the figures that `bench_cost` prices."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from .cost import CALL_MS, Use
from .meter import Meter, item_size
from .metered_stack import ROOT, MeteredStack, Taken, metered_stack

MODEL_MS = 3000
"""What a model call is taken to last; here it answers at once."""
SHORT, LONG = 5, 10
"""Steps of the two crews whose difference is a step's own share."""
TOGETHER = 10
"""Steps that an invocation may take, where the parameter StepsPerInvocation says so."""
FUNCTIONS = ("Api", "StartRun", "RunStep", "AdvanceRun", "PublishEvents")
TEXT = "All of it was checked against the contract, and three things stand out. " * 28
"""2 KB: about 500 tokens."""
_WARM_UPS, _TIMED = 2, 6
_SETTLE_SECONDS = 1.5
_OTHER_CALL_MS = 15.0
"""What a call of EventBridge or Step Functions is taken to last."""


def crew(steps: int) -> list[dict[str, Any]]:
    """A line of agents, each of which reads the run's input and what the one before said."""
    first = {"name": "s0", "prompt": "{{ input }}"}
    rest = [{"name": f"s{n}", "prompt": f"{{{{ steps.s{n - 1}.output }}}}\n\n{{{{ input }}}}"} for n in range(1, steps)]
    return [first, *rest]


class Bench:
    """A metered stack with a model and the two crews in it."""

    def __init__(self, live: MeteredStack, provider_url: str) -> None:
        from support.api_client import Client

        self.live, self.system = live, live.system
        self.system.put_provider("bench", provider_url)
        model = self.system.put_model("bench:model", "bench")
        self.workflows = {n: self.system.push(f"Line of {n}", crew(n), model=model) for n in (SHORT, LONG)}
        self.api = Client(self.system)
        self.live.take()

    def run(self, steps: int) -> tuple[str, Taken]:
        """One run over the API, and what it took."""
        self.live.take()
        run_id = self.api.post(f"/v1/workflows/{self.workflows[steps]}/runs", {"input": TEXT}, 202)["id"]
        if self.system.wait(run_id)["status"] != "completed":
            raise AssertionError("the run did not complete")
        time.sleep(_SETTLE_SECONDS)  # its last events
        return run_id, self.live.take()

    def use(self, steps: int) -> Use:
        """A run's use, its times from several runs."""
        for _ in range(_WARM_UPS):
            self.run(steps)
        before = {name: self.live.processor_seconds(name) for name in FUNCTIONS}
        counts: Counter[str] = Counter()
        for _ in range(_TIMED):
            run_id, taken = self.run(steps)
            counts += taken.invocations
        cpu_ms = {
            name: 1000 * (self.live.processor_seconds(name) - before[name]) / counts[name]
            for name in FUNCTIONS
            if counts[name]
        }
        calls = [call for call in taken.dynamodb if call.function in FUNCTIONS]
        wait_ms = {
            name: (self._waits(name, taken) + MODEL_MS * steps * (name == "RunStep")) / taken.invocations[name]
            for name in cpu_ms
        }
        amounts = {
            "transitions": len(self.system.states_entered(run_id)),
            "writes": sum(call.writes for call in calls),
            "reads": sum(call.reads for call in calls),
            "stored_bytes": self._stored(run_id),
            "log_bytes": sum(taken.log_bytes[name] for name in FUNCTIONS),
            "events": sum(n for (_, service, _), n in taken.others.items() if service == "events"),
            "api_requests": 1,
        }
        return Use(amounts, {name: taken.invocations[name] for name in cpu_ms}, cpu_ms, wait_ms)

    def together(self) -> Use:
        """A run of the short crew whose steps share an invocation."""
        with (
            self.system.configured("StartRun", STEPS_PER_INVOCATION=str(TOGETHER)),
            self.system.configured("RunStep", STEPS_PER_INVOCATION=str(TOGETHER)),
        ):
            return self.use(SHORT)

    def step_calls(self) -> dict[str, Any]:
        """DynamoDB calls of a step whose routes are cached, by kind, and with those that its event takes: what five
        steps more take more, as a run's last step completes the run too."""
        step: Counter[str] = Counter()
        events = 0
        for steps, sign in ((LONG, 1), (SHORT, -1)):
            _, taken = self.run(steps)
            for call in taken.of("RunStep"):
                step[call.operation] += sign
            events += sign * len(taken.of("PublishEvents"))
        kinds = {name: count / (LONG - SHORT) for name, count in step.items() if count}
        run_step = sum(kinds.values())
        return {"by_kind": kinds, "run_step": run_step, "with_events": run_step + events / (LONG - SHORT)}

    def route_reads(self) -> dict[str, float]:
        """What a decision costs whose routes are not cached."""
        with self.system.configured("RunStep", ROUTE_CACHE_SECONDS="0"):
            self.run(SHORT)
            _, taken = self.run(SHORT)
        calls = [call for call in taken.of("RunStep") if call.table in self._route_tables]
        return {"calls": len(calls) / SHORT, "reads": sum(call.reads for call in calls) / SHORT}

    @property
    def _route_tables(self) -> set[str]:
        return {self.system.outputs[name] for name in ("RoutesTableName", "ModelsTableName")}

    def metrics(self) -> dict[str, int]:
        """Metrics of CloudWatch by what they are of: the workflow of so many steps, or all of them together."""
        listed = self.system.client("cloudwatch").list_metrics(Namespace=f"LoopLlama/{self.system.name}")["Metrics"]
        names = {workflow: str(steps) for steps, workflow in self.workflows.items()}
        distinct = {
            (metric["MetricName"], tuple(sorted((pair["Name"], pair["Value"]) for pair in metric["Dimensions"])))
            for metric in listed
        }
        return Counter(names.get(dict(dimensions).get("workflow", ""), "all") for _, dimensions in distinct)

    def _waits(self, function: str, taken: Taken) -> float:
        others = sum(n for (caller, _, _), n in taken.others.items() if caller == function)
        return len(taken.of(function)) * CALL_MS + others * _OTHER_CALL_MS

    def _stored(self, run_id: str) -> int:
        """Bytes that a run leaves in the tables, 100 for each item beside its own."""
        client, size = self.system.client("dynamodb"), 0
        for table in ("RunsTableName", "UsageTableName"):
            pages = client.get_paginator("scan").paginate(TableName=self.system.outputs[table])
            items = (item for page in pages for item in page["Items"])
            size += sum(item_size(item) + 100 for item in items if item["run_id"]["S"] == run_id)
        return size


def recorded(runs: int) -> list[dict[str, Any]]:
    """What a run of the short crew takes after 1, 10, … earlier ones: the engine itself, on the tables in moto."""
    import pytest
    from support.deployment import deployment

    from loopllama.llm.types import ModelResponse, Usage

    rows = []
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as live:
        live.provider.script = lambda _: ModelResponse(TEXT, Usage(1500, 500))
        workflow, meter = live.push(crew(2)), Meter()
        for number in range(runs + 1):
            with meter.on():
                run_id = live.accept(workflow, TEXT)
                live.play(run_id)
            calls = meter.take()
            if number in (1, 10, 100, runs):
                figures = (len(calls), sum(call.reads for call in calls), sum(call.writes for call in calls))
                rows.append(dict(zip(("earlier_runs", "calls", "reads", "writes"), (number, *figures), strict=True)))
    return rows


def crew_sizes() -> list[dict[str, Any]]:
    """What the second and the last step of 50 take, where prompts name what they read and where they take all."""
    import pytest
    from support.deployment import deployment

    from loopllama.engine.step import StepRunner
    from loopllama.llm.types import ModelResponse, Usage

    rows = []
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as live:
        live.provider.script = lambda _: ModelResponse(TEXT, Usage(1500, 500))
        for prompts, agents in (("named", crew(50)), ("default", [{"name": f"s{n}"} for n in range(50)])):
            runner, meter = StepRunner(live.settings), Meter()
            work = live.map(live.start(live.accept(live.push(agents, prompts), TEXT)))[0]
            for number in range(50):
                with meter.on():
                    work = runner.run_step(work, f"invocation-{number}", 60_000)
                calls = [call for call in meter.take() if call.table in ("RunsTable", "UsageTable")]
                if number in (1, 24, 49):
                    row = {"prompts": prompts, "step": number + 1, "calls": len(calls)}
                    rows.append({**row, "reads": sum(c.reads for c in calls), "writes": sum(c.writes for c in calls)})
    return rows


def further_calls() -> dict[str, float]:
    """What one more model call of a step takes: an answer outside its schema, and the next one."""
    import pytest
    from support.deployment import deployment

    from loopllama.llm.types import ModelResponse, Usage

    taken = []
    schema = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as live:
        workflow, meter = live.push([{"name": "s", "outputSchema": schema}]), Meter()
        for answers in (['{"ok": true}'], [TEXT, '{"ok": true}']):
            remaining = iter(answers)
            live.provider.script = lambda _, remaining=remaining: ModelResponse(next(remaining), Usage(1500, 500))
            work = live.map(live.start(live.accept(workflow, TEXT)))[0]
            with meter.on():
                live.step(work)
            calls = [call for call in meter.take() if call.table == "RunsTable"]
            taken.append((len(calls), sum(call.writes for call in calls)))
    return {"calls": taken[1][0] - taken[0][0], "writes": taken[1][1] - taken[0][1]}


def template() -> dict[str, Any]:
    """The template, its short tags read as nothing."""
    import yaml
    from support.deployment import _TemplateLoader

    return dict(yaml.load((ROOT / "template.yaml").read_text(), _TemplateLoader))  # noqa: S506 - safe loader


def memory_of_template() -> int:
    """MB of a function that runs steps, unless somebody says otherwise."""
    return int(template()["Parameters"]["StepMemoryMb"]["Default"])


def alarm_metrics() -> int:
    """Metrics that the template's alarms watch."""
    resources = template()["Resources"]
    alarms = [resource["Properties"] for resource in resources.values() if resource["Type"] == "AWS::CloudWatch::Alarm"]
    return sum(max(1, sum("MetricStat" in metric for metric in alarm.get("Metrics", []))) for alarm in alarms)


def measure(runs: int) -> dict[str, Any]:
    """The figures, in JSON."""
    from support.provider_server import ProviderServer, Text

    # Before the local stack, whose checks of keys stay in this process.
    engine = {"recorded": recorded(runs), "crew_sizes": crew_sizes(), "further_call": further_calls()}
    with (
        ProviderServer() as provider,
        metered_stack({"RouteCacheSeconds": "3600", "RequestsPerSecond": "1000"}) as live,
    ):
        bench = Bench(live, provider.script("bench", lambda _: Text(TEXT, 1500, 500)).url)
        figures: dict[str, Any] = {
            "short": asdict(bench.use(SHORT)),
            "long": asdict(bench.use(LONG)),
            "step": bench.step_calls(),
            "together": asdict(bench.together()),
            "route": bench.route_reads(),
            "metrics": bench.metrics(),
            "memory_mb": round(live.memory_mb("RunStep"), 1),
        }
    return {**figures, **engine, "alarm_metrics": alarm_metrics()}
