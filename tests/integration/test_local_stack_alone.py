"""The local stack answers nobody but its user: requests as they arrive, forged in every way that a web page, another
program or another user has. `test_local_stack_browser.py` has a browser try the same."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys
from botocore.exceptions import ClientError

from loopllama_cli.local.credentials import Credentials

from .conftest import Running

SECRET = "alone/secret"
LIST_SECRETS = {"X-Amz-Target": "secretsmanager.ListSecrets", "Content-Type": "application/x-amz-json-1.1"}


class Answered:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.text = answer.status, dict(answer.getheaders()), answer.read().decode()

    @property
    def cors(self) -> list[str]:
        return [name for name in self.headers if name.lower().startswith("access-control-")]


def ask(url: str, method: str, target: str, body: bytes = b"", *headers: tuple[str, str], host: Any = ...) -> Answered:
    """Send these headers and no other. `host` is the address unless it says otherwise; `None` sends none."""
    address = urlsplit(url).netloc
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    if host is not None:
        connection.putheader("Host", address if host is ... else host)
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    try:
        return Answered(connection.getresponse())
    finally:
        connection.close()


def signed(
    running: Running, service: str, method: str, target: str, body: bytes = b"", host: str = "", **headers: str
) -> list[tuple[str, str]]:
    """The headers with which the stack's owner signs a request."""
    address = urlsplit(running.stack.aws_endpoint_url).netloc
    given = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": host or address}
    request = AWSRequest(method, f"http://{address}{target}", headers=given, data=body)
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    keys = running.stack.credentials
    signer: Any = kind(Keys(keys.aws_access_key_id, keys.aws_secret_access_key), service, "us-east-1")
    signer.add_auth(request)
    return [(name, value) for name, value in request.headers.items() if name != "Host"]


def state(running: Running) -> dict[str, Any]:
    """What somebody might want to know or to change."""
    functions = running.client("lambda").list_functions()["Functions"]
    return {
        "tables": running.client("dynamodb").list_tables()["TableNames"],
        "secrets": running.client("secretsmanager").get_secret_value(SecretId=SECRET)["SecretString"],
        "functions": {
            each["FunctionName"]: (each["Handler"], each["CodeSha256"], each["Timeout"]) for each in functions
        },
        "buckets": [each["Name"] for each in running.client("s3").list_buckets()["Buckets"]],
        "queues": running.client("sqs").list_queues()["QueueUrls"],
        "stacks": [each["StackName"] for each in running.client("cloudformation").describe_stacks()["Stacks"]],
        "machines": running.client("stepfunctions").list_state_machines()["stateMachines"],
    }


@pytest.fixture(scope="module", autouse=True)
def _secret(toy: Running) -> Iterator[None]:
    toy.client("secretsmanager").create_secret(Name=SECRET, SecretString="hidden")
    yield
    toy.client("secretsmanager").delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)


@pytest.fixture
def same(toy: Running) -> Iterator[None]:
    """What the test tries changes nothing."""
    before = state(toy)
    yield
    assert state(toy) == before


