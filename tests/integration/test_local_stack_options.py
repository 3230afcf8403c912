"""The local stack with every optional parameter of the template on: it deploys, and a run goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from template.project import ROOT
from template.test_options import EVERYTHING, KEY

from loopllama_cli.local.handle import LocalStack


@pytest.fixture(scope="module")
def everything(running: Callable[[LocalStack], Any]) -> Iterator[Any]:
    more = {
        "BedrockArns": "arn:aws:bedrock:us-east-1:123456789012:guardrail/gr1",
        "SimulatedProviders": "*",
        "SimulatedSpeed": "50",
        "ToolFunctionPrefix": "tool-",
        "AlarmEmail": "nobody@example.com",
        "EventReaders": "2",
    }
    stack = LocalStack(ROOT, parameters={**EVERYTHING, **more}).start()
    try:
        yield running(stack)
    finally:
        stack.stop()


def test_functions_are_where_the_parameters_say(everything: Any) -> None:
    functions = everything.client("lambda").list_functions()["Functions"]
    assert len(functions) == 9
    for one in functions:
        network = one["VpcConfig"]
        assert (sorted(network["SubnetIds"]), network["SecurityGroupIds"]) == (["subnet-1a", "subnet-2b"], ["sg-3c"])
        assert one["Architectures"] == ["x86_64"]


def test_what_is_stored_has_the_key(everything: Any) -> None:
    """Not the tables' here: moto's CloudFormation does not pass it on."""
    found = everything.client("s3").get_bucket_encryption(Bucket=everything.outputs["ValuesBucketName"])
    (rule,) = found["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    queues = everything.client("sqs").list_queues()["QueueUrls"]
    assert len(queues) == 4
    for url in queues:
        found = everything.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert found["KmsMasterKeyId"] == KEY


def test_a_run_goes_through(everything: Any, program_on: Callable[..., Any], tmp_path: Any) -> None:
    file = tmp_path / "workflow.yaml"
    file.write_text("name: Short\ncrew:\n  - {role: Writer, systemPrompt: Write., model: 'openai:gpt-5'}\n")
    program = program_on(everything)
    program("workflows", "push", file)
    done = program("run", "short", "--input", "hello")
    assert "completed" in done.stdout + done.stderr
