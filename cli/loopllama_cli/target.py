"""Which LoopLlama a command talks to: a deployed stack or a local one, found through its CloudFormation outputs."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients
from loopllama.errors import LoopLlamaError
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama_cli.local.credentials import Credentials

DEFAULT_LOCAL_URL = "http://127.0.0.1:4599"
LOCAL_STACK_NAME = "loopllama"
LOCAL_REGION = "us-east-1"

_OUTPUTS = {
    "workflows_table": "WorkflowsTableName",
    "routes_table": "RoutesTableName",
    "route_history_table": "RouteHistoryTableName",
    "models_table": "ModelsTableName",
    "tools_table": "ToolsTableName",
    "runs_table": "RunsTableName",
    "usage_table": "UsageTableName",
    "api_keys_table": "ApiKeysTableName",
    "key_use_table": "KeyUseTableName",
    "values_bucket": "ValuesBucketName",
    "state_machine_arn": "RunWorkflowArn",
    "event_bus_name": "EventBusName",
}
_PARAMETERS = (
    "DefaultModel",
    "RouteCacheSeconds",
    "RetentionDays",
    "AllowedProviderHosts",
    "AllowedModelOptions",
    "AllowedModels",
    "DailyCostLimit",
    "SimulatedProviders",
    "SimulatedSpeed",
)


class TargetMissing(LoopLlamaError):
    """Neither a stack nor the local one was named."""


class TargetUnreachable(LoopLlamaError):
    """AWS, the stack or the local stack does not answer, or does not let us in."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line says about the target. `local`: the address of a local stack; empty for the default."""

    stack: str | None = None
    local: str | None = None
    region: str | None = None
    profile: str | None = None

    def command(self, words: str, *names: str) -> str:
        """Return a command for the same target, with the options that name it. `names` are quoted for a shell."""
        named = {"--stack": self.stack, "--local": self.local, "--region": self.region, "--profile": self.profile}
        options = [f"{name} {shlex.quote(value)}" for name, value in named.items() if value]
        if self.local == "":
            options.append("--local")
        return " ".join(["loopllama", *options, words, *map(shlex.quote, names)])


_called_with: ContextVar[Choice | None] = ContextVar("called_with", default=None)


def remember(choice: Choice) -> Callable[[], None]:
    """Keep what this command was called with for `next_command`; returns what forgets it."""
    token = _called_with.set(choice)
    return lambda: _called_with.reset(token)


def next_command(words: str, *names: str) -> str:
    """Return a command to type next, complete with the `--stack` or `--local` that this one was called with."""
    return (_called_with.get() or Choice()).command(words, *names)


def complete(text: str) -> str:
    """Return a text in which each command stands as it is to be typed after this one: with its `--stack` or `--local`.

    What the packages below say (`set it with: loopllama providers set openai`) does not know who reads it."""
    return _COMMAND.sub(lambda found: next_command(found[1]), text) if next_command("") != "loopllama " else text