def refused(answered: Answered) -> None:
    assert answered.status == 403, answered.text
    assert not answered.cors
    assert SECRET not in answered.text


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
UNSIGNED: dict[str, tuple[str, str, bytes, dict[str, str], str]] = {
    "secrets": ("POST", "/", b"{}", LIST_SECRETS, "MissingAuthenticationTokenException"),
    "secrets as text": ("POST", "/", b"{}", {**LIST_SECRETS, "Content-Type": "text/plain"}, "MissingAuthentication"),
    "handler": (
        "PUT", "/2015-03-31/functions/toy/configuration", b'{"Handler": "os.system"}', {}, "MissingAuthenticationToken",
    ),
    "code": ("PUT", "/2015-03-31/functions/toy/code", b'{"ZipFile": ""}', {}, "MissingAuthenticationToken"),
    "form": ("POST", "/", b"Action=DeleteStack&StackName=loopllama", FORM, "<Code>MissingAuthenticationToken</Code>"),
    "query": ("GET", "/?Action=DeleteStack&StackName=loopllama", b"", {}, "<Code>MissingAuthenticationToken</Code>"),
    "bucket": ("PUT", "/mine", b"", {}, "<Code>MissingAuthenticationToken</Code>"),
    "buckets": ("GET", "/", b"", {}, "<Code>MissingAuthenticationToken</Code>"),
    "what moto takes for a service": ("GET", "/secretsmanager_us-east-1/", b"", {}, "MissingAuthenticationToken"),
    "metadata": ("GET", "/latest/meta-data/iam/security-credentials/", b"", {}, "MissingAuthenticationToken"),
    "reset": ("POST", "/moto-api/reset", b"", {}, "MissingAuthenticationToken"),
    "no method": ("BREW", "/moto-api/reset", b"", {}, "MissingAuthenticationToken"),
    "basic": ("GET", "/", b"", {"Authorization": "Basic bG9jYWw6bG9jYWw="}, "AuthorizationHeaderMalformed"),
    "as before": (
        "POST", "/", b"{}",
        {**LIST_SECRETS, "X-Amz-Date": "20261126T000000Z", "Authorization":
         "AWS4-HMAC-SHA256 Credential=local/20261126/us-east-1/secretsmanager/aws4_request, SignedHeaders=host, "
         "Signature=" + "0" * 64},
        "UnrecognizedClientException",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("method", "target", "body", "headers", "code"), UNSIGNED.values(), ids=UNSIGNED)
@pytest.mark.usefixtures("same")
def test_what_nobody_signed(
    toy: Running, method: str, target: str, body: bytes, headers: dict[str, str], code: str
) -> None:
    answered = ask(toy.stack.aws_endpoint_url, method, target, body, *headers.items())
    refused(answered)
    assert code in answered.text


@pytest.mark.parametrize("service", ["secretsmanager", "s3", "lambda", "sts", "cloudformation", "dynamodb", "sns"])
def test_other_credentials_as_each_service_says_it(toy: Running, service: str) -> None:
    calls = {
        "secretsmanager": "list_secrets",
        "s3": "list_buckets",
        "lambda": "list_functions",
        "dynamodb": "list_tables",
    }
    calls |= {"sts": "get_caller_identity", "cloudformation": "list_stacks", "sns": "list_topics"}
    mistaken = Credentials(toy.stack.credentials.aws_access_key_id, "x" * 40)
    for credentials, codes in (
        (Credentials.new(), ("InvalidClientTokenId", "InvalidAccessKeyId", "UnrecognizedClientException")),
        (mistaken, ("SignatureDoesNotMatch", "InvalidSignatureException")),
    ):
        session: Any = boto3.Session
        make = session(**credentials.as_json(), region_name="us-east-1").client
        client = make(service, endpoint_url=toy.stack.aws_endpoint_url)
        with pytest.raises(ClientError, match=r"loopllama local --export") as error:
            getattr(client, calls[service])()
        assert error.value.response["Error"]["Code"] in codes
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_two_stacks_have_different_credentials(toy: Running, product: Running) -> None:
    assert toy.stack.credentials != product.stack.credentials


HOSTS = ["evil.test", "evil.test:{port}", "127.0.0.1", "127.0.0.1:1", "localhost", "localhost.evil.test:{port}"]
HOSTS += ["127.0.0.1.nip.io:{port}", "[::1]:{port}", "0.0.0.0:{port}", "evil.localhost:{port}", "localhost.:{port}"]
HOSTS += ["127.0.0.1:{port}@evil.test", "127.0.0.1:{port}, evil.test", "2130706433:{port}", ""]


@pytest.mark.parametrize("host", [*HOSTS, None])
def test_another_host_is_refused_at_both_ports(toy: Running, host: str | None) -> None:
    for url, target in ((toy.stack.aws_endpoint_url, "/"), (toy.stack.api_url, "/things/plain")):
        named = host and host.format(port=urlsplit(url).port)
        answered = ask(url, "GET", target, b"", *signed(toy, "s3", "GET", target, host=named or ""), host=named)
        refused(answered)
        assert "answers here to 127.0.0.1:" in answered.text


def test_two_hosts_are_refused_and_another_ones_target(toy: Running) -> None:
    for url in (toy.stack.aws_endpoint_url, toy.stack.api_url):
        refused(ask(url, "GET", "/things/plain", b"", ("Host", "evil.test")))
    own = signed(toy, "s3", "GET", "/")
    for target in ("http://evil.test/", f"{toy.stack.aws_endpoint_url}/moto-api/", "*"):
        refused(ask(toy.stack.aws_endpoint_url, "GET", target, b"", *own))


def test_this_machines_two_names_are_answered(toy: Running) -> None:
    port = urlsplit(toy.stack.aws_endpoint_url).port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        answered = ask(
            toy.stack.aws_endpoint_url, "GET", "/", b"", *signed(toy, "s3", "GET", "/", host=host), host=host
        )
        assert answered.status == 200, answered.text
    port = urlsplit(toy.stack.api_url).port
    assert ask(toy.stack.api_url, "GET", "/things/plain", host=f"localhost:{port}").status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("Origin", value) for value in ("http://evil.test", "null", "http://127.0.0.1:{port}", "")],
        *[("Sec-Fetch-Site", value) for value in ("cross-site", "same-site", "same-origin", "?")],
    ],
)
@pytest.mark.usefixtures("same")
def test_a_web_page_is_refused_even_with_the_owners_signature(toy: Running, name: str, value: str) -> None:
    header = (name, value.format(port=urlsplit(toy.stack.aws_endpoint_url).port))
    own = signed(toy, "secretsmanager", "POST", "/", b"{}", **LIST_SECRETS)
    assert SECRET in ask(toy.stack.aws_endpoint_url, "POST", "/", b"{}", *own).text
    refused(ask(toy.stack.aws_endpoint_url, "POST", "/", b"{}", *own, header))
    link = toy.client("s3").generate_presigned_url("list_buckets").removeprefix(toy.stack.aws_endpoint_url)
    assert ask(toy.stack.aws_endpoint_url, "GET", link, b"", ("Sec-Fetch-Site", "none")).status == 200
    refused(ask(toy.stack.aws_endpoint_url, "GET", link, b"", header))


