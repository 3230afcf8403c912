"""Workflow files: what YAML and JSON become, and on which line it is said what is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.errors import WorkflowInvalid
from loopllama.workflows.schema import Workflow
from loopllama_cli.workflow_files import load, parse

YAML, JSON = Path("crew.yaml"), Path("crew.json")


def problems(text, path=YAML):
    """(line, field, message) of everything that is wrong."""
    with pytest.raises(WorkflowInvalid) as caught:
        parse(text, path)
    first = caught.value.details[0]
    assert str(caught.value).startswith(f"{path}, line {first['line']}: {first['field']}: {first['message']}")
    return [(detail["line"], detail["field"], detail["message"]) for detail in caught.value.details]


def enum_of(values):
    text = f"name: x\ncrew:\n  - role: A\n    systemPrompt: x\n    outputSchema:\n      enum: {values}\n"
    return parse(text, YAML).to_definition()["crew"][0]["output_schema"]["enum"]


def test_yaml_and_json_are_the_same_model(tmp_path):
    crew = {"name": "Ünï", "crew": [{"role": "A 😀", "systemPrompt": "two\nlines\tand a tab", "maxTokens": 5}]}
    yaml_text = 'name: Ünï\ncrew:\n  - role: "A 😀"\n    system_prompt: "two\\nlines\\tand a tab"\n    max_tokens: 5\n'
    (tmp_path / "a.yaml").write_text(yaml_text, encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(crew, indent="\t"), encoding="utf-8-sig")
    expected = Workflow.model_validate(crew)
    assert load(tmp_path / "a.yaml") == expected
    assert load(str(tmp_path / "a.json")) == expected


@given(st.text(min_size=1, max_size=200))
def test_json_texts_are_what_json_says(text):
    data = {"name": "x", "crew": [{"role": "A", "systemPrompt": text}]}
    assert parse(json.dumps(data), JSON).crew[0].system_prompt == text


ODD = {
    "next line": "a\x85b", "line separator": "a\u2028b", "paragraph separator": "a\u2029b", "DEL": "a\x7fb",
    "C1": "a\x9fb", "mark": "a\ufeffb", "beyond U+FFFF": "🎉", "no character": "a\uffffb",
    "private": "a\ue000\ue001\ue002b", "tab": "a\tb", "hash": "a # b", "colon": "a: b", "words": "yes",
    "reference": "{{ input }}", "slash": "a/b", "CRLF": "a\r\nb",
}  # fmt: skip


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_json_keys_and_texts_arrive_as_they_are(text: str, ascii_only: bool) -> None:
    schema = {"type": "object", "properties": {text: {"enum": [text, 1000, 0.5, True, None, "no", "12:30"]}}}
    data = {"name": "x", "crew": [{"role": "A", "systemPrompt": text, "outputSchema": schema}]}
    for indent in (None, 2, "\t"):
        agent = parse(json.dumps(data, ensure_ascii=ascii_only, indent=indent), JSON).crew[0]
        assert (agent.system_prompt, agent.output_schema) == (text, schema)


def test_json_has_its_own_numbers_and_long_keys() -> None:
    key = "k" * 3000
    schema = '{"const":[1e3,1E+2,-0,0.50,5],' + f'"{key}":1}}'
    text = f'{{"name":"x","crew":[{{"role":"A","systemPrompt":"s","outputSchema":{schema}}}]}}'
    assert parse(text, JSON).crew[0].output_schema == {"const": [1000.0, 100.0, 0, 0.5, 5], key: 1}


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_a_pasted_line_separator_ends_no_line_of_yaml(character: str) -> None:
    pasted = f"one{character}two \ue000"
    for text in (f"|\n      {pasted}", f'"{pasted}"', f"'{pasted}'", pasted):
        read = parse(f"name: x\ncrew:\n  - role: A\n    systemPrompt: {text}\n    maxTokens: 5\n", YAML).crew[0]
        assert read.system_prompt.rstrip("\n") == pasted
    found = problems(f"name: x\ncrew:\n  - role: A{character}B\n    systemPrompt: x\n    maxTokens: no\n")
    assert [(line, field) for line, field, _ in found] == [(5, "crew.0.maxTokens")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("prompt: {{ input }}", "in quotes"),
        ("prompt: {{ input }} more", "in quotes"),
        ("prompt: Note: be brief", "in quotes"),
        ("prompt: 5", "in quotes"),
        ("prompt: yes: no", "in quotes"),
        ("when: `true`", "in quotes"),
        ("when: !(input.x)", "in quotes"),
        ("when: 'high' == input.x", "in quotes"),
        ("forEach: [?x]", "in quotes"),
        ("forEach: @", "in quotes"),
        ("when: *x", "in quotes"),
        ('prompt: "a\\d"', "a backslash as \\\\"),
        ("approval: yes", "'yes' is a text here: write true or false"),
        ("approval: on", "'on' is a text here: write true or false"),
        ("maxTokens: 010", "must be a whole number"),
        ("timeoutSeconds: 1:30", "must be a whole number"),
        ("temperature: 01.5", "must be a valid number"),
        ('prompt: "\\ud800"', "half of a surrogate pair"),
    ],
)
def test_a_text_that_yaml_takes_for_something_else_is_told_with_its_line(line: str, says: str) -> None:
    found = problems(f"name: x\ncrew:\n  - role: A\n    systemPrompt: x\n    {line}\n")
    assert found[0][0] == 5
    assert says in found[0][2]


def test_windows_files_are_read(tmp_path: Path) -> None:
    text = "name: x\ncrew:\n  - role: A\n    systemPrompt: |\n      One.\n      Two.\n"
    as_json = json.dumps({"name": "x", "crew": [{"role": "A", "systemPrompt": "One.\nTwo.\n"}]}, indent=1)
    for name, content in (("a.YAML", text), ("a.YML", text), ("a.JSON", as_json), ("a.txt", text)):
        for mark in ("", "\ufeff"):
            (tmp_path / name).write_bytes((mark + content.replace("\n", "\r\n")).encode())
            assert load(tmp_path / name).crew[0].system_prompt == "One.\nTwo.\n"
        (tmp_path / name).write_bytes(content.encode("utf-16"))
        with pytest.raises(WorkflowInvalid, match=r"line 1: file: is UTF-16, not UTF-8: save it as UTF-8"):
            load(tmp_path / name)


def test_plain_words_mean_what_they_mean_in_json():
    values = "[yes, no, on, Off, 2026-01-01, 12:30, 1_000, 007, 0x1f, =, 1.2.3, e5]"
    assert enum_of(values) == [
        "yes", "no", "on", "Off", "2026-01-01", "12:30", "1_000", "007", "0x1f", "=", "1.2.3", "e5",
    ]  # fmt: skip
    assert enum_of("[true, False, null, ~, 5, -3, 1.5, .5, 1e3, -2.5E-1, '5', 0]") == [
        True, False, None, None, 5, -3, 1.5, 0.5, 1000.0, -0.25, "5", 0,
    ]  # fmt: skip


def test_anchors_are_taken():
    text = "name: x\ncrew:\n  - role: A\n    systemPrompt: &p Be kind.\n  - role: B\n    systemPrompt: *p\n"
    assert [agent.system_prompt for agent in parse(text, YAML).crew] == ["Be kind."] * 2


CREW = """\
name: Test
model: balanced
crew:
  - role: Extractor
    systemPrompt: |
      Take the facts
      out of the ticket.
    outputSchema:
      type: object
      properties:
        order_id: {type: string}
  - role: Writer
    system_prompt: Write.
    max_tokens: 0
    needs:
      - extractor
      - nobody
    prompt: >
      {{ steps.extractor.output.order }}
  - role: Last
    sytemPrompt: x
