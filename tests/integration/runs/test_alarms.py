"""The template's alarms, evaluated as CloudWatch evaluates them: on the metrics that the functions' logs became, and on
those that AWS writes of the stack's own functions, tables, queues and state machine, put here as AWS puts them."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from support.provider_server import Status, Text, in_turn
from support.system import System
from template.project import resources, template

ALARMS = resources("AWS::CloudWatch::Alarm")
OF_AWS = {
    **dict.fromkeys(["FunctionsThrottled", "OtherFunctionsThrottled", "ExecutionsThrottled"], "AlarmThrottles"),
    **dict.fromkeys(["ReadsThrottled", "WritesThrottled", "IndexesThrottled"], "AlarmThrottles"),
    **dict.fromkeys(["FunctionsFail", "ApiFails"], "AlarmFunctionErrors"),
    "StreamsLate": "AlarmStreamMilliseconds",
    "DeliveriesLost": None,
}
"""Alarms over metrics of AWS's own, and the parameter that is their threshold; 1 where none is."""


class Alarms:
    """The alarms of the template, over what is measured from now on."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._resources = system.resources
        time.sleep(1 - time.time() % 1)  # so that nothing counts that another test did: CloudWatch takes whole seconds
        self.since = time.time()

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """What an alarm watches, in the form of GetMetricStatistics, the stack's own names filled in."""
        alarm = self._resolved(ALARMS[name]["Properties"])
        if "Metrics" not in alarm:
            return [{key: alarm[key] for key in ("Namespace", "MetricName", "Dimensions", "Period", "Statistic")}]
        total, *rest = alarm["Metrics"]
        assert total["Expression"] == f"{'MAX' if name == 'StreamsLate' else 'SUM'}(FILL(METRICS(), 0))"
        assert total.get("ReturnData", True)
        assert not any(one["ReturnData"] for one in rest)
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
        assert len(rest) <= 9, "10 at most, with room for one more"
        stats = [one["MetricStat"] for one in rest]
        return [{**stat["Metric"], "Period": stat["Period"], "Statistic": stat["Stat"]} for stat in stats]

    def value(self, name: str) -> float | None:
        """The figure of the alarm's period; `None` where nothing was measured."""
        found = []
        for metric in self.metrics(name):
            statistic = metric.pop("Statistic")
            answer = self._system.client("cloudwatch").get_metric_statistics(
                **metric, Statistics=[statistic], StartTime=self.since, EndTime=self.since + metric["Period"]
            )
            found += [point[statistic] for point in answer["Datapoints"]]
        if not found:
            return None
        return max(found) if name == "StreamsLate" else sum(found)

    def rings(self, name: str, **parameters: float) -> bool:
        """Whether the alarm is in the state ALARM; `parameters` instead of the template's defaults."""
        alarm = self._resolved(ALARMS[name]["Properties"], parameters)
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert (alarm["TreatMissingData"], alarm["EvaluationPeriods"]) == ("notBreaching", 1)
        value = self.value(name)
        return value is not None and value >= float(alarm["Threshold"])

    def _resolved(self, value: Any, parameters: dict[str, float] | None = None) -> Any:
        if isinstance(value, list):
            return [self._resolved(one, parameters) for one in value]
        if not isinstance(value, dict):
            return value
        if "Ref" in value:
            name = value["Ref"]
            made_elsewhere = {"AlarmTopic": "topic", "HttpApi": "api"}  # the local stack drops them
            fixed = {"AWS::StackName": self._system.name, **made_elsewhere, **(parameters or {})}
            if name in template()["Parameters"]:
                fixed = {name: template()["Parameters"][name]["Default"], **fixed}
            return fixed[name] if name in fixed else self._resources[name]
        if "Fn::Sub" in value:
            assert value["Fn::Sub"].count("${") == 1
            return value["Fn::Sub"].replace("${AWS::StackName}", self._system.name)
        if "Fn::GetAtt" in value:
            name, attribute = value["Fn::GetAtt"]
            assert attribute == "QueueName"
            return self._resources[name].rpartition("/")[2]
        return {key: self._resolved(one, parameters) for key, one in value.items()}


@pytest.fixture
def alarms(system: System) -> Alarms:
    return Alarms(system)


def test_all_is_quiet_while_runs_complete(alarms: Alarms, system: System) -> None:
    system.run(system.push("Quiet", [{"name": "one"}]))
    assert [name for name in ALARMS if alarms.rings(name)] == []
    assert alarms.value("RunsFail") is None


