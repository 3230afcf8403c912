"""A whole deployment in one process: the functions, and a driver in the place of everything that invokes them.

The tables and the bucket are moto's; the state machine that is deployed is interpreted. Lambda's retries, EventBridge,
the stream of the Runs table, the schedule, the callers of the API and the models are played here, as far as a run's
life needs them, and each repeats what failed as its AWS counterpart does.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from moto.backends import get_backend

from loopllama.api.app import Api
from loopllama.api.auth import KeyStore
from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.engine.reconcile import execution_ended, reconcile_due
from loopllama.engine.triggers import accept_event
from loopllama.events.log import EventLog
from loopllama.events.types import ShownEvent
from loopllama.jobs.publish_events import Publisher
from loopllama.jobs.record_route_change import RouteRecorder
from loopllama.providers import credentials
from loopllama.providers.http import Reply
from loopllama.queries.usage_days import sum_due
from loopllama.runs.store import FINAL
from loopllama.settings import Settings
from loopllama.telemetry import handler
from support.asl.execution import MOST_EVENTS, Execution
from support.deployment import Deployment
from support.faults import Faults

SCHEDULE_SECONDS = 901
"""A little more than passes between two rounds of the reconciler."""
TOKENS = {"prompt_tokens": 100, "completion_tokens": 10}
"""What the provider counts of every call; at 3 and 15 USD a million tokens 0.00045 USD."""
CONTEXT = SimpleNamespace(aws_request_id="request", function_name="function")


class World(Deployment):
    """`faults` lets a call fail. `serve` answers the model's calls: the request's body to an answer's text, to the
    arguments of a call of the tool, or to a whole `Reply`, which is not paid. `person` is asked whenever a run waits
    for one, before the state machine waits where it is `early`. Without `news` nobody tells of executions that end;
    without `sums` nobody sums the days' usage. While an execution has nothing to do until a time, `meanwhile` may do
    something in time's place, and says whether it did."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(settings, monkeypatch)
        now = clock.time.time  # type: ignore[attr-defined]  # of the clock, which another world may have set
        monkeypatch.setattr(clock, "now_ms", lambda: int((now() + self.shift) * 1000))
        monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda: now() + self.shift))
        self.faults = Faults(self._stand_ins())
        self.faults.install(monkeypatch)
        monkeypatch.setattr("loopllama.providers.http.post", self._post)
        self._tables = get_backend("dynamodb")["123456789012"]["us-east-1"].tables
        self._stream: list[dict[str, Any]] = []
        self._tables["RunsTable"].stream_shard = cast("Any", SimpleNamespace(add=self._changed))
        self.functions = {name: self._invoking(name, call) for name, call in self.functions.items()}
        self.key, _ = KeyStore(settings).create("caller")
        self.put_model("house:one", "house", "one")
        self.put_model("house:two", "house", "two")
        self.forget()

    def forget(self) -> None:
        """Be as after the deployment: no runs, nothing kept in processes. Workflows and keys stay."""
        for name in ("RunsTable", "UsageTable", "RoutesTable", "RouteHistoryTable"):
            self._tables[name].items.clear()
        models = self._tables["ModelsTable"].items
        for key in [key for key in models if str(key.value).startswith(("health#", "observed#"))]:
            del models[key]
        self._stream.clear()
        credentials._kept.clear()
        self.executions: dict[str, Execution] = {}
        self.redrives: dict[str, list[tuple[str, datetime]]] = {}
        """Client tokens and times of the redrives of each execution, by its ARN."""
        self.sent: list[dict[str, Any]] = []
        self.tool_calls: list[str] = []
        self.paid = 0
        self.serve: Callable[[dict[str, Any]], str | dict[str, Any] | Reply] = lambda body: "fine"
        self.person: Callable[[str], object] = lambda run_id: None
        self.meanwhile: Callable[[Execution, float], bool] = lambda execution, due: False
        self.early, self.news, self.sums = False, True, True
        self.most_events = MOST_EVENTS
        self._api = Api(self.settings)
        self._publisher, self._log = Publisher(self.settings, sleep=lambda _: None), EventLog(self.settings)

    # What invokes functions

    def invoke(self, function: str, call: Callable[[], Any]) -> Any:
        """One invocation, in a process of its own as far as caches go."""
        with self.faults.of(function):
            return handler.lambda_handler(lambda *_: call())({}, CONTEXT)

    def asynchronous(self, function: str, call: Callable[[], Any]) -> Any:
        """As Lambda invokes for an event: twice again where it fails."""
        for again in (True, True, False):
            try:
                return self.invoke(function, call)
            except Exception:
                if not again:
                    raise
        raise AssertionError

    def request(self, detail: Mapping[str, Any], kind: str = "RunRequested") -> str:
        """An event asks for a run; its id."""
        event = {"id": f"event-{next(self._numbers)}", "detail-type": kind, "detail": detail}
        run_id = self.asynchronous("AcceptRun", lambda: accept_event(self.settings, event))
        assert isinstance(run_id, str)
        return run_id

    def call_api(self, method: str, path: str, body: Any = None, key: str | None = None) -> dict[str, Any]:
        """A caller of the API, who asks again where it says that it has trouble; the answer's `data`."""
        headers = {"authorization": f"Bearer {self.key}", **({"idempotency-key": key} if key else {})}
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": headers,
            "requestContext": {"requestId": "r", "stage": "$default", "http": {"method": method, "path": path}},
            "body": None if body is None else json.dumps(body),
            "isBase64Encoded": False,
        }
        for tried in range(3):
            answer = self.invoke("Api", lambda: self._api.handle(event, None))
            told = json.loads(answer["body"])
            if answer["statusCode"] < 300:
                return dict(told["data"])
            if answer["statusCode"] == 409 and tried:
                return {}  # what was asked for had been done
            assert answer["statusCode"] in (500, 503), told
        raise AssertionError(told)

    def tick(self) -> None:
        """The reconciler's schedule comes round."""
        with_nothing_lost = {"checked", "started", "closed", "failed", "summed", "unsummed"}

        def reconcile() -> dict[str, Any]:
            counts: list[Mapping[Any, int]] = [reconcile_due(self.settings)]
            counts.append(sum_due(self.settings, lambda: 50_000) if self.sums else {"summed": 0, "unsummed": 0})
            return {name: number for one in counts for name, number in one.items()}

        assert set(self.asynchronous("ReconcileRuns", reconcile)) == with_nothing_lost

    def publish(self, retries: int = 30) -> None:
        """The stream reaches its consumer, which gets again what it did not take, and all that follows."""
        left, self._stream = self._stream, []
        while left:
            taken = self._taken(left[:10])
            left, retries = left[taken:], retries - (not taken)
            assert retries, "records of the stream were given up"

    def _taken(self, batch: list[dict[str, Any]]) -> int:
        """How many records of a batch the consumer took."""
        try:
            answer = self.invoke("PublishEvents", lambda: self._publisher.handle(batch))
        except Exception:
            return 0
        failed = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
        numbers = [one["dynamodb"]["SequenceNumber"] for one in batch]
        return numbers.index(failed[0]) if failed else len(batch)

    def record_change(self, row: Mapping[str, Any]) -> None:
        """Somebody writes a row of the routes table by hand, and the stream tells."""
        keys = {name: row[name] for name in ("workflow", "step")}
        clients.client("dynamodb").put_item(TableName="RoutesTable", Item=dynamo.to_item(row))
        change = {"Keys": dynamo.to_item(keys), "NewImage": dynamo.to_item(row), "SequenceNumber": "1"}
        for _ in range(3):
            answer = self.invoke(
                "RecordRouteChange", lambda: RouteRecorder(self.settings).handle([{"dynamodb": change}])
            )
            if not answer["batchItemFailures"]:
                return
        raise AssertionError("the change was given up")

    # The state machine

    def finish(self, run_id: str) -> None:
        """All that happens by itself, until nothing is due: the execution runs, the reconciler's schedule comes round,
        the stream is consumed. Fails where the run is stuck: unfinished, and nobody will ever look at it."""
        for _ in range(10):
            while running := [one for one in self.executions_of(run_id) if one.status == "RUNNING"]:
                self._execute(running[0])
            run = self.item(run_id, "RUN")
            if "check_at" not in run:
                assert run["status"] in FINAL, f"the run is stuck as {run['status']}"
                self.publish()
                return
            self.wait(max(0, clock.ms_between(clock.now_text(), str(run["check_at"])) / 1000) + 1)
            self.tick()
        raise AssertionError(f"the run does not end: {run}")

    def redrive(self, run_id: str) -> None:
        """Somebody redrives the failed execution: it goes on in the state that failed."""
        execution = self.executions_of(run_id)[-1]
        assert execution.status == "FAILED"
        execution.redrive()
        self.finish(run_id)

    def executions_of(self, run_id: str) -> list[Execution]:
        """The executions of a run, in the order in which they were started."""
        return [one for one in self.executions.values() if one.input.get("run_id", one.name) == run_id]

    def _execute(self, execution: Execution) -> None:
        while (due := execution.go_on()) is not None:
            if not self.meanwhile(execution, due):
                self._pass_time(execution, due)
        if execution.status != "SUCCEEDED":
            failure = execution.failure
            error, cause = (failure.error, failure.cause) if failure else (None, None)
            self._told(execution, error, cause)

    def _pass_time(self, execution: Execution, due: float) -> None:
        """Let time pass until `due`, or until somebody answers. Nothing happens at once, so it is a second more."""
        while self.shift < due and execution.status == "RUNNING":
            waits = execution.open_tokens
            self.wait(min(SCHEDULE_SECONDS, due - self.shift + 1))
            if waits:
                self.tick()
            if waits != execution.open_tokens:
                return

    def _told(self, execution: Execution, error: str | None = None, cause: str | None = None) -> None:
        """News of an execution's end, at best effort."""
        if not self.news:
            return
        detail = {
            "executionArn": execution.arn,
            "name": execution.name,
            "input": json.dumps(execution.input),
            "status": execution.status,
            "error": error,
            "cause": cause,
        }
        self.asynchronous("ReconcileRuns", lambda: execution_ended(self.settings, detail))

    def arn(self, run_id: str) -> str:
        """An execution's ARN."""
        return self.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{run_id}"

    def _invoking(self, name: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """What Step Functions invokes. A person is asked where a step waits for one."""

        def invoked(payload: Any) -> Any:
            answer = self.invoke(name, lambda: call(payload))
            if answer.get("outcome") == "waiting" and ("token" not in payload) == self.early:
                self.person(answer["run_id"])
            return answer

        return invoked

    # AWS and the provider

    def _stand_ins(self) -> dict[str, Callable[[Any, dict[str, Any]], Any]]:
        return {
            "stepfunctions:StartExecution": self._start_execution,
            "stepfunctions:DescribeExecution": self._describe_execution,
            "stepfunctions:RedriveExecution": self._redrive_execution,
            "stepfunctions:StopExecution": self._stop_execution,
            "stepfunctions:SendTaskSuccess": self._send_task_success,
            "events:PutEvents": self._put_events,
            "lambda:Invoke": self._invoke_tool,
            "secretsmanager:GetSecretValue": lambda *_: {
                "SecretString": '{"api_key": "key", "base_url": "https://house.example.com"}'
            },
            "secretsmanager:DescribeSecret": lambda *_: {},
        }

    def _start_execution(self, client: Any, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["name"] in self.executions and self.executions[asked["name"]].status != "RUNNING":
            told = {"Error": {"Code": "ExecutionAlreadyExists", "Message": asked["name"]}}
            raise client.exceptions.ExecutionAlreadyExists(told, "StartExecution")
        arn = self.arn(asked["name"])
        if asked["name"] not in self.executions:
            self.executions[asked["name"]] = self.execution(
                asked["name"], json.loads(asked["input"]), arn=arn, most_events=self.most_events
            )
        return {"executionArn": arn}

    def _send_task_success(self, client: Any, asked: dict[str, Any]) -> dict[str, Any]:
        output = json.loads(asked["output"])
        if not any(execution.succeed(asked["taskToken"], output) for execution in self.executions.values()):
            told = {"Error": {"Code": "TaskDoesNotExist", "Message": asked["taskToken"]}}
            raise client.exceptions.TaskDoesNotExist(told, "SendTaskSuccess")
        return {}

    def _found(self, client: Any, asked: dict[str, Any]) -> Execution:
        execution = self.executions.get(asked["executionArn"].rpartition(":")[2])
        if execution is None:
            told = {"Error": {"Code": "ExecutionDoesNotExist", "Message": asked["executionArn"]}}
            raise client.exceptions.ExecutionDoesNotExist(told, "DescribeExecution")
        return execution

    def _describe_execution(self, client: Any, asked: dict[str, Any]) -> dict[str, Any]:
        execution = self._found(client, asked)
        failure = execution.failure
        told = {"error": failure.error, "cause": failure.cause} if failure else {}
        tokens = self.redrives.get(execution.arn, [])
        dates = {"redriveDate": tokens[-1][1]} if tokens else {}
        if reason := self._why_not(execution):
            told |= {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": reason}
        return {"status": execution.status, "redriveCount": len(tokens), **dates, **told}

    def _why_not(self, execution: Execution) -> str:
        if execution.status in ("RUNNING", "SUCCEEDED"):
            return f"Execution is {execution.status} and cannot be redriven."
        return "Execution history event limit exceeded." if execution.events >= self.most_events - 1 else ""

    def _redrive_execution(self, client: Any, asked: dict[str, Any]) -> dict[str, Any]:
        """Redrive once for a client token."""
        execution = self._found(client, asked)
        tokens = self.redrives.setdefault(execution.arn, [])
        if asked["clientToken"] not in dict(tokens):
            if reason := self._why_not(execution):
                told = {"Error": {"Code": "ExecutionNotRedrivable", "Message": reason}}
                raise client.exceptions.ExecutionNotRedrivable(told, "RedriveExecution")
            tokens.append((asked["clientToken"], datetime.fromtimestamp(clock.now_seconds(), UTC)))
            execution.redrive()
        return {}

    def _stop_execution(self, client: Any, asked: dict[str, Any]) -> dict[str, Any]:
        execution = self._found(client, asked)
        if execution.status == "RUNNING":
            execution.status = "ABORTED"
        return {}

    def _put_events(self, _: Any, asked: dict[str, Any]) -> dict[str, Any]:
        self.sent += [{"type": one["DetailType"], **json.loads(one["Detail"])} for one in asked["Entries"]]
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in asked["Entries"]]}

    def _invoke_tool(self, _: Any, asked: dict[str, Any]) -> dict[str, Any]:
        self.tool_calls.append(json.loads(asked["Payload"])["idempotency_key"])
        return {"Payload": io.BytesIO(b'{"in_stock": 3}')}

    def _post(self, url: str, headers: Any, body: bytes, until: float, who: str) -> Reply:
        def served() -> Reply:
            answer = self.serve(json.loads(body))
            if isinstance(answer, Reply):
                return answer
            self.paid += 1
            message: dict[str, Any] = {"role": "assistant", "content": answer if isinstance(answer, str) else None}
            if not isinstance(answer, str):
                function = {"name": "stock", "arguments": json.dumps(answer)}
                message["tool_calls"] = [{"id": "call-1", "type": "function", "function": function}]
            choice = {"index": 0, "message": message, "finish_reason": "stop" if message["content"] else "tool_calls"}
            return Reply(200, {}, json.dumps({"model": "one", "choices": [choice], "usage": TOKENS}).encode())

        return self.faults.of_provider(served)

    def _changed(self, old: Any, new: Any) -> None:
        """moto writes an item of the Runs table."""
        images = [None if one is None else one.to_json()["Attributes"] for one in (old, new)]
        if images[0] == images[1]:
            return
        known = images[1] or images[0] or {}
        change = {
            "Keys": {name: known[name] for name in ("run_id", "item")},
            "SequenceNumber": f"{next(self._numbers):021}",
            "ApproximateCreationDateTime": clock.now_ms() / 1000,
            **{name: image for name, image in zip(("OldImage", "NewImage"), images, strict=True) if image is not None},
        }
        self._stream.append({"eventName": "MODIFY", "dynamodb": change})

    # What can be seen

    def bill(self, run_id: str) -> list[dict[str, Any]]:
        """The run's rows of the Usage table."""
        return [row for row in self.rows("UsageTable") if row.get("run_id") == run_id]

    def history(self) -> list[dict[str, Any]]:
        """The entries of the RouteHistory table."""
        return list(self.rows("RouteHistoryTable"))

    def events(self, run_id: str) -> list[ShownEvent]:
        """The run's events, in order."""
        return self._log.after(run_id, 0, 1000)

    def run_ids(self) -> list[str]:
        """All runs that have a record."""
        return [row["run_id"] for row in self.rows("RunsTable") if row["item"] == "RUN"]

    def item(self, run_id: str, item: str) -> dict[str, Any]:
        """An item of the run's record; empty where there is none."""
        return next((row for row in self.rows("RunsTable") if (row["run_id"], row["item"]) == (run_id, item)), {})

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """All items of a table."""
        for item in self._tables[table].all_items():
            yield dynamo.from_item(item.to_json()["Attributes"])
