"""ministack 1.5.33 with what it lacks of AWS and our stack rests on. It runs in an environment of its own, without
LoopLlama and its tests.

Each patch is a function whose docstring says what AWS does and ministack does not. They rest on ministack's private
names: another version needs another look, which is why requirements/foreign.txt has exactly this one. The variable
UNPATCHED names patches to leave out, by comma: whether a version still needs them.
"""

from __future__ import annotations

import contextvars
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from typing import Any

import ministack.app
from ministack.core import iam_actions, lambda_runtime
from ministack.services import apigateway, cloudformation, cloudwatch, lambda_svc
from ministack.services import stepfunctions as states
from ministack.services.cloudformation import handlers as cloudformation_handlers
from ministack.services.cloudformation import provisioners

MOST_AT_ONCE = 6
"""Processes of a function."""


def replace(module: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of a module's function in its place."""
    setattr(module, name, make(getattr(module, name)))


# API Gateway


def routes_of_an_http_api() -> None:
    """An HTTP API has the routes of the OpenAPI document in `Body`, as SAM writes it, which ministack leaves out:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-open-api.html"""

    def import_body(api_id: str, body: dict[str, Any]) -> None:
        apigateway._routes[api_id], apigateway._integrations[api_id] = {}, {}
        for path, methods in (body.get("paths") or {}).items():
            for method, operation in methods.items():
                integration = operation["x-amazon-apigateway-integration"]
                verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
                target = {
                    "integrationType": integration["type"].upper(),
                    "integrationUri": integration["uri"],
                    "payloadFormatVersion": integration.get("payloadFormatVersion", "2.0"),
                }
                made = json.loads(apigateway._create_integration(api_id, target)[2])
                key = "$default" if path == "/$default" else f"{verb} {path}"
                target_id = f"integrations/{made['integrationId']}"
                apigateway._create_route(api_id, {"routeKey": key, "target": target_id})

    def importing(handle: Any, properties_at: int) -> Any:
        def handled(*arguments: Any, **options: Any) -> Any:
            api_id, attributes = handle(*arguments, **options)
            import_body(api_id, arguments[properties_at].get("Body") or {})
            return api_id, attributes

        return handled

    kind = provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::Api"]
    kind["create"] = importing(kind["create"], 1)
    kind["update"] = importing(kind["update"], 2)


# Lambda

_MARK = "error type: "


def processes_at_once() -> None:
    """Lambda has a processor for each invocation at the same time. ministack starts a process for each, and twenty that
    load at once on two processors answer nobody in time: here an invocation beyond `MOST_AT_ONCE` waits its turn."""
    turns: dict[str, threading.Semaphore] = {}

    def waiting(execute: Any) -> Any:
        def executed(function: Any, *more: Any) -> Any:
            name = (function.get("config") or function)["FunctionName"]
            with turns.setdefault(name, threading.Semaphore(MOST_AT_ONCE)):
                return execute(function, *more)

        return executed

    replace(lambda_svc, "_execute_function_warm", waiting)


def class_of_a_functions_error() -> None:
    """A function that raises answers the exception's class as `errorType`:
    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
    The state machine retries by it. In ministack it is always Runtime.HandlerError. The process that runs a function
    writes the class behind the traceback, and what reads that takes it."""
    before = "traceback.format_exc()"
    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    assert script.count(before) == 1
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(before, f'{before} + "{_MARK}" + type(e).__name__')

    def naming(execute: Any) -> Any:
        def executed(*arguments: Any) -> Any:
            result = execute(*arguments)
            if result.get("error"):
                log, mark, name = result.get("log", "").rpartition(_MARK)
                if mark:
                    result["body"]["errorType"], result["log"] = name, log
            return result

        return executed

    replace(lambda_svc, "_execute_function_warm", naming)


def one_copy_of_a_layer() -> None:
    """Lambda lays a layer's files before a function as they are. ministack unpacks it anew for each process, which for
    our 1,700 files takes seconds; here each version is unpacked once."""
    unpacked: dict[str, str] = {}
    lock = threading.Lock()

    def folder_of(layer: Any) -> str:
        arn = layer if isinstance(layer, str) else layer["Arn"]
        with lock:
            if arn not in unpacked:
                folder = tempfile.mkdtemp(prefix="layer-")
                with zipfile.ZipFile(io.BytesIO(lambda_svc._resolve_layer_zip(layer))) as files:
                    files.extractall(folder)
                unpacked[arn] = folder
            return unpacked[arn]

    def sharing(spawn: Any) -> Any:
        def spawned(worker: Any) -> None:
            config = worker.config
            folders = os.pathsep.join(folder_of(layer) for layer in config.get("Layers", ()))
            variables = {**config["Environment"]["Variables"], "_LAMBDA_LAYERS_DIRS": folders}
            worker.config = {**config, "Layers": [], "Environment": {"Variables": variables}}
            try:
                spawn(worker)
            finally:
                worker.config = config

        return spawned

    replace(lambda_runtime.Worker, "_spawn", sharing)


def invocations_outlive_an_update() -> None:
    """An invocation that is under way ends as it began when the function is updated:
    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    ministack ends the processes of all at once. Here those at work are ended when they are done."""

    def kill_when_done(worker: Any) -> None:
        longest = time.monotonic() + 900
        while worker.in_use and worker._proc and worker._proc.poll() is None and time.monotonic() < longest:
            time.sleep(0.2)
        kill_at_once([worker])

    def killed(workers: Any) -> None:
        # One that nobody has answered, as its time was over, is not at work any more.
        working = [one for one in workers if one and one.in_use and one._lock.locked()]
        for worker in working:
            threading.Thread(target=kill_when_done, args=(worker,), daemon=True).start()
        kill_at_once([one for one in workers if one not in working])

    kill_at_once = lambda_runtime.kill_workers
    lambda_runtime.kill_workers = killed


def metrics_in_log_lines() -> None:
    """A log line in the embedded metric format becomes metrics, under each of its sets of dimensions:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """

    def store(line: str) -> None:
        values = json.loads(line)
        for directive in values["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: str(values[name]) for name in names}
                for metric in directive["Metrics"]:
                    value = values[metric["Name"]]
                    several = value if isinstance(value, list) else [value]
                    unit = metric.get("Unit", "None")
                    named = (directive["Namespace"], metric["Name"], dimensions, time.time(), unit)
                    cloudwatch._store_datum(*named, None, several, None, None)

    def reading(emit: Any) -> Any:
        def emitted(function: Any, request_id: str, log: str, *more: Any, **options: Any) -> None:
            emit(function, request_id, log, *more, **options)
            for line in log.splitlines():
                if line.startswith("{") and '"_aws"' in line:
                    store(line)

        return emitted

    replace(lambda_svc, "_emit_lambda_logs", reading)


# Step Functions

_waiting: contextvars.ContextVar[str] = contextvars.ContextVar("waiting", default="")
"""The token of the callback task that is being started."""
_machine: contextvars.ContextVar[str] = contextvars.ContextVar("machine", default="")
"""The state machine of the task that is being run."""
_machines: dict[str, str] = {}
"""The state machine of each task token."""


def tasks_that_wait_for_an_answer() -> None:
    """A callback task fails as soon as the function that it invoked has failed, and waits as long as
    `TimeoutSecondsPath` says:
    https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token
    In ministack it goes on waiting, for a day where only the path is given."""

    def timed(execute: Any) -> Any:
        def executed(state: Any, given: Any, execution: Any, context: Any) -> Any:
            _machine.set(execution["stateMachineArn"])
            if path := state.get("TimeoutSecondsPath"):
                seen = states._apply_input_path(state, given, context)
                state = {**state, "TimeoutSeconds": states._resolve_path_or_ctx(path, seen, context)}
            return execute(state, given, execution, context)

        return executed

    def known(invoke: Any) -> Any:
        def invoked(resource: str, given: Any, token: str, state: Any) -> Any:
            _machines[token] = _machine.get()
            before = _waiting.set(token)
            try:
                return invoke(resource, given, token, state)
            finally:
                _waiting.reset(before)

        return invoked

    def failing(call: Any) -> Any:
        def called(function: str, event: Any) -> Any:
            try:
                return call(function, event)
            except states._ExecutionError as error:
                if task := states._task_tokens.get(_waiting.get()):
                    task["error"] = {"Error": error.error, "Cause": error.cause}
                    task["event"].set()
                raise

        return called

    replace(states, "_execute_task", timed)
    replace(states, "_invoke_with_callback", known)
    replace(states, "_call_lambda", failing)


def permission_to_answer_a_task() -> None:
    """Who may answer a task is said by its state machine's name:
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html
    ministack asks for a permission on `*`, as the request names only the token."""

    def naming(extract: Any) -> Any:
        def extracted(service: str, method: str, path: str, headers: Any, body: Any, *more: Any) -> str:
            found = str(extract(service, method, path, headers, body, *more))
            token = iam_actions._safe_json_field(body, "taskToken") if service == "states" else None
            return _machines.get(token, found) if token else found

        return extracted

    replace(iam_actions, "extract_resource_arn", naming)


def name_of_a_throttle() -> None:
    """A function that is throttled fails its task with Lambda.TooManyRequestsException:
    https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html
    In ministack it is Lambda.Unknown, which is retried otherwise."""

    def naming(call: Any) -> Any:
        def called(function: str, event: Any) -> Any:
            try:
                return call(function, event)
            except states._ExecutionError as error:
                if error.error == "Lambda.Unknown" and "TooManyRequestsException" in error.cause:
                    raise states._ExecutionError("Lambda.TooManyRequestsException", error.cause) from error
                raise

        return called

    replace(states, "_call_lambda", naming)


def items_of_a_map() -> None:
    """An inline Map runs as many items at once as `MaxConcurrencyPath` says, which ministack does not read. Where they
    come one after another, none begins behind one that failed; ministack begins them all:
    https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html"""
    failed: dict[tuple[int, int], bool] = {}

    def limited(run: Any) -> Any:
        def ran(state: Any, given: Any, execution: Any, context: Any) -> Any:
            if path := state.get("MaxConcurrencyPath"):
                seen = states._apply_input_path(state, given, context)
                state = {**state, "MaxConcurrency": states._resolve_path_or_ctx(path, seen, context)}
            if state.get("MaxConcurrency") == 1:
                failed[id(state["ItemProcessor"]["States"]), id(execution)] = False
            return run(state, given, execution, context)

        return ran

    def begun(run: Any) -> Any:
        def ran(items: Any, start: Any, given: Any, execution: Any, context: Any) -> Any:
            place = (id(items), id(execution))
            if failed.get(place):
                raise states._ExecutionError("States.MapFailed", "an item before this one failed")
            try:
                return run(items, start, given, execution, context)
            except Exception:
                failed.update({place: True} if place in failed else {})
                raise

        return ran

    replace(states, "_run_map_items", limited)
    replace(states, "_run_sub_machine", begun)


def history_inside_a_map() -> None:
    """The history tells of states that items of a Map entered, ministack's of the outermost. Each is asked for by name:
    https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html"""

    class Entered(dict[str, Any]):
        execution: Any

        def get(self, name: str, default: Any = None) -> Any:
            if state := super().get(name, default):
                entered = {"stateEnteredEventDetails": {"name": name}}
                states._add_event(self.execution, f"{state['Type']}StateEntered", entered)
            return state

    def telling(run: Any) -> Any:
        def ran(machine: Any, start: str, given: Any, execution: Any, context: Any) -> Any:
            telling_machine = Entered(machine)
            telling_machine.execution = execution
            return run(telling_machine, start, given, execution, context)

        return ran

    replace(states, "_run_sub_machine", telling)


# CloudFormation


def resources_of_a_deleted_stack() -> None:
    """CloudFormation tells what a deleted stack had, by its id, for 90 days; ministack forgets it at once:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStackResources.html"""

    def remembering(delete: Any) -> Any:
        async def deleted(name: str, stack_id: str, *more: Any, **options: Any) -> None:
            stack = cloudformation._stacks.get(name) or {}
            had = dict(stack.get("_resources") or {})
            await delete(name, stack_id, *more, **options)
            if stack.get("StackStatus") == "DELETE_COMPLETE":
                stack["_resources"] = had

        return deleted

    replace(cloudformation_handlers, "_delete_stack_async", remembering)


PATCHES: tuple[Callable[[], None], ...] = (
    routes_of_an_http_api,
    one_copy_of_a_layer,
    processes_at_once,
    class_of_a_functions_error,
    invocations_outlive_an_update,
    metrics_in_log_lines,
    name_of_a_throttle,
    tasks_that_wait_for_an_answer,
    permission_to_answer_a_task,
    history_inside_a_map,
    items_of_a_map,  # behind the one before it, which copies the states of an item
    resources_of_a_deleted_stack,
)


def end_with_whoever_started_it() -> None:
    """End, with every function's process, when standard input is closed: ministack outlives SIGTERM as long as a client
    waits, and the processes of its functions outlive ministack."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_whoever_started_it, daemon=True).start()
    for patch in PATCHES:
        if patch.__name__ not in os.environ.get("UNPATCHED", "").split(","):
            patch()
    sys.argv = sys.argv[:1]
    ministack.app.main()