def test_a_failed_run(alarms: Alarms, system: System, provider: Callable[..., Any]) -> None:
    _, model = provider(lambda _: Status(400))
    workflow = system.push("Fails", [{"name": "one"}], model=model)
    assert system.run(workflow)["status"] == "failed"
    assert alarms.value("RunsFail") == 1
    assert alarms.rings("RunsFail")
    assert not alarms.rings("RunsFail", AlarmFailedRuns=2)


def test_another_stack_of_the_account_adds_nothing_to_this_one(
    alarms: Alarms, system: System, provider: Callable[..., Any]
) -> None:
    """Its functions have what the template gives them under its name; its workflows and models are called alike."""
    _, model = provider(lambda _: Status(400))
    workflow = system.push("Fails in another stack", [{"name": "one"}], model=model)
    given = template()["Globals"]["Function"]["Environment"]["Variables"]
    namespace = given["POWERTOOLS_METRICS_NAMESPACE"]["Fn::Sub"].replace("${AWS::StackName}", "other")
    other = {"POWERTOOLS_METRICS_NAMESPACE": namespace, "POWERTOOLS_SERVICE_NAME": "other"}
    with system.configured("RunStep", **other), system.configured("AdvanceRun", **other):
        assert system.run(workflow)["status"] == "failed"
    assert alarms.value("RunsFail") is None
    assert system.metric("RunsFailed", workflow=workflow) == (0, 0)
    assert system.metric("ModelErrors", model=model) == (0, 0)
    assert system.metric("RunsFailed", stack="other", workflow=workflow) == (1, 1)
    assert system.metric("ModelErrors", stack="other", model=model) == (1, 1)
    assert system.run(workflow)["status"] == "failed"
    assert alarms.value("RunsFail") == 1
    assert system.metric("RunsFailed", stack="other", workflow=workflow) == (1, 1)


def test_an_override_that_makes_no_sense(alarms: Alarms, system: System) -> None:
    workflow = system.push("Overridden", [{"name": "one"}])
    system.put("RoutesTableName", {"workflow": workflow, "step": "one", "model": "no:such-model"})
    assert system.run(workflow)["status"] == "completed"
    assert alarms.rings("OverridesInvalid")
    assert not alarms.rings("OverridesInvalid", AlarmInvalidOverrides=2)


def test_a_model_that_is_throttled(alarms: Alarms, system: System, provider: Callable[..., Any]) -> None:
    busy = Status(429, "slow down", {"retry-after": "1"})
    _, model = provider(in_turn(busy, Text("answer")))
    workflow = system.push("Throttled", [{"name": "one"}], model=model)
    assert system.run(workflow)["status"] == "completed"
    assert alarms.value("ModelsThrottled") == 1
    assert alarms.rings("ModelsThrottled", AlarmThrottles=1)
    assert not alarms.rings("ModelsThrottled")


@pytest.mark.parametrize("status", [401, 404])
def test_a_model_that_nobody_may_use_any_more(
    alarms: Alarms, system: System, provider: Callable[..., Any], status: int
) -> None:
    """The fallback answers, and whoever has the key or the model hears of it."""
    _, refused = provider(lambda _: Status(status, "no such model"))
    _, model = provider(lambda _: Text("answer"))
    before = alarms.value("ModelsNotAvailable") or 0
    run = system.run(system.push(f"Refused {status}", [{"name": "one", "model": refused, "fallbacks": [model]}]))
    assert (run["status"], run["steps"][0]["model"]) == ("completed", model)
    assert alarms.value("ModelsNotAvailable") == before + 1
    assert alarms.rings("ModelsNotAvailable")


def test_what_a_day_cost_is_what_the_bill_says(alarms: Alarms, system: System, provider: Callable[..., Any]) -> None:
    """Over all workflows, failed calls and steps with them, and nothing twice when a failed run is taken up again."""
    answers: list[Any] = [Text("answer"), Status(400), Text("answer"), Text("answer")]
    _, model = provider(in_turn(*answers))
    crew = [{"name": "one"}, {"name": "two"}]
    runs = [system.run(system.push(f"Costs {n}", crew, model=model)) for n in range(2)]
    assert [run["status"] for run in runs] == ["failed", "completed"]
    state = system.invoke("AdvanceRun", {"contract": 1, "run_id": runs[0]["id"], "round": 0, "ended": [], "retry": 0})
    (work,) = state["ready"]
    system.invoke("RunStep", {key: state[key] for key in ("contract", "run_id", "workflow", "version")} | work)
    system.invoke("AdvanceRun", {"contract": 1, "run_id": runs[0]["id"], "round": 1, "ended": [], "retry": 0})
    assert system.read(runs[0]["id"])["status"] == "completed"
    billed = sum(Decimal(row["cost_usd"]) for run in runs for row in system.usage(run["id"]) if row.get("cost_usd"))
    assert billed > 0
    assert alarms.value("CostHigh") == pytest.approx(float(billed))
    for run in runs:
        told, _ = system.metric("RunCost", workflow=run["workflow_id"])
        assert told == pytest.approx(float(system.read(run["id"])["cost_usd"]))
    assert alarms.rings("CostHigh", AlarmDailyCost=float(billed) * 0.99)
    assert not alarms.rings("CostHigh", AlarmDailyCost=float(billed) * 1.01)


