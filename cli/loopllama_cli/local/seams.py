"""Everything that the local stack changes in moto, in one place, each with why.

`install` is called once, before the stack's resources are created. moto is a simulation of AWS's state; these seams put
behaviour behind it: functions that run, streams and rules that deliver, executions that end as on AWS.
"""

from __future__ import annotations

import copy
import io
import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from moto.awslambda import models as lambda_models
from moto.awslambda.responses import LambdaResponse
from moto.cloudformation.models import Stack
from moto.cloudwatch import models as cloudwatch_models
from moto.core.common_models import CloudFormationModel
from moto.core.config import default_user_config
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import StreamRecord, StreamShard, Table
from moto.events import models as events_models
from moto.secretsmanager import secretsmanager_backends
from moto.stepfunctions import models as stepfunctions_models
from moto.stepfunctions.parser import models as parser_models
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.backend import execution as execution_models
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker

from loopllama_cli.local.events import Events
from loopllama_cli.local.functions import Functions, InvokeRefused, invoke_api
from loopllama_cli.local.streams import Streams

MAX_STATE_BYTES = 256 * 1024


def install(functions: Functions, events: Events, streams: Streams, client: Callable[[str], Any]) -> None:
    """Put the stack's own parts behind moto. `client(service)` is a boto3 client of the stack's endpoint."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}  # type: ignore[typeddict-item]
    _lambda(functions)
    _dynamodb(streams)
    _step_functions(functions, events, client)
    # moto's rules know no Lambda and no Step Functions targets, deliver inside PutEvents, and one without a pattern
    # (a schedule) takes every event.
    events_models.Rule.send_to_targets = lambda rule, event, transform_input=True: events.match(rule, event)  # type: ignore[method-assign]
    _cloudwatch()
    _cloudformation()


def _lambda(functions: Functions) -> None:
    create = lambda_models.LambdaFunction.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]

    def create_with_properties(cls: Any, name: str, resource: Any, *args: Any, **kwargs: Any) -> Any:
        # moto keeps only some of a function's properties.
        function = create(cls, name, resource, *args, **kwargs)
        function.template_properties = resource["Properties"]
        return function

    lambda_models.LambdaFunction.create_from_cloudformation_json = classmethod(create_with_properties)  # type: ignore[assignment,method-assign]
    lambda_models.LambdaFunction.template_properties = {}  # type: ignore[attr-defined]

    def invoke(response: LambdaResponse) -> tuple[int, dict[str, str], bytes]:
        try:
            return invoke_api(functions, response)
        except InvokeRefused as error:
            headers = {"Content-Type": "application/json", "x-amzn-errortype": error.code}
            return error.status, headers, json.dumps({"Type": "User", "message": str(error)}).encode()

    LambdaResponse.invoke = invoke  # type: ignore[assignment,method-assign]


def _dynamodb(streams: Streams) -> None:
    transaction = threading.local()

    def add(shard: StreamShard, old: Any, new: Any) -> None:
        # moto invokes the function inside the write, and with every record again until one invocation succeeds.
        if old is not None and new is not None and old.to_json() == new.to_json():
            return  # "if you write without changing anything, no record is made" (DynamoDB's developer guide)
        kind = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
        view = shard.table.stream_specification["StreamViewType"]  # type: ignore[index]
        record = StreamRecord(shard.table, view, kind, old, new, len(shard.items) + shard.starting_sequence_number)
        record.record["awsRegion"] = shard.table.region_name
        shard.items.append(record)
        for mapping in shard.table.lambda_event_source_mappings.values():
            pending = getattr(transaction, "records", None)
            if pending is None:
                streams.add(mapping, record.to_json())
            else:
                pending.append((mapping, record.to_json()))

    StreamShard.add = add  # type: ignore[method-assign]

    write = DynamoDBBackend.transact_write_items

    def transact_write_items(backend: DynamoDBBackend, items: list[dict[str, Any]]) -> None:
        # A transaction that is cancelled leaves no stream records, and copying whole tables to be able to cancel makes
        # the write slower with every item stored: only the items that it touches are copied.
        transaction.records = []
        transaction.keys = {}
        for item in items:
            for operation in item.values():
                table = backend.tables.get(operation.get("TableName"))
                if table is not None:
                    source = operation.get("Key") or operation.get("Item", {})
                    values = [source.get(name) for name in (table.hash_key_attr, table.range_key_attr) if name]
                    transaction.keys.setdefault(table.name, []).append(values)
        try:
            write(backend, items)
            records = transaction.records
        finally:
            transaction.records = transaction.keys = None
        for mapping, record in records:
            streams.add(mapping, record)

    DynamoDBBackend.transact_write_items = transact_write_items  # type: ignore[method-assign]

    def deepcopy(table: Table, memo: dict[int, Any]) -> Table:
        keys = (getattr(transaction, "keys", None) or {}).get(table.name)
        duplicate = copy.copy(table)
        if keys is None:  # a backup: as Python would
            memo[id(table)] = duplicate
            duplicate.__dict__.update(copy.deepcopy(table.__dict__, memo))
            return duplicate
        if table.stream_shard is not None:
            duplicate.stream_shard = copy.copy(table.stream_shard)
            duplicate.stream_shard.items = list(table.stream_shard.items)
            duplicate.stream_shard.table = duplicate
        duplicate.items = type(table.items)(dict)  # type: ignore[call-arg]
        duplicate.items.update(
            {key: dict(value) if table.range_key_attr else value for key, value in table.items.items()}
        )
        for values in keys:
            touched = [models_type(value) for value in values if value is not None]
            try:
                if len(touched) == 2:
                    duplicate.items[touched[0]][touched[1]] = copy.deepcopy(table.items[touched[0]][touched[1]])
                elif touched[0] in table.items:
                    duplicate.items[touched[0]] = copy.deepcopy(table.items[touched[0]])
            except (KeyError, IndexError):
                continue
        duplicate.items = type(table.items)(dict, {key: value for key, value in duplicate.items.items() if value})  # type: ignore[call-arg]
        return duplicate

    from moto.dynamodb.models.dynamo_type import DynamoType as models_type

    Table.__deepcopy__ = deepcopy  # type: ignore[attr-defined]

    query = Table.query

    def query_partition(table: Table, hash_key: Any, *args: Any, **kwargs: Any) -> Any:
        # moto sorts and scans the whole table for each Query.
        part = copy.copy(table)
        if kwargs.get("index_name"):
            wanted = dict(kwargs.get("hash_key_conditions") or [])
            part.items = type(table.items)(dict)  # type: ignore[call-arg]
            for key, value in table.items.items():
                if table.range_key_attr:
                    inner = {name: item for name, item in value.items() if _has(item, wanted)}
                    if inner:
                        part.items[key] = inner
                elif _has(value, wanted):
                    part.items[key] = value
        else:
            part.items = {hash_key: table.items[hash_key]} if hash_key in table.items else {}  # type: ignore[assignment]
        return query(part, hash_key, *args, **kwargs)

    Table.query = query_partition  # type: ignore[method-assign]


def _has(item: Any, wanted: dict[str, Any]) -> bool:
    return all((own := item.attrs.get(name)) is not None and own.value == value.value for name, value in wanted.items())


def _step_functions(functions: Functions, events: Events, client: Callable[[str], Any]) -> None:
    # A state machine made by CloudFormation lands in a backend that does not execute.
    stepfunctions_models.stepfunctions_backends = parser_models.stepfunctions_parser_backends  # type: ignore[assignment]
    create = stepfunctions_models.StateMachine.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]

    def create_with_substitutions(cls: Any, name: str, resource: Any, *args: Any, **kwargs: Any) -> Any:
        properties = resource["Properties"]
        for key, value in properties.get("DefinitionSubstitutions", {}).items():
            text = json.dumps(str(value))[1:-1]
            properties["DefinitionString"] = properties["DefinitionString"].replace("${" + key + "}", text)
        return create(cls, name, resource, *args, **kwargs)

    stepfunctions_models.StateMachine.create_from_cloudformation_json = classmethod(create_with_substitutions)  # type: ignore[assignment,method-assign]
    stepfunctions_models.StateMachine.has_cfn_attr = classmethod(lambda cls, attr: attr in ("Arn", "Name"))  # type: ignore[assignment,method-assign]
    get_attribute = stepfunctions_models.StateMachine.get_cfn_attribute
    stepfunctions_models.StateMachine.get_cfn_attribute = (  # type: ignore[method-assign]
        lambda machine, name: machine.arn if name == "Arn" else get_attribute(machine, name)
    )

    def invoke(parameters: dict[str, Any], region: str, state_credentials: Any) -> dict[str, Any]:
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

    lambda_eval_utils._invoke_lambda_function = invoke  # type: ignore[assignment]

    class Client:
        """What `exec_lambda_function` (a function's ARN as a task's Resource) needs of a boto3 client."""

        def invoke(self, **parameters: Any) -> dict[str, Any]:
            answer = invoke(parameters, "", None)
            return {**answer, "Payload": io.BytesIO(json.dumps(answer["Payload"]).encode())}

    lambda_eval_utils.boto_client_for = lambda **kwargs: Client()  # type: ignore[assignment]
    _shared_clients(client)
    _executions(events)


def _shared_clients(client: Callable[[str], Any]) -> None:
    """Other service integrations: one boto3 client a service instead of one a task."""
    import importlib

    package = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"
    for name in ("sqs", "sns", "dynamodb", "events", "sfn", "aws_sdk", "unsupported"):
        module = importlib.import_module(f"{package}.state_task_service_{name}")
        module.boto_client_for = lambda service, region=None, state_credentials=None: client(service)  # type: ignore[attr-defined]


def _client_error(error: Exception) -> ClientError:
    code = getattr(error, "code", None) or getattr(error, "error_type", None) or type(error).__name__
    status = getattr(error, "status", None) or getattr(error, "code", 400)
    if type(error).__name__ == "UnknownFunctionException":
        code, status = "ResourceNotFoundException", 404
    answer = {
        "Error": {"Code": str(code), "Message": str(error)},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": str(uuid.uuid4())},
    }
    return ClientError(answer, "Invoke")  # type: ignore[arg-type]


def _executions(events: Events) -> None:
    start = parser_models.StepFunctionsParserBackend.start_execution
    lock = threading.Lock()

    def start_execution(backend: Any, arn: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        # moto names an execution without a name "None".
        if name:
            backend._validate_name(name)
        known = backend.describe_state_machine(arn).executions
        with lock:
            before = len(known)
            execution = start(backend, arn, name or str(uuid.uuid4()), *args, **kwargs)
            started = len(known) > before
        if started:
            _status_changed(events, execution, "RUNNING")
        return execution

    parser_models.StepFunctionsParserBackend.start_execution = start_execution  # type: ignore[method-assign,assignment]

    reflect = execution_models.BaseExecutionWorkerCommunication.terminated

    def terminated(communication: Any) -> None:
        execution = communication.execution
        if execution.exec_status == ExecutionStatus.RUNNING:  # not stopped meanwhile
            reflect(communication)
            _status_changed(events, execution)

    execution_models.BaseExecutionWorkerCommunication.terminated = terminated  # type: ignore[method-assign]

    stop = execution_models.Execution.stop

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

    execution_models.Execution.stop = stop_now  # type: ignore[method-assign]

    logic = ExecutionWorker._execution_logic

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

    ExecutionWorker._execution_logic = execution_logic  # type: ignore[method-assign]


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


def _cloudwatch() -> None:
    backend = cloudwatch_models.CloudWatchBackend
    statistics = backend.get_metric_statistics

    def get_metric_statistics(self: Any, *args: Any, **kwargs: Any) -> Any:
        # moto also counts metrics that have further dimensions; CloudWatch takes the exact set.
        wanted = {(each["Name"], each["Value"]) for each in kwargs.get("dimensions") or []}
        exact = [
            datum
            for datum in self.get_all_metrics()
            if {(each.name, each.value) for each in datum.dimensions} == wanted
        ]
        return statistics(SimpleNamespace(get_all_metrics=lambda: exact), *args, **kwargs)  # type: ignore[arg-type]

    backend.get_metric_statistics = get_metric_statistics  # type: ignore[method-assign]


def _cloudformation() -> None:
    parse = Stack.parse_template

    def parse_template(template: str) -> Any:
        # moto reads JSON with PyYAML's Python parser, which takes seconds for a template of this size.
        try:
            return json.loads(template)
        except ValueError:
            return parse(template)

    Stack.parse_template = staticmethod(parse_template)  # type: ignore[assignment,method-assign]
    # Ref of a bus is its name.
    events_models.EventBus.physical_resource_id = property(lambda bus: bus.name)  # type: ignore[attr-defined]


class Secret(CloudFormationModel):
    """`AWS::SecretsManager::Secret`, which moto's CloudFormation lacks: being a subclass registers it."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Id"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return str(self.physical_resource_id)

    @classmethod
    def create_from_cloudformation_json(  # type: ignore[override]
        cls, name: str, resource: dict[str, Any], account: str, region: str, **kwargs: Any
    ) -> Secret:
        properties = resource["Properties"]
        text = properties.get("SecretString")
        generate = properties.get("GenerateSecretString")
        if generate is not None:
            text = uuid.uuid4().hex
            if generate.get("SecretStringTemplate"):
                values = json.loads(generate["SecretStringTemplate"])
                text = json.dumps({**values, generate.get("GenerateStringKey", "password"): text})
        answer = secretsmanager_backends[account][region].create_secret(
            name, text, None, properties.get("Description"), properties.get("Tags"), None, None, [], False
        )
        return cls(json.loads(answer)["ARN"])