"""


def test_each_problem_has_its_line():
    assert [(line, field) for line, field, _ in problems(CREW)] == [
        (14, "crew.1.max_tokens"),
        (20, "crew.2.systemPrompt"),
        (21, "crew.2.sytemPrompt"),
    ]
    fixed = CREW.replace("max_tokens: 0", "max_tokens: 9").replace("sytemPrompt", "systemPrompt")
    assert [(line, field) for line, field, _ in problems(fixed)] == [(17, "crew.1.needs.1")]
    fixed = fixed.replace("      - nobody\n", "")
    assert [(line, field) for line, field, _ in problems(fixed)] == [(17, "crew.1.prompt")]
    assert parse(fixed.replace("output.order ", "output.order_id "), YAML).crew[2].needs == ["writer"]


def test_a_place_deep_in_a_schema_has_its_line():
    text = CREW.replace("order_id: {type: string}", "order_id:\n          const: .5e-300")
    text = text.replace("max_tokens: 0", "max_tokens: 1").replace("sytem", "system")
    assert (12, "crew.0.outputSchema.properties.order_id.const") in [(line, field) for line, field, _ in problems(text)]


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("name: a\nmodel: b\nname: c\n", 3, "name", "is there twice, first in line 1"),
        ("crew:\n  - role: A\n    role: B\n", 3, "crew.0.role", "first in line 2"),
        ("name: x\n\tcrew: y\n", 2, "file", "a tab stands where YAML takes only spaces"),
        ("name: x\ncrew: [1, 2\n", 3, "file", "is no YAML: expected ',' or ']'"),
        ("name: x\ncrew: *y\n", 2, "file", "undefined alias"),
        ("name: x\n---\nname: y\n", 2, "file", "another document"),
        ("name: \x01\n", 1, "file", "U+0001"),
        ("name: x\nmodel: a\x7fb\n", 2, "file", "U+007F, which is for double quotes only"),
        ("name: !!python/object/apply:os.system [x]\n", 1, "name", "must be a text"),
        ("name: !!python/name:os.system x\n", 1, "name", "which is not taken"),
        ("name: x\nmodel: !!int y\n", 2, "model", "is no int"),
        ("a: 1\n<<: {b: 2}\n", 2, "<<", "write the fields out"),
        ("? [a]\n: b\n", 1, "workflow", "a key that is no plain text"),
        ("&a [*a]\n", 1, "file", "nested too deep"),
        ("[" * 5000, 1, "file", "nested too deep"),
        ("", 1, "workflow", "must be a mapping"),
        ("# nothing\n- a\n", 2, "workflow", "must be a mapping"),
        ("description: x\n", 1, "name", "is missing"),
    ],
)
def test_what_yaml_can_get_wrong(text, line, field, message):
    found = problems(text)[0]
    assert found[:2] == (line, field)
    assert message in found[2]


def test_a_few_lines_that_stand_for_billions_of_values():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert problems("\n".join(lines)) == [(1, "file", "is nested too deep or has too many values")]


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ('{"name": "x",\n x}', 2, "file", "is no JSON"),
        ('{"name": "x",\n\t"name": "y"}', 2, "name", "is there twice"),
        ('{"name": "x",\n\n"crew": [{"role":5}]}', 3, "crew.0.role", "must be a text"),
        ("[" * 100_000, 1, "file", "nested too deep"),
        ("name: x", 1, "file", "is no JSON"),
        ('{"name": "x",\n "model": "y", "model": "z"}', 2, "model", "is there twice, first in line 2"),
        ('{"name": "x", "crew": [{"role": "A",\n "role": "B"}]}', 2, "crew.0.role", "is there twice"),
        ('{"name": "x", "n\\u0061me": "y"}', 1, "name", "is there twice"),
        ('{"name": "x",\n"budget": {"maxSteps": NaN}}', 2, "budget.maxSteps", "is NaN, which is no JSON number"),
        ('{"name": "x",\n"budget": {"maxSteps": -Infinity}}', 2, "budget.maxSteps", "is -Infinity, which is no JSON"),
        ('{"name": NaN}', 1, "name", "is NaN, which is no JSON number"),
        ('{"name": "x", "budget": {"maxCostUsd": 1e400}}', 1, "budget.maxCostUsd", "out of range"),
        ('{"name": "x\\ud800"}', 1, "name", "half of a surrogate pair"),
        ('{"name": "x",}', 1, "file", "is no JSON"),
        ("{'name': 'x'}", 1, "file", "is no JSON"),
        ('{"name": "x"} # a comment', 1, "file", "is no JSON"),
        ('{"name": "x", "<<": {}}', 1, "<<", "is unknown"),
        ("", 1, "file", "is no JSON"),
    ],
)
def test_what_json_can_get_wrong(text, line, field, message):
    found = problems(text, JSON)[0]
    assert found[:2] == (line, field)
    assert message in found[2]


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: x\ndescription: caf\xe9\n")
    (tmp_path / "long.yaml").write_bytes(b"#" * 1_000_001)
    for name, line, message in (
        ("missing.yaml", 1, "cannot be read: No such file"),
        (".", 1, "cannot be read"),
        ("latin.yaml", 2, "not UTF-8"),
        ("long.yaml", 1, "longer than 1,000,000 bytes"),
    ):
        with pytest.raises(WorkflowInvalid, match=message) as caught:
            load(tmp_path / name)
        assert caught.value.details[0]["line"] == line


@given(st.text())
def test_any_text_is_taken_or_refused_with_a_line(text):
    for path in (YAML, JSON):
        try:
            parse("name: x\n" + text, path)
        except WorkflowInvalid as error:
            assert all(int(str(detail["line"])) >= 1 for detail in error.details)  # noqa: PT017


def test_the_support_reply_example():
    folder = Path(__file__).parents[3] / "examples" / "support_reply"
    workflow = load(folder / "workflow.yaml")
    crew = workflow.to_definition()["crew"]
    assert [step["name"] for step in crew] == ["triage", "extract", "lookup", "draft", "check", "review"]
    assert workflow.model == "frontier"
    assert not any("model" in step for step in crew), "an agent's own model would outrank the workflow's override"
    assert {step["name"] for step in crew if "output_schema" in step} == {"triage", "extract", "check"}
    assert {step["name"] for step in crew if "prompt" in step} == {"lookup", "check", "review"}
    assert len((folder / "input.txt").read_text(encoding="utf-8").splitlines()) >= 20


def test_the_workflow_of_the_documentation_and_its_fields():
    text = (Path(__file__).parents[3] / "docs" / "workflows.md").read_text(encoding="utf-8")
    assert len(parse(text.split("```yaml\n")[1].split("```")[0], YAML).crew) == 2
    fields = {
        *Workflow.model_json_schema()["properties"],
        *Workflow.model_json_schema()["$defs"]["Agent"]["properties"],
    }
    assert [field for field in fields if f"`{field}`" not in text] == []


@pytest.mark.parametrize(("written", "path"), [("retries: 0", YAML), ("retries: 3", YAML), ("retries: -0", YAML)])
def test_whole_numbers_are_whole_numbers(written: str, path: Path) -> None:
    text = f"name: N\ncrew:\n  - role: R\n    systemPrompt: x\n    {written}\n"
    retries = parse(text, path).to_definition()["crew"][0]["retries"]
    assert (retries, type(retries)) == (abs(int(written.split()[1])), int)
