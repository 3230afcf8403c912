"""`make test-aws`: it begins nothing that it should not, its tests run on a stack that it did not start, and what it
removes is gone. The local stack stands for the account; what SAM does is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import boto3
import pytest
from support.remains import remains
from support.system import DEPLOYED_PARAMETERS, ROOT

from loopllama_cli.local import LocalStack

SCRIPT = ROOT / "tests" / "on_aws.py"
SAM = "aws-sam-cli-managed-default"
NOT_MOTOS = "apigatewayv2"
"""The local stack has its HTTP API elsewhere, and moto answers 500 when it is asked for APIs."""
USES = ("runs/test_sequence.py", "test_api_workflows.py::test_create_a_workflow")


def script(code: str | None, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it, or `code` with its functions, without a SAM CLI and with nothing in the environment but what is said."""
    variables = {"PATH": os.defpath, "HOME": os.devnull, "AWS_EC2_METADATA_DISABLED": "true", **environment}
    program = [str(SCRIPT)] if code is None else ["-c", f"import sys; sys.path.append({str(ROOT / 'tests')!r}); {code}"]
    return subprocess.run(
        [sys.executable, *program, *arguments], env=variables, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("name", "environment", "told"),
    [
        ([], {}, "say STACK=NAME"),
        (["no_name"], {}, "say STACK=NAME"),
        (["crews"], {}, "region: none is set"),
        (["crews"], {"AWS_DEFAULT_REGION": "eu-west-1"}, "credentials: NoCredentialsError"),
        (["crews"], {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_PROFILE": "nowhere"}, "(nowhere) could not be found"),
    ],
)
def test_without_a_name_or_an_account_nothing_is_begun(name: list[str], environment: dict[str, str], told: str) -> None:
    done = script(None, *name, **environment)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.endswith("nothing was done\n")
    assert "Traceback" not in done.stderr


def test_the_tests_run_on_a_stack_that_is_there_and_removing_it_leaves_nothing() -> None:
    with LocalStack(ROOT, DEPLOYED_PARAMETERS, log=lambda _: None) as stack:
        account = stack.environment() | {"AWS_CONFIG_FILE": os.devnull}
        there = script(None, "loopllama", **account)
        assert there.returncode == 2
        assert "there is a stack loopllama already" in there.stderr

        files = [str(ROOT / "tests" / "integration" / file) for file in USES]
        done = script(f"import on_aws; sys.exit(on_aws.run_tests('loopllama', *{files!r}))", **account)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "deselected" in done.stdout
        assert "skipped" not in done.stdout

        before = [one.partition(":")[0] for one in remains(partial(client, stack), NOT_MOTOS)]
        assert before.count("dynamodb") == 9
        assert {"cloudformation", "s3", "lambda", "stepfunctions", "sqs", "logs", "events"} <= set(before)
        s3, uploads = client(stack, "s3"), managed_bucket(stack)
        s3.put_object(Bucket=stack.outputs["ValuesBucketName"], Key="runs/large", Body=b"x")
        for key in ("loopllama/layer", "never/layer", "loopllama-prod/layer"):
            s3.put_object(Bucket=uploads, Key=key, Body=b"x")
        code = "from on_aws import removal; print([*removal.remove(removal.find(sys.argv[1]))])"
        for name in ("never", "loopllama"):
            removed = script(code, name, **account)
            assert (removed.returncode, removed.stdout) == (0, "[]\n"), removed.stderr
        assert list(remains(partial(client, stack), NOT_MOTOS)) == []
        kept = s3.list_objects_v2(Bucket=uploads)["Contents"]
        assert [one["Key"] for one in kept] == ["loopllama-prod/layer"]


def client(stack: LocalStack, service: str) -> Any:
    make: Any = boto3.client
    keys = stack.credentials.as_json()
    return make(service, endpoint_url=stack.aws_endpoint_url, region_name=stack.region, **keys)


def managed_bucket(stack: LocalStack) -> str:
    """The bucket that SAM makes for an account, to which it uploads what it deploys."""
    template = {
        "Resources": {"Uploads": {"Type": "AWS::S3::Bucket"}},
        "Outputs": {"SourceBucket": {"Value": {"Ref": "Uploads"}}},
    }
    cloudformation = client(stack, "cloudformation")
    cloudformation.create_stack(StackName=SAM, TemplateBody=json.dumps(template))
    return str(cloudformation.describe_stacks(StackName=SAM)["Stacks"][0]["Outputs"][0]["OutputValue"])
