"""Everything that the local stack changes in moto, in one place, each with why.

`install` is called once, before the stack's resources are created. moto is a simulation of AWS's state; these seams put
behaviour behind it: functions that run, streams and rules that deliver, executions that end as on AWS.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from moto.awslambda import models as lambda_models
from moto.awslambda import urls as lambda_urls
from moto.awslambda.responses import LambdaResponse
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Stack
from moto.cloudwatch import models as cloudwatch_models
from moto.core.common_models import CloudFormationModel
from moto.core.config import default_user_config
from moto.events import models as events_models
from moto.secretsmanager.models import secretsmanager_backends

from loopllama_cli.local.events import Events
from loopllama_cli.local.functions import Functions, InvokeRefused, invoke_api
from loopllama_cli.local.moto_patches import dynamodb, s3, step_functions
from loopllama_cli.local.moto_patches.patching import replace
from loopllama_cli.local.streams import Streams


def install(
    functions: Functions, events: Events, streams: Streams, client: Callable[[str], Any], most_events: int
) -> None:
    """Put the stack's own parts behind moto. `client(service)` is a boto3 client of the stack's endpoint."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    _lambda(functions)
    dynamodb.install(streams)
    s3.install(events)
    step_functions.install(functions, events, client, most_events)
    # moto's rules know no Lambda and no Step Functions targets, deliver inside PutEvents, and one without a pattern
    # (a schedule) takes every event.
    replace(events_models.Rule, "send_to_targets", lambda rule, event, _transform=True: events.match(rule, event))
    _cloudwatch()
    _cloudformation()


UNCHANGED = (
    "The local stack runs only the functions that template.yaml gives, as it gives them: change them there, or by "
    "`loopllama local --parameter`, and start it again. A tool of your own: loopllama local --tool NAME=FILE.py:HANDLER"
)
# A layer that is only published is in no function: attaching it is a change of configuration.
_CHANGES = ("create_function", "update_function_code", "update_function_configuration")


def _lambda(functions: Functions) -> None:
    def create_with_properties(cls: Any, name: str, resource: Any, *args: Any, **kwargs: Any) -> Any:
        if functions.list_closed:
            raise ValidationError(message=UNCHANGED)
        # moto keeps only some of a function's properties.
        function = create.__func__(cls, name, resource, *args, **kwargs)
        function.template_properties = resource["Properties"]
        return function

    function_class: Any = lambda_models.LambdaFunction
    create = replace(function_class, "create_from_cloudformation_json", classmethod(create_with_properties))
    function_class.template_properties = {}

    def update(*_: Any, **__: Any) -> Any:
        raise ValidationError(message=UNCHANGED)

    replace(function_class, "update_from_cloudformation_json", classmethod(update))

    def change(_: LambdaResponse) -> tuple[int, dict[str, str], str]:
        # Whoever has the credentials by mistake runs nothing of theirs on this machine.
        headers = {"x-amzn-errortype": "AccessDeniedException", "status": "403"}
        return 403, headers, json.dumps({"Type": "User", "message": UNCHANGED})

    for name in _CHANGES:
        replace(LambdaResponse, name, change)

    def invoke_inside(function: Any, body: Any, headers: Any, answer_headers: Any) -> bytes:
        # What moto's other services call: queues, topics, log subscriptions.
        event = (body.encode() if isinstance(body, str) else body) or b"{}"
        if headers.get("x-amz-invocation-type") == "Event":
            functions.invoke_later(function.function_arn, event)
            return b""
        outcome = functions.invoke(function.function_arn, event)
        if outcome.error:
            answer_headers["x-amz-function-error"] = outcome.error
        return outcome.payload

    replace(function_class, "invoke", invoke_inside)

    def invoke(response: LambdaResponse) -> tuple[int, dict[str, str], bytes]:
        try:
            return invoke_api(functions, response)
        except InvokeRefused as error:
            headers = {"x-amzn-errortype": error.code, "status": str(error.status)}
            return error.status, headers, json.dumps({"Type": "User", "message": str(error)}).encode()

    replace(LambdaResponse, "invoke", invoke)

    # moto does not have this operation.
    lambda_urls.url_paths[r"{0}/(?P<api_version>[^/]+)/account-settings/?$"] = LambdaResponse.dispatch
    limits = json.dumps({"AccountLimit": {"ConcurrentExecutions": functions.concurrency}})
    LambdaResponse.get_account_settings = lambda _: (200, {}, limits)  # type: ignore[attr-defined]


def _cloudwatch() -> None:
    def get_metric_statistics(self: Any, *args: Any, **kwargs: Any) -> Any:
        # moto also counts metrics that have further dimensions; CloudWatch takes the exact set.
        wanted = {(dimension["Name"], dimension["Value"]) for dimension in kwargs.get("dimensions") or []}
        exact = [
            datum
            for datum in self.get_all_metrics()
            if {(dimension.name, dimension.value) for dimension in datum.dimensions} == wanted
        ]
        return statistics(SimpleNamespace(get_all_metrics=lambda: exact), *args, **kwargs)

    statistics = replace(cloudwatch_models.CloudWatchBackend, "get_metric_statistics", get_metric_statistics)


def _cloudformation() -> None:
    def parse_template(template: str) -> Any:
        # moto reads JSON with PyYAML's Python parser, which takes seconds for a template of this size.
        try:
            return json.loads(template)
        except ValueError:
            return parse(template)

    parse = replace(Stack, "parse_template", staticmethod(parse_template))
    # To moto, a resource whose condition does not hold is a `None` among the others.
    made = property(lambda stack: [one for one in stack.resource_map.values() if one is not None])
    replace(Stack, "stack_resources", made)
    # Ref of a bus is its name.
    bus: Any = events_models.EventBus
    bus.physical_resource_id = property(lambda bus: bus.name)


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

    def get_cfn_attribute(self, attribute_name: str) -> str:  # noqa: ARG002 - its only attribute
        return str(self.physical_resource_id)

    @classmethod
    def create_from_cloudformation_json(  # type: ignore[override]
        cls, name: str, resource: dict[str, Any], account: str, region: str, **_: Any
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
