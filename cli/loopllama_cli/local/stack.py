"""The local stack itself: moto, the functions, the deliveries and the two servers, in this process."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
REGION = "us-east-1"
STACK_NAME = "loopllama"


def aws_environment(endpoint: str) -> dict[str, str]:
    """What a program needs to reach the stack with boto3 or the AWS CLI."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_SESSION_TOKEN": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


class Stack:
    """A project's template, running. `warn` takes one line for the person at the terminal."""

    def __init__(
        self,
        project: Path,
        parameters: dict[str, str],
        api_port: int,
        aws_port: int,
        warn: Callable[[str], None],
        minute: float = 60.0,
    ) -> None:
        # Nothing in this process may reach a real account, whatever the caller's environment says.
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(aws_environment("http://127.0.0.1:9"), VALIDATE_LAMBDA_S3="false")
        warnings.filterwarnings("ignore", module="moto")
        logging.getLogger("moto").setLevel(logging.CRITICAL)  # it reports what a template does as its own trouble
        from moto.cloudformation import cloudformation_backends
        from moto.cloudformation.parsing import get_model_map
        from moto.cloudwatch.models import cloudwatch_backends
        from moto.events.models import events_backends
        from moto.logs.models import logs_backends

        from loopllama_cli.local import aws_server, http_api, seams, template
        from loopllama_cli.local.events import Events
        from loopllama_cli.local.functions import Functions
        from loopllama_cli.local.logs import Logs
        from loopllama_cli.local.streams import Streams

        self._clients: dict[str, Any] = {}
        self._clients_lock = threading.Lock()
        self._aws = aws_server.serve(aws_port)
        self.aws_endpoint_url = f"http://127.0.0.1:{self._aws.server_port}"
        os.environ.update(aws_environment(self.aws_endpoint_url))

        prepared = template.load(project, parameters, lambda kind: kind in get_model_map())
        for name, kind, reason in prepared.dropped:
            warn(f"not created locally: {name} ({kind}): {reason}")

        logs = Logs(logs_backends[ACCOUNT][REGION], cloudwatch_backends[ACCOUNT][REGION])
        self.functions = Functions(self._find, logs.write, self._send, warn, aws_environment(self.aws_endpoint_url))
        self.events = Events(
            events_backends[ACCOUNT][REGION], self.functions.invoke_later, self._start, self._send, warn, minute
        )
        self.streams = Streams(self.functions.invoke, _matches, self._send, warn)
        seams.install(self.functions, self.events, self.streams, self.client)

        stack = cloudformation_backends[ACCOUNT][REGION].create_stack(
            name=STACK_NAME,
            template=json.dumps(prepared.body),
            parameters=parameters,
            tags={},
        )
        self._resources = stack.resource_map
        self._api = http_api.serve(api_port, prepared.routes, self._invoke_by_logical_id)
        self.api_url = f"http://127.0.0.1:{self._api.server_address[1]}"
        self._localise_urls()
        self.outputs = {each["OutputKey"]: self._local_url(str(each["OutputValue"])) for each in stack.outputs or []}
        self.events.start_schedules()

    def client(self, service: str) -> Any:
        """A boto3 client of this stack."""
        import boto3

        with self._clients_lock:
            if service not in self._clients:
                self._clients[service] = boto3.client(service, endpoint_url=self.aws_endpoint_url, region_name=REGION)
            return self._clients[service]

    def function_variable(self, name: str) -> str:
        """An environment variable that the template gives to some function; "" if to none."""
        for resource in self._functions():
            if name in resource.environment_vars:
                return str(resource.environment_vars[name])
        return ""

    def processes(self, function: str) -> list[int]:
        """Process ids of a function, by logical id, name or ARN."""
        resource = self._resources.get(function)
        return self.functions.pids(getattr(resource, "function_name", function))

    def stop(self) -> None:
        self.events.close()
        self.streams.close()
        self._api.shutdown()
        self._aws.shutdown()
        self.functions.close()

    def _functions(self) -> list[Any]:
        from moto.awslambda.models import lambda_backends

        return list(lambda_backends[ACCOUNT][REGION].list_functions())

    def _find(self, name: str) -> Any:
        from moto.awslambda.models import lambda_backends

        return lambda_backends[ACCOUNT][REGION].get_function(name)

    def _invoke_by_logical_id(self, logical_id: str, event: bytes) -> Any:
        return self.functions.invoke(self._resources[logical_id].function_name, event)

    def _send(self, arn: str, body: str, attributes: dict[str, str]) -> None:
        """A message into a queue, an event to a topic's subscribers: targets of failed deliveries."""
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

    def _local_url(self, text: str) -> str:
        return re.sub(r"https://[a-zA-Z0-9-]+\.execute-api\.[^/\s\"]+(/(Prod|Stage|local)(?=/|$))?", self.api_url, text)

    def _localise_urls(self) -> None:
        for function in self._functions():
            variables = function.environment_vars
            function.environment_vars = {
                name: self._local_url(value) if isinstance(value, str) else value for name, value in variables.items()
            }


def _matches(pattern: dict[str, Any], record: dict[str, Any]) -> bool:
    from moto.events.models import EventPattern

    return EventPattern.load(json.dumps(pattern)).matches_event(record)  # type: ignore[arg-type]
