"""Keys on the local stack: functions get them, and nobody else reads them anywhere, be it the user's own programs or
another user of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest

from loopllama_cli.local import credentials
from loopllama_cli.local.kept_keys import WORD, KeptKeys

from .conftest import Running

NAME = "loopllama/providers/mistral"
KEY = "key-of-mistral"


def everything(client: Any) -> dict[str, str]:
    """What the endpoints tell that list or show secrets, functions and how they were made."""
    secrets, functions, stacks = client("secretsmanager"), client("lambda"), client("cloudformation")
    stack = stacks.describe_stacks()["Stacks"][0]["StackName"]
    asked = {
        "ListSecrets": secrets.list_secrets(),
        "DescribeSecret": secrets.describe_secret(SecretId=NAME),
        "GetSecretValue": secrets.get_secret_value(SecretId=NAME),
        "BatchGetSecretValue": secrets.batch_get_secret_value(SecretIdList=[NAME]),
        "ListSecretVersionIds": secrets.list_secret_version_ids(SecretId=NAME),
        "ListFunctions": functions.list_functions(),
        "GetFunction": [
            functions.get_function(FunctionName=one["FunctionName"]) for one in functions.list_functions()["Functions"]
        ],
        "DescribeStacks": stacks.describe_stacks(),
        "GetTemplate": stacks.get_template(StackName=stack),
        "ListStackResources": stacks.list_stack_resources(StackName=stack),
        "DescribeLogGroups": client("logs").describe_log_groups(),
    }
    return {name: json.dumps(answer, default=str) for name, answer in asked.items()}


def test_a_function_gets_the_key_and_no_endpoint_shows_it(toy: Running) -> None:
    assert KEY in toy.invoke("ToyName", do="secret", name=NAME)
    shown = everything(toy.client)
    assert [name for name, answer in shown.items() if KEY in answer] == []
    assert WORD in shown["GetSecretValue"]
    environment = toy.invoke("ToyName", do="whoami")["environment"]
    assert KEY not in json.dumps(environment)
    assert environment["AWS_ACCESS_KEY_ID"] != toy.stack.credentials.aws_access_key_id


def test_what_a_person_stores_is_kept_as_well(toy: Running) -> None:
    secrets, name = toy.client("secretsmanager"), "loopllama/providers/later"
    stored = {"api_key": 'first-"key', "base_url": "http://127.0.0.1:9/v1"}
    secrets.create_secret(Name=name, SecretString=json.dumps(stored))
    fields = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
    assert fields["base_url"] == "http://127.0.0.1:9/v1"
    assert fields["api_key"].startswith(WORD)
    assert json.loads(toy.invoke("ToyName", do="secret", name=name)) == {**fields, "api_key": 'first-"key'}
    # What was read can be stored again: a program changes the address, say, and keeps the key.
    secrets.put_secret_value(SecretId=name, SecretString=json.dumps({**fields, "base_url": "http://127.0.0.1:8/v1"}))
    assert json.loads(toy.invoke("ToyName", do="secret", name=name))["api_key"] == 'first-"key'
    secrets.update_secret(SecretId=name, SecretString="second-key")
    assert toy.invoke("ToyName", do="secret", name=name) == "second-key"
    assert secrets.get_secret_value(SecretId=name)["SecretString"].startswith(WORD)
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'"x"', b'{"Name": 7}', b'{"SecretId": ["x"]}', b"{", b'{"Name": "a/providers/b"}']
)
def test_requests_that_are_none_go_on_as_they_are(body: bytes) -> None:
    assert KeptKeys().taken("CreateSecret", body) == body


AS_ANOTHER_USER = """
import http.client, json, pathlib, sys
files, address, pids = json.loads(sys.argv[1])
read = []
for file in [*files, *(f"/proc/{pid}/environ" for pid in pids)]:
    try:
        read.append(pathlib.Path(file).read_text(errors="replace"))
    except OSError:
        pass
for pid in pids:
    try:
        read.append(pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
    except OSError:
        pass
connection = http.client.HTTPConnection(address)
connection.request("POST", "/", "{}", {"X-Amz-Target": "secretsmanager.ListSecrets"})
answer = connection.getresponse()
read.append(answer.read().decode())
print(json.dumps({"read": read, "status": answer.status}))
"""


def test_another_user_of_the_machine_reads_neither_keys_nor_credentials(toy: Running) -> None:
    toy.invoke("ToyName", do="whoami")
    assert toy.stack._process
    pids = [toy.stack._process.pid, *toy.stack.processes(toy.outputs["ToyName"])]
    file = credentials._file(credentials._folder(), toy.stack.aws_endpoint_url)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o077 == 0
    asked = json.dumps([[str(file)], urlsplit(toy.stack.aws_endpoint_url).netloc, pids])
    # Root's tests take another user's part; nobody else can, and looks at what everybody sees.
    other: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    script = (
        AS_ANOTHER_USER if other else AS_ANOTHER_USER.replace("[*files, *(f", "[*(f").replace("/environ", "/cmdline")
    )
    done = subprocess.run(
        [sys.executable if not other else "/usr/bin/python3", "-c", script, asked],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        **other,
    )
    said = json.loads(done.stdout)
    assert said["status"] == 403
    assert "loopllama_cli.local" in done.stdout
    assert "parameters" not in done.stdout  # of the stack: what a person passes may be secret
    assert KEY not in done.stdout
    assert toy.stack.credentials.aws_secret_access_key not in done.stdout
    assert toy.stack.credentials.aws_access_key_id not in done.stdout
