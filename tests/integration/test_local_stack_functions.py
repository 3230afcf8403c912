"""Functions on the local stack: real handlers in processes of their own, behaving as in Lambda."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.waiting import eventually

from loopllama_cli.local import forks
from loopllama_cli.local.processes import MAX_LOADING, Places, Pool, Spec

from .conftest import TOY_PROJECT, Running, alive


def lines(toy: Running, group: str) -> list[str]:
    pages = toy.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


def test_a_handler_sees_its_template_and_nothing_of_the_caller(toy: Running) -> None:
    seen = toy.invoke("ToyName", do="whoami")
    environment = seen["environment"]
    own = {
        "GREETING": "good day",
        "STACK": "loopllama",
        "ITEMS_TABLE": toy.outputs["ItemsTableName"],
        "SEEN_TABLE": toy.outputs["SeenTableName"],
        "VALUES_BUCKET": toy.outputs["ValuesBucketName"],
        "API_URL": toy.outputs["ApiUrl"],
        "PROVIDER_SECRETS_PREFIX": "loopllama/providers/",
        "AWS_LAMBDA_FUNCTION_NAME": toy.outputs["ToyName"],
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": toy.stack.aws_endpoint_url,
        "TZ": ":UTC",
        "_HANDLER": "app.handler",
    }
    assert own.items() <= environment.items()
    assert environment["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    aws = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_EXECUTION_ENV"}
    of_lambda = aws | {name for name in environment if name.startswith("AWS_LAMBDA_")}
    # LC_CTYPE is set by Python itself where the locale is not there.
    others = {"LAMBDA_TASK_ROOT", "LANG", "PATH", "_X_AMZN_TRACE_ID", "LC_CTYPE", "SIMULATED_PROVIDERS"}
    assert set(environment) - set(own) - of_lambda - others == set()
    assert seen["layer"] == "toylib"
    assert seen["directory"] == str(TOY_PROJECT / "functions" / "toy")
    assert seen["stdin"] == ""


def test_the_context_is_lambdas(toy: Running) -> None:
    seen = toy.invoke("ToyName", do="whoami")
    context = seen["context"]
    name = toy.outputs["ToyName"]
    assert context["function_name"] == name
    assert context["function_version"] == "$LATEST"
    assert context["memory_limit_in_mb"] == "256"
    assert context["invoked_function_arn"] == f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    assert context["log_group_name"] == "/loopllama/toy"
    assert "[$LATEST]" in context["log_stream_name"]
    assert 5_000 < seen["remaining"] <= 10_000
    assert len(context["aws_request_id"]) == 36


def test_a_process_is_kept_warm_and_used_again(toy: Running) -> None:
    first = toy.invoke("ToyName", do="whoami")
    second = toy.invoke("ToyName", do="whoami")
    assert second["pid"] == first["pid"]
    assert second["invocations"] == first["invocations"] + 1
    assert first["pid"] in toy.stack.processes("Toy")


def test_invocations_at_once_run_in_processes_of_their_own(toy: Running, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda _: toy.invoke("ToyName", do="meet", folder=str(tmp_path), number=4), range(4)))
    assert len({each["pid"] for each in ran}) == 4
    assert {each["pid"] for each in ran} <= set(toy.stack.processes("Toy"))


def spec_of(folder: Path, code: str) -> Spec:
    """A function in a folder of its own, without a stack."""
    (folder / "own.py").write_text(code)
    named = tuple(
        (f"AWS_LAMBDA_{name}", "1")
        for name in ("FUNCTION_NAME", "FUNCTION_VERSION", "FUNCTION_MEMORY_SIZE", "LOG_GROUP_NAME")
    )
    return Spec("own", "arn", "own.handler", str(folder), (str(folder),), named, 60.0, 128, "group")


@contextlib.contextmanager
def invoking(spec: Spec) -> Iterator[Callable[[], Any]]:
    """Calls a function and gives its answer."""
    places = Places()
    pool = Pool(lambda *_: None, places)
    try:
        yield lambda: json.loads(pool.run(spec, b"{}", str(uuid.uuid4()), "").payload)
    finally:
        pool.close()
        places.forks.close()


WHO = "import os, sys\ndef handler(event, context): return [os.getpid(), os.getppid(), 'botocore' in sys.modules]\n"


def test_a_process_is_forked_from_one_that_has_the_sdk_loaded(tmp_path: Path) -> None:
    with invoking(spec_of(tmp_path, WHO)) as answer:
        pid, server, has_sdk = answer()
        assert (server == os.getpid(), has_sdk) == (False, True)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid))
        other, same, _ = answer()
        assert (other == pid, same == server) == (False, True)


def test_a_fork_server_that_dies_takes_its_processes_along_and_the_next_call_starts_another(tmp_path: Path) -> None:
    with invoking(spec_of(tmp_path, WHO)) as answer:
        pid, server, _ = answer()
        os.kill(server, signal.SIGKILL)
        eventually(lambda: not alive(pid))
        assert not {pid, server}.intersection(answer())
    assert not alive(pid)


def test_a_function_that_brings_its_own_sdk_gets_it(tmp_path: Path) -> None:
    (tmp_path / "botocore.py").write_text("version = 'its own'\n")
    code = "def handler(event, context):\n    import botocore\n    return botocore.version\n"
    with invoking(spec_of(tmp_path, code)) as answer:
        assert answer() == "its own"


def test_a_process_starts_by_itself_where_the_system_has_no_safe_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "FORKS", False)
    with invoking(spec_of(tmp_path, WHO)) as answer:
        assert answer()[1:] == [os.getpid(), False]


def test_few_load_at_once_and_the_others_wait_for_whichever_is_ready(tmp_path: Path) -> None:
    go = tmp_path / "go"
    spec = spec_of(
        tmp_path,
        f"import os, pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "def handler(event, context): return os.getpid()\n",
    )
    places = Places()
    pools = [Pool(lambda *_: None, places) for _ in range(2)]

    def pids() -> list[int]:
        return [pid for pool in pools for pid in pool.pids()]

    try:
        with ThreadPoolExecutor(2 * MAX_LOADING + 4) as callers:
            calls = range(MAX_LOADING + 2)
            answers = [callers.submit(pool.run, spec, b"{}", str(uuid.uuid4()), "") for pool in pools for _ in calls]
            eventually(lambda: len(pids()) == MAX_LOADING)
            time.sleep(0.3)
            assert len(pids()) == MAX_LOADING
            go.touch()
            ran = {int(answer.result().payload) for answer in answers}
        assert ran == set(pids())
    finally:
        for pool in pools:
            pool.close()
        places.forks.close()


def test_an_exception_is_the_answer_and_the_process_lives_on(toy: Running) -> None:
    before = toy.invoke("ToyName", do="whoami")["pid"]
    error = toy.invoke_failing("ToyName", do="raise")
    assert error["errorType"] == "ValueError"
    assert error["errorMessage"] == "broken on purpose"
    assert "do_raise" in error["stackTrace"][-1]
    assert not any("worker.py" in frame for frame in error["stackTrace"])
    assert toy.invoke("ToyName", do="whoami")["pid"] == before
    assert any("ValueError: broken on purpose" in line for line in toy.log)


def test_a_handler_that_hangs_is_killed_at_its_timeout(toy: Running) -> None:
    pid = toy.invoke("ShortName", do="whoami")["pid"]
    began = time.monotonic()
    error = toy.invoke_failing("ShortName", do="hang")
    assert 1 <= time.monotonic() - began < 20
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].endswith("Error: Task timed out after 1.00 seconds")
    assert pid not in toy.stack.processes("Short")
    assert toy.invoke("ShortName", do="whoami")["pid"] != pid


def test_a_handler_that_ends_its_process_fails_and_is_replaced(toy: Running) -> None:
    error = toy.invoke_failing("ToyName", do="exit")
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Runtime exited with error: exit status 3")
    assert toy.invoke("ToyName", survives=True) == {"survives": True}


def test_a_process_killed_while_it_works(toy: Running) -> None:
    def begun() -> int:
        return "".join(lines(toy, "/loopllama/toy")).count("START")

    toy.invoke("ToyName")
    before = begun()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(toy.invoke_failing, "ToyName", do="hang")
        eventually(lambda: begun() > before)
        pids = toy.stack.processes("Toy")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert running.result()["errorMessage"].endswith("signal: killed")
    eventually(lambda: not any(alive(pid) for pid in pids))
    assert toy.invoke("ToyName", back=1) == {"back": 1}


def test_an_idle_process_that_was_killed_is_not_noticed(toy: Running) -> None:
    toy.invoke("ShortName")
    pids = toy.stack.processes("Short")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in pids))
    assert toy.invoke("ShortName", fine=True) == {"fine": True}


def test_garbage_on_standard_output_is_a_log(toy: Running) -> None:
    answer = toy.client("lambda").invoke(
        FunctionName=toy.outputs["ToyName"], Payload='{"do": "garbage"}', LogType="Tail"
    )
    assert json.load(answer["Payload"]) == {"survived": True}
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert '{"kind": "result"}' in tail
    assert "garbage without an end" in tail
    assert "and on standard error" in tail
    assert "[INFO]\t" in tail
    assert "\tlogged" in tail


def test_a_result_that_is_no_json(toy: Running) -> None:
    error = toy.invoke_failing("ToyName", do="set")
    assert error["errorType"] == "Runtime.MarshalError"
    assert "set is not JSON serializable" in error["errorMessage"]


def test_a_module_that_cannot_be_imported(toy: Running) -> None:
    error = toy.invoke_failing("BrokenName")
    assert error["errorType"] == "Runtime.ImportModuleError"
    assert "Unable to import module 'missing'" in error["errorMessage"]


def test_sizes_are_limited_as_in_lambda(toy: Running) -> None:
    functions, name = toy.client("lambda"), toy.outputs["ToyName"]
    big = json.dumps({"text": "x" * (6 * 1024 * 1024)})
    with pytest.raises(ClientError) as refused:
        functions.invoke(FunctionName=name, Payload=big)
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"
    with pytest.raises(ClientError) as refused:
        functions.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps({"text": "x" * 256 * 1024}))
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"
    error = toy.invoke_failing("ToyName", do="big", bytes=6 * 1024 * 1024 + 1)
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    assert len(toy.invoke("ToyName", do="big", bytes=5 * 1024 * 1024)) == 5 * 1024 * 1024


def test_what_is_no_json_and_who_is_not_there_are_refused(toy: Running) -> None:
    functions = toy.client("lambda")
    with pytest.raises(ClientError) as refused:
        functions.invoke(FunctionName=toy.outputs["ToyName"], Payload="{")
    assert refused.value.response["Error"]["Code"] == "InvalidRequestContentException"
    with pytest.raises(ClientError) as refused:
        functions.invoke(FunctionName="gone", Payload="{}")
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_every_invocation_is_in_cloudwatch_logs(toy: Running) -> None:
    request = toy.invoke("ToyName", do="whoami")["context"]
    found = toy.client("logs").get_log_events(
        logGroupName=request["log_group_name"], logStreamName=request["log_stream_name"], startFromHead=True
    )["events"]
    own = [event["message"] for event in found if request["aws_request_id"] in event["message"]]
    assert [line.split()[0] for line in own] == ["START", "END", "REPORT"]
    assert "Memory Size: 256 MB" in own[-1]
    groups = toy.client("logs").describe_log_groups(logGroupNamePrefix="/loopllama/toy")["logGroups"]
    assert groups[0]["retentionInDays"] == 7


def test_metrics_in_the_log_become_cloudwatch_metrics(toy: Running) -> None:
    workflow = f"w{time.time_ns()}"
    toy.invoke("ToyName", do="metrics", workflow=workflow)

    def statistics(metric: str, **dimensions: str) -> list[dict[str, Any]]:
        now = datetime.now(tz=UTC)
        return toy.client("cloudwatch").get_metric_statistics(
            Namespace="Toy",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum", "SampleCount", "Maximum"],
        )["Datapoints"]

    [latency] = statistics("Latency", workflow=workflow, step="one")
    assert (latency["Sum"], latency["SampleCount"], latency["Maximum"]) == (40, 2, 30)
    assert latency["Unit"] == "Milliseconds"
    assert statistics("Cost", workflow=workflow)[0]["Sum"] == 0.25
    assert statistics("Cost", step="one") == [], "no metric has this set of dimensions alone"


def test_who_started_the_stack_may_change_what_a_function_sees(toy: Running) -> None:
    toy.stack.configure("Short", 20, {"GREETING": "hey"})
    try:
        seen = toy.invoke("ShortName", do="whoami")
        assert seen["environment"]["GREETING"] == "hey"
        assert 10_000 < seen["remaining"] <= 20_000
    finally:
        toy.stack.configure("Short", None, {})
    seen = toy.invoke("ShortName", do="whoami")
    assert seen["environment"]["GREETING"] == "good day"
    assert seen["remaining"] <= 1_000


def test_provider_keys_of_the_caller_are_secrets_and_the_rest_is_simulated(toy: Running) -> None:
    def secret(provider: str) -> Any:
        return json.loads(toy.invoke("ToyName", do="secret", name=f"loopllama/providers/{provider}"))

    assert secret("mistral") == {"api_key": "key-of-mistral"}
    assert secret("google") == {"api_key": "key-of-gemini"}
    assert secret("homegrown") == {"api_key": "key-of-homegrown", "base_url": "http://127.0.0.1:8001/v1"}
    simulated = toy.invoke("ToyName", do="whoami")["environment"]["SIMULATED_PROVIDERS"].split(",")
    assert {"openai", "anthropic", "bedrock", "deepseek"} <= set(simulated)
    assert not {"mistral", "google", "ollama"} & set(simulated)
