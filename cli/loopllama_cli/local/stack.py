"""The local stack itself: moto, the functions, the deliveries and the two servers, in this process."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopllama_cli.local import lean
from loopllama_cli.local.credentials import Credentials
from loopllama_cli.local.handle import ACCOUNT, MAX_EVENTS, MAX_FUNCTIONS, REGION, aws_environment

STACK_NAME = "loopllama"


class Stack:
    """A project's template, running. `warn` takes one line for the person at the terminal. `tool_functions` are
    Lambda functions beside the template's: name to folder and handler."""

    def __init__(
        self,
        project: Path,
        parameters: dict[str, str],
        api_port: int,
        aws_port: int,
        warn: Callable[[str], None],
        minute: float = 60.0,
        simulate: bool = True,
        execution_events: int = MAX_EVENTS,
        concurrency: int = MAX_FUNCTIONS,
        tool_functions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        # Nothing in this process may reach a real account, whatever the caller's environment says.
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        self.credentials = Credentials.new()
        of_functions = Credentials.new()  # so that they are told from whoever else asks
        os.environ.update(aws_environment("http://127.0.0.1:9", self.credentials), VALIDATE_LAMBDA_S3="false")
        warnings.filterwarnings("ignore", module="moto")
        logging.getLogger("moto").setLevel(logging.CRITICAL)  # it reports what a template does as its own trouble
        lean.install()
        from moto.awslambda.models import LambdaFunction
        from moto.cloudformation.models import cloudformation_backends
        from moto.cloudformation.parsing import get_model_map
        from moto.cloudwatch.models import cloudwatch_backends
        from moto.events.models import events_backends
        from moto.logs.models import logs_backends

        from loopllama_cli.local import aws_server, http_api, providers, template
        from loopllama_cli.local.events import Events
        from loopllama_cli.local.functions import Functions
        from loopllama_cli.local.logs import Logs
        from loopllama_cli.local.moto_patches import install
        from loopllama_cli.local.streams import Streams

        self._clients: dict[str, Any] = {}
        self._clients_lock = threading.Lock()
        self._aws = _listen(aws_port, "--aws-port", lambda: aws_server.serve(aws_port, self.credentials, of_functions))
        self.aws_endpoint_url = f"http://127.0.0.1:{self._aws.port}"
        environment = aws_environment(self.aws_endpoint_url, self.credentials)
        os.environ.update(environment)
        seen_by_functions = aws_environment(self.aws_endpoint_url, of_functions)

        keys = providers.credentials(os.environ)
        stand_ins = {"SimulatedProviders": ",".join(providers.simulated(keys)) if simulate else ""}
        prepared = template.load(project, parameters, stand_ins, lambda kind: kind in get_model_map())
        template.add_functions(prepared, tool_functions or {})
        for reason, group in prepared.dropped.items():
            warn(f"not created locally ({reason}): {', '.join(group)}")
        self._api = _listen(
            api_port, "--api-port", lambda: http_api.serve(api_port, prepared.routes, self._invoke_by_logical_id)
        )
        self.api_url = f"http://127.0.0.1:{self._api.server_address[1]}"
        template.localise_urls(prepared, self.api_url)

        logs = Logs(logs_backends[ACCOUNT][REGION], cloudwatch_backends[ACCOUNT][REGION])
        self.functions = Functions(self._find, logs.write, self._send, warn, seen_by_functions, concurrency)
        self.events = Events(
            events_backends[ACCOUNT][REGION], self.functions.invoke_later, self._start, self._send, warn, minute
        )
        self.streams = Streams(self.functions.invoke, matches, self._send, warn)
        install.install(self.functions, self.events, self.streams, self.client, execution_events)

        stack = cloudformation_backends[ACCOUNT][REGION].create_stack(
            name=STACK_NAME,
            template=json.dumps(prepared.body),
            parameters=prepared.parameters,
            tags={},
        )
        self._resources: Any = stack.resource_map
        self.functions.close_list(
            resource for resource in self._resources.values() if isinstance(resource, LambdaFunction)
        )
        self.outputs = {output["OutputKey"]: str(output["OutputValue"]) for output in stack.outputs or []}
        self._store_secrets(keys)
        self.events.start_schedules()

    def client(self, service: str) -> Any:
        """Return a boto3 client of this stack."""
        import boto3

        make: Any = boto3.client
        with self._clients_lock:
            if service not in self._clients:
                self._clients[service] = make(service, endpoint_url=self.aws_endpoint_url, region_name=REGION)
            return self._clients[service]

    def processes(self, function: str) -> list[int]:
        """Process ids of a function, by logical id, name or ARN."""
        return self.functions.pids(self._name(function))

    def configure(self, function: str, timeout: int | None, variables: dict[str, str]) -> None:
        """Let a function, by logical id, name or ARN, run with another timeout (s) and further variables."""
        self.functions.configure(self._name(function), timeout, variables)

    def _name(self, function: str) -> str:
        resource = self._resources.get(function)
        return str(getattr(resource, "function_name", function))

    def _store_secrets(self, keys: dict[str, str]) -> None:
        from moto.awslambda.models import lambda_backends

        functions = lambda_backends[ACCOUNT][REGION].list_functions()
        prefixes = {function.environment_vars.get("PROVIDER_SECRETS_PREFIX") for function in functions} - {None, ""}
        for name, secret in [(f"{prefix}{name}", secret) for prefix in prefixes for name, secret in keys.items()]:
            client = self.client("secretsmanager")
            try:
                client.create_secret(Name=name, SecretString=secret)
            except client.exceptions.ResourceExistsException:
                client.put_secret_value(SecretId=name, SecretString=secret)

    def _find(self, name: str) -> Any:
        from moto.awslambda.models import lambda_backends

        return lambda_backends[ACCOUNT][REGION].get_function(name)

    def _invoke_by_logical_id(self, logical_id: str, event: bytes) -> Any:
        return self.functions.invoke(self._resources[logical_id].function_name, event)

    def _send(self, arn: str, body: str, attributes: dict[str, str]) -> None:
        """Send a message to a queue, an event to a topic's subscribers: targets of failed deliveries."""
        service, name = arn.split(":")[2], arn.split(":")[5]
        if service == "sqs":
            queue = self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
            typed = {key: {"DataType": "String", "StringValue": value or "-"} for key, value in attributes.items()}
            self.client("sqs").send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=typed)
        elif service == "sns":
            self.client("sns").publish(TopicArn=arn, Message=body)
        elif service == "lambda":
            self.functions.invoke_later(arn, body.encode())
        else:
            raise ValueError(f"the local stack sends no messages to {arn}")

    def _start(self, arn: str, name: str, body: str) -> None:
        from moto.stepfunctions.parser.models import stepfunctions_parser_backends

        stepfunctions_parser_backends[ACCOUNT][REGION].start_execution(arn, name[:80], body)


def _listen(port: int, option: str, serve: Callable[[], Any]) -> Any:
    try:
        return serve()
    except OSError as error:
        raise OSError(
            f"cannot listen on port {port} of 127.0.0.1 ({error.strerror}); choose another with {option}, "
            "0 takes a free one: loopllama local --api-port 0 --aws-port 0"
        ) from error


def matches(pattern: str, record: dict[str, Any]) -> bool:
    """EventBridge's matcher, of a pattern in JSON."""
    compiled = _compiled(pattern)
    # moto copies and flattens all that it is given: both images of an item, for each pattern.
    return compiled.matches_event(_named(compiled.get_pattern(), record))  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    from moto.events.models import EventPattern

    return EventPattern.load(pattern)


def _named(pattern: dict[str, Any], record: Any) -> Any:
    """Return the parts of a record that a pattern names."""
    if "$or" in pattern or not isinstance(record, dict):
        return record
    return {
        name: _named(inner, record[name]) if isinstance(inner, dict) else record[name]
        for name, inner in pattern.items()
        if name in record
    }
