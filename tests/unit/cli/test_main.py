"""The program's shell: options anywhere, exit codes, errors as a sentence, the documented reference."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from typer.main import get_command
from typer.testing import CliRunner

from loopllama import errors
from loopllama.aws import clients
from loopllama.settings import Settings
from loopllama_cli import main, target
from loopllama_cli.commands import trace
from loopllama_cli.docgen.commands import commands, sections
from loopllama_cli.local.credentials import Credentials
from loopllama_cli.main import app, exit_code, hoist
from loopllama_cli.target import Choice, TargetMissing, TargetUnreachable, next_command, settings_of


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """Connecting changes the process's environment: each test begins without a target and leaves nothing behind."""
    for name in [*os.environ]:
        if name.startswith(("AWS_", "LOOPLLAMA_")):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    clients.client.cache_clear()
    yield
    os.environ.clear()
    os.environ.update(before)
    clients.client.cache_clear()


def invoke(*arguments, **options):
    return CliRunner().invoke(app, arguments, **options)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["runs", "list", "--local"], ["--local", "", "runs", "list"]),
        (["--local", "runs", "list"], ["--local", "", "runs", "list"]),
        (["--local", "http://127.0.0.1:1", "trace", "x"], ["--local", "http://127.0.0.1:1", "trace", "x"]),
        (["trace", "x", "--local=http://a:1"], ["--local=http://a:1", "trace", "x"]),
        (["run", "w", "--stack", "s", "--input", "i"], ["--stack", "s", "run", "w", "--input", "i"]),
        (["run", "w", "--stack=s", "--debug"], ["--stack=s", "--debug", "run", "w"]),
        (["run", "w", "--", "--local"], ["run", "w", "--", "--local"]),
        (["run", "--stack"], ["run", "--stack"]),
        ([], []),
    ],
)
def test_common_options_may_stand_anywhere(given, expected):
    assert hoist(given) == expected


FOLLOWING = {
    errors.RunNotFound: ["The newest runs: loopllama runs list"],
    errors.ModelUnknown: ["The models: loopllama models list"],
    TargetUnreachable: ["Look closer: loopllama doctor"],
}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RunFailed("x"), 1),
        (errors.NoEligibleModel("x"), 1),
        (errors.InvalidRequest("x"), 2),
        (errors.WorkflowInvalid("x"), 2),
        (TargetMissing("x"), 2),
        (errors.RunNotFound("x"), 3),
        (errors.ModelUnknown("x"), 3),
        (errors.VersionConflict("x"), 4),
        (errors.WorkflowPaused("x"), 4),
        (TargetUnreachable("x"), 5),
        (EndpointConnectionError(endpoint_url="http://x"), 5),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(trace, "connect", fail)
    result = invoke("trace", "run_x")
    assert exit_code(error) == result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {error}\n")
    assert result.stderr.splitlines()[1:] == FOLLOWING.get(type(error), [])


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["--stack", "s"], "--stack s "),
        (["--local"], "--local "),
        (["--local", "http://127.0.0.1:1"], "--local http://127.0.0.1:1 "),
        (
            ["--stack", "s", "--region", "eu-west-1", "--profile", "a b"],
            "--stack s --region eu-west-1 --profile 'a b' ",
        ),
        ([], ""),
    ],
)
def test_the_next_command_names_the_same_target(monkeypatch, given, options):
    def fail(*_):
        raise errors.RunNotFound("gone")

    monkeypatch.setattr(trace, "connect", fail)
    assert invoke("trace", "run_x", *given).stderr.splitlines()[1] == f"The newest runs: loopllama {options}runs list"
    assert next_command("trace", "*") == "loopllama trace '*'"  # a command that has ended is forgotten


def test_debug_shows_the_traceback(monkeypatch):
    def fail(*_):
        raise errors.RunNotFound("gone")

    monkeypatch.setattr(trace, "connect", fail)
    assert "Traceback" not in invoke("trace", "run_x").stderr
    result = invoke("trace", "run_x", "--debug")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


def test_details_say_line_and_field(monkeypatch):
    def fail(*_):
        raise errors.WorkflowInvalid("wrong", [{"line": 4, "field": "crew.0.role", "message": "is [missing]"}])

    monkeypatch.setattr(trace, "connect", fail)
    assert invoke("trace", "x").stderr.splitlines() == ["error: wrong", "  line 4: crew.0.role: is [missing]"]


