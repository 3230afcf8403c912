"""What the local stack changes in moto's Step Functions: tasks call the functions, executions end as on AWS."""

from __future__ import annotations

import copy
import importlib
import io
import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError
from moto.core.responses import ActionResult
from moto.stepfunctions import models as stepfunctions_models
from moto.stepfunctions.exceptions import InvalidExecutionInput
from moto.stepfunctions.parser import models as parser_models
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext, EventManager
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.backend import execution as execution_models
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.responses import StepFunctionResponse

from loopllama_cli.local.events import Events
from loopllama_cli.local.functions import Functions
from loopllama_cli.local.moto_patches import redrive
from loopllama_cli.local.moto_patches.patching import replace

MAX_INPUT_BYTES = 256 * 1024
"""https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html; moto checks it between states itself."""


def install(functions: Functions, events: Events, client: Callable[[str], Any], most_events: int) -> None:
    # A state machine made by CloudFormation lands in a backend that does not execute.
    replace(stepfunctions_models, "stepfunctions_backends", parser_models.stepfunctions_parser_backends)
    machine_class = stepfunctions_models.StateMachine

    def create_with_substitutions(cls: Any, name: str, resource: Any, *args: Any, **kwargs: Any) -> Any:
        properties = resource["Properties"]
        for key, value in properties.get("DefinitionSubstitutions", {}).items():
            text = json.dumps(str(value))[1:-1]
            properties["DefinitionString"] = properties["DefinitionString"].replace("${" + key + "}", text)
        return create.__func__(cls, name, resource, *args, **kwargs)

    create = replace(machine_class, "create_from_cloudformation_json", classmethod(create_with_substitutions))
    replace(machine_class, "has_cfn_attr", staticmethod(lambda attr: attr in ("Arn", "Name")))

    def get_cfn_attribute(machine: Any, name: str) -> Any:
        return machine.arn if name == "Arn" else get_attribute(machine, name)

    get_attribute = replace(machine_class, "get_cfn_attribute", get_cfn_attribute)

    def invoke(parameters: dict[str, Any], **_: Any) -> dict[str, Any]:
        # Without a boto3 client and an HTTP request for each task.
        try:
            outcome = functions.invoke(parameters["FunctionName"], parameters.get("Payload") or b"{}")
        except Exception as error:
            raise _client_error(error) from error
        answer: dict[str, Any] = {"ExecutedVersion": "$LATEST", "StatusCode": 200}
        answer["Payload"] = json.loads(outcome.payload)
        if outcome.error:
            answer["FunctionError"] = outcome.error
        return answer

    replace(lambda_eval_utils, "_invoke_lambda_function", invoke)

    class Client:
        """What `exec_lambda_function` (a function's ARN as a task's Resource) needs of a boto3 client."""

        def invoke(self, **parameters: Any) -> dict[str, Any]:
            answer = invoke(parameters)
            return {**answer, "Payload": io.BytesIO(json.dumps(answer["Payload"]).encode())}

    replace(lambda_eval_utils, "boto_client_for", lambda **_: Client())
    _shared_clients(client)
    _parsed_once()
    _executions(events)
    _bounded_history(events, most_events)
    redrive.install(lambda execution, status: _status_changed(events, execution, status))


def _shared_clients(client: Callable[[str], Any]) -> None:
    """Other service integrations: one boto3 client a service instead of one a task."""
    package = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"
    for name in ("sqs", "sns", "dynamodb", "events", "sfn", "aws_sdk", "unsupported"):
        module = importlib.import_module(f"{package}.state_task_service_{name}")
        replace(module, "boto_client_for", lambda service, **_: client(service))


def _parsed_once() -> None:
    """moto parses the definition for each execution (the product's takes 50 to 100 ms) and each path at each use. A
    program keeps state while it runs, so each execution gets a copy of the parsed one."""

    @lru_cache(maxsize=16)
    def parsed(definition: str) -> Any:
        return parse.__func__(definition)

    def parse_copy(definition: str) -> tuple[Any, Any]:
        program, tree = parsed(definition)
        return copy.deepcopy(program), tree

    parse = replace(AmazonStateLanguageParser, "parse", staticmethod(parse_copy))
    replace(json_path, "parse", lru_cache(maxsize=1024)(vars(json_path)["parse"]))


def _client_error(error: Exception) -> ClientError:
    code = getattr(error, "code", None) or getattr(error, "error_type", None) or type(error).__name__
    status = getattr(error, "status", None) or getattr(error, "code", 400)
    if type(error).__name__ == "UnknownFunctionException":
        code, status = "ResourceNotFoundException", 404
    answer: Any = {
        "Error": {"Code": str(code), "Message": str(error)},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": str(uuid.uuid4())},
    }
    return ClientError(answer, "Invoke")