@pytest.mark.parametrize("name", OF_AWS)
def test_what_aws_measures(alarms: Alarms, system: System, name: str) -> None:
    """Every metric of the alarm counts, and none of another stack."""
    parameter = OF_AWS[name]
    limit = float(template()["Parameters"][parameter]["Default"]) if parameter else 1.0
    watched = alarms.metrics(name)
    assert len(watched) == len({repr((one["MetricName"], one["Dimensions"])) for one in watched})
    (other, *_) = watched

    def put(metric: dict[str, Any], value: float, dimensions: Any = None) -> None:
        datum = {"MetricName": metric["MetricName"], "Dimensions": dimensions or metric["Dimensions"], "Value": value}
        system.client("cloudwatch").put_metric_data(Namespace=metric["Namespace"], MetricData=[datum])

    put(other, 1000, [{"Name": other["Dimensions"][0]["Name"], "Value": "another-stack"}])
    assert not alarms.rings(name)
    put(other, limit - 0.5)
    assert not alarms.rings(name)
    others = watched[1:] or watched
    # An age is not added to another one.
    more = limit if name == "StreamsLate" else 1
    for metric in others:
        put(metric, more)
    assert alarms.rings(name)
    assert alarms.value(name) == (limit if name == "StreamsLate" else limit - 0.5 + len(others))


def metrics_of(name: str) -> list[dict[str, Any]]:
    return [one["MetricStat"]["Metric"] for one in ALARMS[name]["Properties"]["Metrics"] if "MetricStat" in one]


def named(name: str) -> list[str]:
    """The resources that an alarm's metrics are of."""
    return [metric["Dimensions"][0]["Value"]["Ref"] for metric in metrics_of(name)]


def _machine_names() -> dict[str, Any]:
    found: dict[str, Any] = template()["Resources"]["RunWorkflow"]["Properties"]["DefinitionSubstitutions"]
    return found


def test_an_alarm_watches_everything_there_is() -> None:
    functions = [one for name in ("FunctionsThrottled", "OtherFunctionsThrottled") for one in named(name)]
    assert sorted(functions) == sorted(resources("AWS::Serverless::Function"))
    # The others raise what the state machine repeats, or fails a run by, and RunsFail tells of that.
    invoked = {value["Fn::GetAtt"][0] for value in _machine_names().values() if "Fn::GetAtt" in value}
    assert sorted(named("FunctionsFail")) == sorted({*functions} - invoked)
    streams = {
        one["Properties"]["FunctionName"]["Ref"] for one in resources("AWS::Lambda::EventSourceMapping").values()
    }
    assert set(named("StreamsLate")) == streams
    indexes = {
        (table, index["IndexName"], kind)
        for table, one in resources("AWS::DynamoDB::Table").items()
        for index in one["Properties"].get("GlobalSecondaryIndexes", ())
        for kind in ("ReadThrottleEvents", "WriteThrottleEvents")
    }
    assert {
        (metric["Dimensions"][0]["Value"]["Ref"], metric["Dimensions"][1]["Value"], metric["MetricName"])
        for metric in metrics_of("IndexesThrottled")
    } == indexes
    watched = {
        "ReadsThrottled": resources("AWS::DynamoDB::Table"),
        "WritesThrottled": resources("AWS::DynamoDB::Table"),
        "ExecutionsThrottled": resources("AWS::Serverless::StateMachine"),
        "DeliveriesLost": resources("AWS::SQS::Queue"),
    }
    for name, those in watched.items():
        alarm = repr(ALARMS[name]["Properties"])
        assert [one for one in those if f"'{one}'" not in alarm] == [], name
    for each in ALARMS.values():
        assert each["Condition"] == "HasAlarms"
        assert each["Properties"]["AlarmActions"] == each["Properties"]["OKActions"] == [{"Ref": "AlarmTopic"}]
