"""`loopllama local --tool NAME=FILE.py:HANDLER`: functions of one's own; and what a stack says once it serves."""

import socket
import sys
from pathlib import Path

import pytest

from loopllama.errors import InvalidRequest
from loopllama.tools.store import checked
from loopllama_cli import tool_functions
from loopllama_cli.local import stack, template
from loopllama_cli.local.serve import welcome

ORDERS = '''
LIMIT = 3


def handler(event, context):
    """Finds an order
    by its number."""


def plain(event, context):
    return LIMIT
'''
SEARCH = {"type": "lambda", "function": "arn:aws:lambda:us-east-1:1:function:shop-search", "description": "Searches."}


@pytest.fixture
def orders(tmp_path):
    file = tmp_path / "orders.py"
    file.write_text(ORDERS)
    return file


def test_a_tool_without_a_definition_gets_one(orders):
    functions, definitions = tool_functions.read([f"find={orders}:handler", f"other={orders}:plain"], {"now": {}})
    assert functions == {
        name: (str(orders.parent), f"orders.{one}") for name, one in (("find", "handler"), ("other", "plain"))
    }
    assert [definitions[name]["description"] for name in ("find", "other")] == [
        "Finds an order by its number.",
        "plain of orders.py",
    ]
    checked({name: definitions[name] for name in ("find", "other")})
    assert definitions["now"] == {}


def test_a_definition_that_is_there_says_the_function_s_name(orders):
    functions, definitions = tool_functions.read([f"search={orders}:plain"], {"search": SEARCH})
    assert (list(functions), definitions) == (["shop-search"], {"search": SEARCH})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("find", "write NAME=FILE.py:HANDLER"),
        ("find={orders}", "write NAME=FILE.py:HANDLER"),
        ("find={orders}:not there", "write NAME=FILE.py:HANDLER"),
        ("find={orders}:missing", "has no function 'missing'; it has: handler, plain"),
        ("find={orders.parent}/nobody.py:handler", "cannot read"),
        ("page={orders}:handler", "is no Lambda function's"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(orders, text, said):
    with pytest.raises(InvalidRequest, match=said):
        tool_functions.read([text.format(orders=orders)], {"page": {"type": "http_get"}})


def test_a_file_that_is_no_python_names_the_line(orders):
    orders.write_text("def handler(\n")
    with pytest.raises(InvalidRequest, match=r"orders\.py, line 1: "):
        tool_functions.read([f"find={orders}:handler"], {})


def test_a_function_of_the_template_is_not_replaced():
    given = template.Template(
        {"Resources": {"A": {"Type": "AWS::Lambda::Function", "Properties": {"FunctionName": "a"}}}}
    )
    with pytest.raises(template.TemplateError, match="the template has a function 'a' itself"):
        template.add_functions(given, {"a": ("/", "a.b")})


@pytest.mark.parametrize(
    ("called", "flag", "program", "local"),
    [
        ("/usr/bin/loopllama", "", "/usr/bin/loopllama", "--local"),
        ("loopllama", "", "loopllama", "--local"),
        (str(Path.cwd() / ".venv" / "bin" / "loopllama"), "", ".venv/bin/loopllama", "--local"),
        ("pytest", " --local http://127.0.0.1:1", "loopllama", "--local http://127.0.0.1:1"),
    ],
)
def test_a_stack_that_is_ready_says_what_to_type(monkeypatch, called, flag, program, local):
    monkeypatch.setattr(sys, "argv", [called])
    lines = welcome("http://127.0.0.1:4600", flag).splitlines()
    assert lines[0].startswith("Ready: http://127.0.0.1:4600 ")
    assert lines[1:4] == [
        f"  {program} init desk",
        f"  {program} workflows push desk/workflow.yaml {local}",
        f"  {program} run desk --input @desk/input.txt {local}",
    ]


@pytest.mark.parametrize("option", ["--api-port", "--aws-port"])
def test_a_port_in_use_names_the_option(option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=f"cannot listen on port {port} .*choose another with {option}, 0 takes a free one"
        ):
            stack._listen(port, option, lambda: socket.create_server(("127.0.0.1", port)))