def test_a_preflight_allows_nothing(toy: Running) -> None:
    headers = [("Origin", "http://evil.test"), ("Access-Control-Request-Method", "POST")]
    headers += [("Access-Control-Request-Headers", "x-amz-target"), ("Access-Control-Request-Private-Network", "true")]
    for target in ("/", "/moto-api/reset", f"/{toy.outputs['ValuesBucketName']}/key"):
        refused(ask(toy.stack.aws_endpoint_url, "OPTIONS", target, b"", *headers))
        assert not ask(toy.stack.api_url, "OPTIONS", target, b"", *headers).cors


def test_no_answer_lets_pages_read_whatever_a_bucket_says(toy: Running) -> None:
    s3, bucket = toy.client("s3"), toy.outputs["ValuesBucketName"]
    s3.put_bucket_cors(
        Bucket=bucket,
        CORSConfiguration={
            "CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"]}]
        },
    )
    try:
        answered = ask(toy.stack.aws_endpoint_url, "GET", f"/{bucket}", b"", *signed(toy, "s3", "GET", f"/{bucket}"))
        assert answered.status == 200
        assert not answered.cors
    finally:
        s3.delete_bucket_cors(Bucket=bucket)


MOTO = ["/moto-api", "/moto-api/", "/moto-api/data.json", "/moto-api/reset", "//moto-api/reset", "/%6doto-api/reset"]
MOTO += ["/%6D%6F%74%6F-api/config", "/moto-api/../moto-api/reset", "/moto-api%2freset", "/moto-api/reset/?x"]
MOTO += ["/moto-api/recorder/start-recording", "/favicon.ico", "/latest/meta-data/", "/latest/api/token"]


@pytest.mark.parametrize("target", MOTO)
@pytest.mark.usefixtures("same")
def test_moto_takes_no_orders_even_from_the_owner(toy: Running, target: str) -> None:
    for method in ("GET", "POST", "PUT"):
        for service in ("s3", "sts"):
            answered = ask(toy.stack.aws_endpoint_url, method, target, b"", *signed(toy, service, method, target))
            refused(answered)
            assert "no service of AWS" in answered.text or "signature" in answered.text
        refused(ask(toy.stack.aws_endpoint_url, method, target))


@pytest.mark.parametrize(
    "target", ["/MOTO-API/reset", "/./moto-api/reset", "/x/../moto-api/reset", "/%2fmoto-api/reset"]
)
@pytest.mark.usefixtures("same")
def test_other_spellings_of_motos_path_are_keys_of_s3(toy: Running, target: str) -> None:
    answered = ask(toy.stack.aws_endpoint_url, "POST", target, b"", *signed(toy, "s3", "POST", target))
    assert answered.status >= 400
    assert not answered.cors