def test_a_bug_is_no_clean_exit(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(trace, "connect", fail)
    assert isinstance(invoke("trace", "x").exception, ZeroDivisionError)


def test_ctrl_c_while_the_program_is_still_loading_is_130_and_nothing_else():
    # What a signal does that arrives while a module is imported.
    interrupted = """
import sys, loopllama_cli.__main__ as start
class Interrupt:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
start.main()
"""
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("trace",),
        ("trace", "x", "--jsom"),
        ("nonsense",),
        ("runs", "list", "--limit", "0"),
        ("run", "w"),
        ("runs", "list"),
        ("runs", "list", "--local", "--stack", "s"),
    ],
)
def test_usage_errors_are_2(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_a_local_stack_that_is_not_there_is_5():
    result = invoke("runs", "list", "--local", "http://127.0.0.1:9")
    assert result.exit_code == 5
    assert "loopllama local" in result.stderr
    assert "aws_endpoint_url" in result.stderr, "it may be the API's address"


@pytest.mark.parametrize(
    ("choice", "environment", "expected"),
    [
        (Choice(stack="s"), {"LOOPLLAMA_STACK": "other"}, ("s", None)),
        (Choice(), {"LOOPLLAMA_STACK": "other", "LOOPLLAMA_LOCAL": "http://h:1"}, ("other", None)),
        (Choice(), {"LOOPLLAMA_LOCAL": "http://h:1"}, ("loopllama", "http://h:1")),
        (Choice(local=""), {"LOOPLLAMA_STACK": "other"}, ("loopllama", "http://127.0.0.1:4599")),
        (Choice(local=""), {"LOOPLLAMA_LOCAL": "http://h:1"}, ("loopllama", "http://h:1")),
        (Choice(local="http://h:2"), {"LOOPLLAMA_LOCAL": "http://h:1"}, ("loopllama", "http://h:2")),
    ],
)
def test_which_stack_is_meant(monkeypatch, choice, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(target, "_read", lambda stack, url: (stack, url))
    monkeypatch.setattr(target, "local_credentials", lambda _: Credentials("AKIALOCAL", "secret"))
    assert target.connect(choice) == expected


def test_a_local_target_sends_nothing_to_aws(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.eu-west-1.amazonaws.com")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    monkeypatch.setattr(target, "_read", lambda *_: None)
    target.connect_local("http://127.0.0.1:9", Credentials("AKIALOCAL", "secret"))
    for service in ("dynamodb", "lambda", "stepfunctions", "secretsmanager"):
        client = clients.client(service)
        assert client.meta.endpoint_url == "http://127.0.0.1:9"
        credentials = client._request_signer._credentials
        assert (credentials.access_key, credentials.token) == ("AKIALOCAL", None)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({}, "Stack crews is no LoopLlama: it has no output WorkflowsTableName, "),
        (
            {name: "x" for name in target._OUTPUTS.values() if name != "ToolsTableName"},
            "Stack crews was deployed by another version of LoopLlama: it has no output ToolsTableName. "
            "This version: loopllama deploy",
        ),
    ],
)
def test_a_stack_of_another_kind_or_of_another_version(monkeypatch, outputs, says):
    described = {"Stacks": [{"Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]}]}

    class CloudFormation:
        meta = SimpleNamespace(region_name="eu-west-1")

        def describe_stacks(self, StackName):  # noqa: N803 - boto3's name
            return described

    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):  # what is set is gone after the test
        monkeypatch.setenv(name, "x")
    with monkeypatch.context() as patch:
        patch.setattr(clients, "client", lambda *_, **__: CloudFormation())
        with pytest.raises(TargetUnreachable) as caught:
            target._read("crews", None)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("known", [True, False])
def test_a_stack_that_is_not_there_names_where_it_was_looked_for(monkeypatch, known):
    refused = ClientError({"Error": {"Code": "ValidationError", "Message": "Stack with id crws does not exist"}}, "x")

    class Aws:
        meta = SimpleNamespace(region_name="eu-west-1")

        def describe_stacks(self, StackName):  # noqa: N803 - boto3's name
            raise refused

        def get_caller_identity(self):
            if not known:
                raise refused
            return {"Account": "123456789012"}

    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "x")
    with monkeypatch.context() as patch:
        patch.setattr(clients, "client", lambda *_, **__: Aws())
        with pytest.raises(TargetUnreachable) as caught:
            target._read("crws", None)
    account = "account 123456789012" if known else "this account"
    assert str(caught.value).startswith(
        f"There is no stack crws in region eu-west-1 of {account}: another region is named"
    )
    assert "--region" in str(caught.value)


def test_settings_are_those_of_the_functions():
    outputs = {name: f"the-{name}" for name in target._OUTPUTS.values()}
    parameters = {"DefaultModel": "small", "RouteCacheSeconds": "2.5", "SimulatedProviders": "openai, google"}
    settings = settings_of("prod", outputs, parameters)
    assert settings == Settings(
        workflows_table="the-WorkflowsTableName",
        routes_table="the-RoutesTableName",
        route_history_table="the-RouteHistoryTableName",
        models_table="the-ModelsTableName",
        tools_table="the-ToolsTableName",
        runs_table="the-RunsTableName",
        usage_table="the-UsageTableName",
        api_keys_table="the-ApiKeysTableName",
        key_use_table="the-KeyUseTableName",
        values_bucket="the-ValuesBucketName",
        state_machine_arn="the-RunWorkflowArn",
        event_bus_name="the-EventBusName",
        default_model="small",
        route_cache_seconds=2.5,
        simulated_providers=("openai", "google"),
        provider_secrets_prefix="prod/providers/",
    )


def test_version_and_help():
    assert invoke("--version").stdout.startswith("loopllama ")
    for command in ("run", "trace", "compare", "demo", "local"):
        assert invoke(command, "--help").exit_code == 0


def test_schema_needs_no_stack():
    result = invoke("workflows", "schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$schema"]


def test_exit_codes_are_documented():
    for code, meaning in main.EXIT_CODES.items():
        assert f"{code} {meaning.split(':')[0]}" in " ".join(invoke("--help").stdout.split())


def test_every_option_that_help_shows_is_in_the_reference(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    text = sections()
    found = list(commands(get_command(app), "loopllama"))
    assert len(found) >= 17
    for path, command in found:
        section = text.split(f"## `{path}", 1)[1].split("\n## ")[0]
        shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", invoke(*path.split()[1:], "--help").stdout)) - {"--help"}
        visible = [param for param in command.params if not getattr(param, "hidden", False)]
        options = {name for param in visible for name in [*param.opts, *param.secondary_opts]}
        assert {name for name in options if name.startswith("--")} <= shown
        assert {name for name in shown if name not in section} == set()