def _executions(events: Events) -> None:
    lock = threading.Lock()

    def start_execution(backend: Any, arn: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        # moto names an execution without a name "None".
        if name:
            backend._validate_name(name)
        text = args[0] if args else kwargs.get("execution_input")
        if text and len(text.encode()) > MAX_INPUT_BYTES:
            raise InvalidExecutionInput(f"the input is longer than {MAX_INPUT_BYTES} bytes")
        known = backend.describe_state_machine(arn).executions
        with lock:
            before = len(known)
            execution = start(backend, arn, name or str(uuid.uuid4()), *args, **kwargs)
            started = len(known) > before
        if started:
            _status_changed(events, execution, "RUNNING")
        return execution

    start = replace(parser_models.StepFunctionsParserBackend, "start_execution", start_execution)

    def terminated(communication: Any) -> None:
        execution = communication.execution
        if execution.exec_status == ExecutionStatus.RUNNING:  # not stopped meanwhile
            reflect(communication)
            _status_changed(events, execution)

    reflect = replace(execution_models.BaseExecutionWorkerCommunication, "terminated", terminated)

    def stop_now(execution: Any, stop_date: datetime, error: str | None, cause: str | None) -> None:
        # moto lets the running state end, runs its Catch and calls that FAILED; AWS aborts at once.
        if execution.exec_status != ExecutionStatus.RUNNING:
            return
        execution.exec_status = ExecutionStatus.ABORTED
        execution.stop_date = datetime.now(tz=UTC)
        execution.error, execution.cause = error or None, cause or None
        if execution.exec_worker.env is not None:
            stop(execution, stop_date, error, cause)
        _status_changed(events, execution)

    stop = replace(execution_models.Execution, "stop", stop_now)

    def stop_execution(response: StepFunctionResponse) -> ActionResult:
        # moto drops the error and the cause.
        execution = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
        error, cause = response._get_param("error"), response._get_param("cause")
        execution.stop(stop_date=datetime.now(tz=UTC), error=error, cause=cause)
        return ActionResult({"stopDate": execution.stop_date})

    replace(StepFunctionResponse, "stop_execution", stop_execution)

    def execution_logic(worker: Any) -> None:
        # An error inside the engine would leave the execution RUNNING for ever.
        try:
            logic(worker)
        except Exception as error:
            execution = worker._execution_communication.execution
            if execution.exec_status == ExecutionStatus.RUNNING:
                execution.exec_status = ExecutionStatus.FAILED
                execution.stop_date = datetime.now(tz=UTC)
                execution.error, execution.cause = "States.Runtime", f"{type(error).__name__}: {error}"
                _status_changed(events, execution)

    logic = replace(ExecutionWorker, "_execution_logic", execution_logic)


def _bounded_history(events: Events, most_events: int) -> None:
    """Fail an execution whose history is full, as AWS does; moto's may grow for ever.

    https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
    """

    def environment_with_end(worker: Any) -> Any:
        made = environment(worker)
        made.event_manager.execution = worker._execution_communication.execution
        return made

    environment = replace(ExecutionWorker, "_get_evaluation_environment", environment_with_end)

    def add_event(manager: Any, *args: Any, **kwargs: Any) -> int:
        number = len(manager._history_event_list) + 1
        execution = getattr(manager, "execution", None)
        if execution is None or number < most_events:
            return int(add(manager, *args, **kwargs))
        with full:
            if execution.exec_status != ExecutionStatus.RUNNING:
                return number
            execution.exec_status = ExecutionStatus.FAILED
        execution.stop_date = datetime.now(tz=UTC)
        execution.error = "States.Runtime"
        execution.cause = f"The execution reached the maximum number of history events ({most_events})."
        details: Any = {"executionFailedEventDetails": {"error": execution.error, "cause": execution.cause}}
        add(manager, EventHistoryContext.of_program_start(), HistoryEventType.ExecutionFailed, details)
        execution.exec_worker.stop(execution.stop_date, execution.error, execution.cause)
        _status_changed(events, execution)
        return number

    full = threading.Lock()
    add = replace(EventManager, "add_event", add_event)


def _status_changed(events: Events, execution: Any, status: str = "") -> None:
    """https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html"""
    status = status or execution.status
    detail = {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine_arn,
        "name": execution.name,
        "status": status,
        "startDate": _milliseconds(execution.start_date),
        "stopDate": None if status == "RUNNING" else _milliseconds(execution.stop_date),
        "input": execution.execution_input,
        "output": json.dumps(execution.output) if status == "SUCCEEDED" else None,
        "inputDetails": {"included": True},
        "outputDetails": {"included": True} if status == "SUCCEEDED" else None,
        "error": execution.error,
        "cause": execution.cause,
    }
    events.publish("aws.states", "Step Functions Execution Status Change", detail, [execution.exec_arn])


def _milliseconds(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp() * 1000)