@pytest.mark.usefixtures("same")
def test_what_is_no_length_is_a_bad_request(toy: Running) -> None:
    own = [*signed(toy, "sts", "POST", "/"), ("Transfer-Encoding", "chunked")]
    assert ask(toy.stack.aws_endpoint_url, "POST", "/", b"no chunk\r\n", *own).status == 400


class TestFunctions:
    """Whoever has the credentials by mistake runs no code of theirs."""

    SENTENCE = "runs only the functions that template.yaml gives"

    @pytest.mark.usefixtures("same")
    def test_none_is_changed_or_added(self, toy: Running) -> None:
        functions, name = toy.client("lambda"), toy.outputs["ToyName"]
        new = {"FunctionName": "mine", "Runtime": "python3.12", "Role": "arn:aws:iam::123456789012:role/role"}
        variables = {"Variables": {"LD_PRELOAD": "mine.so"}}
        for change in (
            lambda: functions.update_function_configuration(FunctionName=name, Handler="os.system"),
            lambda: functions.update_function_configuration(FunctionName=name, Environment=variables),
            lambda: functions.update_function_configuration(
                FunctionName=name, Layers=["arn:aws:lambda:us-east-1:1:layer:l:1"]
            ),
            lambda: functions.update_function_code(FunctionName=name, ZipFile=b"x"),
            lambda: functions.create_function(**new, Handler="os.system", Code={"ZipFile": b"x"}),
        ):
            with pytest.raises(ClientError, match=self.SENTENCE) as error:
                change()
            assert error.value.response["Error"]["Code"] == "AccessDeniedException"
        assert toy.invoke("ToyName", do="whoami")["environment"]["_HANDLER"] == "app.handler"

    def test_nor_by_cloudformation(self, toy: Running, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef handler(event, context): ...\n")
        properties = {
            "Code": {"S3Bucket": "local", "S3Key": str(tmp_path)},
            "Handler": "mine.handler",
            "Role": "arn:aws:iam::123456789012:role/role",
            "Runtime": "python3.12",
            "Local": {"Directory": str(tmp_path), "Layers": []},
        }
        stacks = toy.client("cloudformation")
        before = toy.client("lambda").get_function(FunctionName=toy.outputs["ToyName"])["Configuration"]
        body = json.dumps({"Resources": {"Mine": {"Type": "AWS::Lambda::Function", "Properties": properties}}})
        with pytest.raises(ClientError, match=self.SENTENCE):
            stacks.create_stack(StackName="mine", TemplateBody=body)
        template = stacks.get_template(StackName="loopllama")["TemplateBody"]
        template = template if isinstance(template, dict) else json.loads(template)
        template["Resources"]["Toy"]["Properties"] |= properties
        with pytest.raises(ClientError, match=self.SENTENCE):
            stacks.update_stack(StackName="loopllama", TemplateBody=json.dumps(template))
        assert toy.client("lambda").get_function(FunctionName=toy.outputs["ToyName"])["Configuration"] == before
        assert toy.invoke("ToyName", do="whoami")["environment"]["_HANDLER"] == "app.handler"
        assert not (tmp_path / "ran").exists()


def test_the_owner_reads_secrets_and_nobody_else(toy: Running) -> None:
    assert SECRET in {each["Name"] for each in toy.client("secretsmanager").list_secrets()["SecretList"]}


def test_the_api_asks_for_its_key_whoever_asks(product: Running) -> None:
    url = product.stack.api_url
    for headers in (
        [],
        [("Origin", "http://evil.test")],
        [("Content-Type", "text/plain")],
        [("X-API-Key", "ll_live_x")],
    ):
        for method, target in (("GET", "/v1/workflows"), ("POST", "/v1/workflows"), ("GET", "/v1/usage")):
            answered = ask(url, method, target, b"{}" if method == "POST" else b"", *headers)
            assert answered.status == 401
            assert not answered.cors
        for target in ("/healthz", "/openapi.json", "/docs"):
            answered = ask(url, "GET", target, b"", *headers)
            assert answered.status == 200
            assert not answered.cors, "public to programs, closed to other pages"