AFTER_CONNECTING = ("doctor", "keys", "models", "providers", "routes", "run", "runs", "tools", "trace", "workflows")
"""Commands, and groups of them, that texts name and that talk to a stack."""
_COMMAND = re.compile(rf"\bloopllama ({'|'.join(AFTER_CONNECTING)})\b(?: --stack NAME)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A stack that answered: its settings as its functions see them, and its CloudFormation outputs."""

    name: str
    settings: Settings
    outputs: Mapping[str, str]
    local: bool


def connect(choice: Choice) -> Target:
    """Point this process's AWS clients at the chosen stack and read what it is made of.

    Without a choice, `LOOPLLAMA_STACK` names a deployed stack, then `LOOPLLAMA_LOCAL` the address of a local one.
    Raises `TargetMissing` or `TargetUnreachable`.
    """
    stack, local = choice.stack, choice.local
    if stack and local is not None:
        raise TargetMissing("--stack and --local exclude each other: name one")
    if stack is None and local is None:
        stack = os.environ.get("LOOPLLAMA_STACK") or None
        if stack is None:
            local = os.environ.get("LOOPLLAMA_LOCAL") or None
    if local is not None:
        return connect_local(local_url(local))
    if stack is None:
        raise TargetMissing(
            "Say which LoopLlama you mean: --stack NAME for a deployed one (or LOOPLLAMA_STACK=NAME in the "
            "environment), --local for one that `loopllama local` serves."
        )
    use_account(choice)
    return _read(stack, None)


def use_account(choice: Choice) -> None:
    """Point this process's AWS clients at the chosen region and profile; what is not chosen stays the environment's."""
    if choice.region:
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = choice.region
    if choice.profile:
        os.environ["AWS_PROFILE"] = choice.profile
    clients.client.cache_clear()


def local_url(given: str | None) -> str:
    """Return the address of the local stack that is meant: the one given, `LOOPLLAMA_LOCAL`'s, or the default."""
    return given or os.environ.get("LOOPLLAMA_LOCAL") or DEFAULT_LOCAL_URL


def local_credentials(url: str) -> Credentials:
    """Return the credentials of the local stack at `url`. Raises `TargetUnreachable` where there are none."""
    from loopllama_cli.local.credentials import find

    try:
        credentials = find(url, os.environ)
    except OSError as error:
        raise TargetUnreachable(
            f"The local stack at {url} cannot be reached: {error}. Remove it and start again."
        ) from error
    if credentials is None:
        _refuse_api(url)
        raise TargetUnreachable(
            f"The local stack at {url} cannot be reached: none of yours has its AWS endpoint there. Start one with "
            "`loopllama local`, or give `--local` the aws_endpoint_url that it printed."
        )
    return credentials


def _refuse_api(url: str) -> None:
    """Raise `TargetUnreachable` where the API of a local stack answers at `url`: it prints that address too."""
    import http.client
    from urllib.parse import urlsplit

    from loopllama_cli.local.loopback import NAMES

    try:
        there = urlsplit(url)
        if there.scheme != "http" or there.hostname not in NAMES:
            return
        connection = http.client.HTTPConnection(
            there.hostname, there.port or 80, timeout=10
        )  # a function may start first
        connection.request("GET", "/healthz")
        answered = connection.getresponse().read(1000)
        connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return
    if b'"status":"ok","version":' in answered.replace(b" ", b""):
        raise TargetUnreachable(
            f"{url} is the address of a local stack's API. `--local` takes its AWS endpoint: the aws_endpoint_url that "
            "`loopllama local` printed beside it."
        )


def connect_local(url: str, credentials: Credentials | None = None) -> Target:
    """Send every AWS call of this process to the local stack at `url`, with its credentials. Raises
    `TargetUnreachable`."""
    credentials = credentials or local_credentials(url)
    for name in list(os.environ):
        # A profile or an endpoint of one service would win over the general endpoint.
        if name in {"AWS_PROFILE", "AWS_SESSION_TOKEN"} or name.startswith("AWS_ENDPOINT_URL_"):
            del os.environ[name]
    os.environ.update(
        AWS_ENDPOINT_URL=url,
        AWS_ACCESS_KEY_ID=credentials.aws_access_key_id,
        AWS_SECRET_ACCESS_KEY=credentials.aws_secret_access_key,
        AWS_REGION=LOCAL_REGION,
        AWS_DEFAULT_REGION=LOCAL_REGION,
        AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="false",
        AWS_EC2_METADATA_DISABLED="true",
    )
    clients.client.cache_clear()
    return _read(LOCAL_STACK_NAME, url)


def _read(stack: str, url: str | None) -> Target:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    where = f"The local stack at {url}" if url else f"Stack {stack}"
    try:
        # A local stack that does not run is told at once, not after retries.
        client = clients.client("cloudformation", attempts=1) if url else clients.client("cloudformation")
        # A profile may have said which region it is; what aliases stand for there is a matter of the environment.
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = client.meta.region_name
        description = client.describe_stacks(StackName=stack)["Stacks"][0]
    except ResponseParserError as error:
        if url:
            _refuse_api(url)
        raise TargetUnreachable(f"{where} cannot be read: what answers there is not AWS's CloudFormation.") from error
    except ClientError as error:
        if url:
            _refuse_api(url)
        message = error.response.get("Error", {}).get("Message", str(error))
        if not url and "does not exist" in message:
            raise TargetUnreachable(_not_there(stack, client.meta.region_name)) from error
        raise TargetUnreachable(f"{where} cannot be read: {message}") from error
    except BotoCoreError as error:
        hint = " Start one with `loopllama local`." if url else ""
        raise TargetUnreachable(f"{where} cannot be reached: {error}{hint}") from error
    outputs = {item["OutputKey"]: item["OutputValue"] for item in description.get("Outputs", [])}
    parameters = {item["ParameterKey"]: item.get("ParameterValue", "") for item in description.get("Parameters", [])}
    missing = [name for name in _OUTPUTS.values() if name not in outputs]
    if len(missing) == len(_OUTPUTS):
        raise TargetUnreachable(f"{where} is no LoopLlama: it has no output {', '.join(missing)}.")
    if missing:
        raise TargetUnreachable(
            f"{where} was deployed by another version of LoopLlama: it has no output {', '.join(missing)}. "
            f"This version: {next_command('deploy')}"
        )
    return Target(name=stack, settings=settings_of(stack, outputs, parameters), outputs=outputs, local=url is not None)


def _not_there(stack: str, region: str) -> str:
    """Return what is said of a stack that CloudFormation does not know: where it was looked for, and how to look
    elsewhere."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        account = f"account {clients.client('sts').get_caller_identity()['Account']}"
    except (BotoCoreError, ClientError):
        account = "this account"
    chosen = _called_with.get() or Choice()
    elsewhere = "another region is named with --region, another account with --profile"
    return (
        f"There is no stack {stack} in region {region} of {account}: {elsewhere}. The stacks there: aws cloudformation "
        f"list-stacks --region {region}{f' --profile {shlex.quote(chosen.profile)}' if chosen.profile else ''} "
        "--query 'StackSummaries[].StackName'"
    )


def settings_of(stack: str, outputs: Mapping[str, str], parameters: Mapping[str, str]) -> Settings:
    """Return the settings that the stack's functions have, from its outputs and parameters."""
    environment: dict[str, Any] = {name.upper(): outputs[output] for name, output in _OUTPUTS.items()}
    for parameter in _PARAMETERS:
        name = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in parameter).lstrip("_")
        environment[name] = parameters.get(parameter, "")
    environment["PROVIDER_SECRETS_PREFIX"] = outputs.get("ProviderSecretsPrefix") or f"{stack}/providers/"
    return Settings.from_environment(environment)
