"""What is said of expressions and templates when a workflow is pushed: all that is surely wrong, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from loopllama.errors import WorkflowInvalid
from loopllama.workflows.schema import Workflow

LINE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "price": {"type": "number"}, "tags": {"type": "array"}},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "urgency": {"type": "string"},
        "kind": {"type": ["string", "null"], "enum": ["refund", "exchange", None]},
        "level": {"enum": [1, 2, "three"]},
        "fixed": {"const": True},
        "sure": {"type": "boolean"},
        "score": {"type": ["number", "null"]},
        "lines": {"type": "array", "items": LINE},
        "groups": {"type": "array", "items": {"type": "array", "items": LINE}},
        "either": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "open": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {}},
        "nested": {"type": "array", "items": {"type": ["array", "object"], "items": {"type": "string"}}},
        "mixed": {"type": ["array", "object"], "items": {"type": "string"}},
        "any": {},
        "referred": {"$ref": "#/$defs/line"},
    },
    "$defs": {"line": LINE},
}
VERDICT = {"type": "object", "properties": {"ok": {"type": "boolean"}, "todo": {"type": "array"}}}


def agent(name: str, **fields: Any) -> dict[str, Any]:
    return {"role": "R", "systemPrompt": "x", "name": name, **fields}


def wrong(*crew: dict[str, Any]) -> dict[str, str]:
    """Field to message of everything that is wrong."""
    try:
        Workflow.model_validate({"name": "Test", "crew": list(crew)})
    except WorkflowInvalid as error:
        return {str(detail["field"]): str(detail["message"]) for detail in error.details}
    return {}


TRIAGE = agent("triage", outputSchema=SCHEMA)
TEXT = agent("note", needs=["triage"])
EACH = agent("each", needs=["triage"], forEach="steps.triage.output.lines", outputSchema=LINE)


def reply(**fields: Any) -> list[dict[str, Any]]:
    return [
        TRIAGE,
        TEXT,
        EACH,
        agent("reply", needs=["note", "each"], **fields),
        agent("after"),
        agent("side", needs=[]),
    ]


GOOD = [
    "input",
    "input.any.thing[0].at[?all == 'x'] | [0].b",
    "steps.triage.output.urgency == 'high'",
    "steps.triage.output.score >= `0.8`",
    "length(steps.triage.output.lines) > `3`",
    "steps.triage.output.lines[0].name",
    "steps.triage.output.lines[-1:].price | [0]",
    "steps.triage.output.lines[?price > `1` && name != 'a'].tags[0].whatever",
    "sort_by(steps.triage.output.lines, &price)[0].name",
    "max_by(steps.triage.output.lines, &price).name",
    "map(&name, steps.triage.output.lines)",
    "reverse(steps.triage.output.lines)[0].name",
    "steps.triage.output.groups[].name",
    "steps.triage.output.groups[] | [0].price",
    "steps.triage.output.groups[*][*].price[]",
    "steps.triage.output.lines[].tags[]",
    "steps.triage.output.either.x",
    "steps.triage.output.either[0]",
    "steps.triage.output.open.z",
    "steps.triage.output.mixed.z || steps.triage.output.mixed[0]",
    "steps.triage.output.nested[].z",
    "steps.triage.output.any.z[0]",
    "steps.triage.output.referred.z",
    "steps.triage.output.[urgency, score][1]",
    "steps.triage.output.{u: urgency, s: score}.u",
    "steps.triage.output.*",
    "steps.*.output",
    "@.steps.triage.output.urgency",
    "steps | triage.output.urgency",
    "[steps.triage.output.urgency, input.x]",
    "(steps.triage || input).anything",
    "!(steps.triage.output.urgency)",
    "keys(steps.triage.output)",
    "steps.note.output == 'yes'",
    "contains(steps.note.output, 'yes')",
    "steps.each.output[?price > `1`]",
    "steps.each.output[0].name",
    "input.runs[?steps.count > `3`]",
    "input.list[?item == input.steps]",
    "not_null(steps.note.output, `1`, input.x)",
    '`{"steps": 1}`.steps',
    "steps.triage.output.kind == 'refund' || steps.triage.output.kind == `null`",
    "steps.triage.output.kind != 'exchange'",
    "steps.triage.output.level == `2` || `1.0` == steps.triage.output.level",
    "steps.triage.output.level == 'three' && steps.triage.output.fixed == `true`",
    "steps.triage.output.sure == `false` || steps.triage.output.kind == steps.note.output",
    "steps.triage.output.either == `7`",
    "input.lines[?kind == 'it is \"refund\"' && \"kind\" == 'x']",
    'input.lines[?kind == `"refund"` || "a b" == c]',
    # no value has such a field, so that it is null, as it says
    "steps.triage.output.score == null",
    "steps.triage.output.lines[?name != null]",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_may_hold_is_taken(text: str) -> None:
    assert wrong(*reply(when=text)) == {}


BAD = [
    # roots
    ("step.triage.output.urgency", "there is no 'step', only input and steps.NAME.output; did you mean steps?"),
    ("inputs.urgent", "there is no 'inputs', only input and steps.NAME.output; did you mean input?"),
    (
        "triage.output.urgency",
        "there is no 'triage', only input and steps.NAME.output; did you mean steps.triage.output?",
    ),
    ("item.keep", "'item' is for the prompts of steps with forEach"),
    ("steps.note.output == true", "there is no 'true', only input and steps.NAME.output; texts stand in single quotes"),
    (
        'steps.note.output == "high"',
        "there is no 'high', only input and steps.NAME.output; texts stand in single quotes",
    ),
    ("length(lines) > `3`", "there is no 'lines'"),
    ("[input, inputs]", "there is no 'inputs'"),
    ("{a: inputs}", "there is no 'inputs'"),
    ("input && inputs", "there is no 'inputs'"),
    ("@.inputs", "there is no 'inputs'"),
    ("[0]", "what an expression reads is an object, which has no items"),
    # steps
    ("steps.triag.output", "there is no step 'triag'; did you mean triage?"),
    ("steps.after.output", "after is not finished when reply starts; add it to needs"),
    ("steps.side.output", "side is not finished when reply starts; add it to needs"),
    ("steps.reply.output", "a step cannot read its own output"),
    ("steps.triage.urgency", "steps.triage has only its output; write steps.triage.output"),
    ("steps[0]", "steps is an object, which has no items"),
    ("steps | nobody", "there is no step 'nobody'"),
    # fields
    ("steps.triage.output.urgancy == 'high'", "the outputSchema of triage has no 'urgancy'; did you mean urgency?"),
    ("!(steps.triage.output.urgancy)", "did you mean urgency?"),
    (
        "steps.triage.output.urgency.level",
        "by the outputSchema steps.triage.output.urgency is a text, which has no 'level'",
    ),
    ("steps.triage.output.score.x", "by the outputSchema steps.triage.output.score is a number, which has no 'x'"),
    ("steps.triage.output.urgency[0]", "is a text, which has no items"),
    ("steps.triage.output.urgency[*].x", "is a text, which has no items"),
    ("steps.triage.output[0]", "is an object, which has no items"),
    ("steps.triage.output.lines.name", "is a list, which has no 'name'; a list's items are .0 in a template, and [0]"),
    ("steps.triage.output.lines.*", "is a list, which has no fields"),
    ("steps.triage.output.lines[0].nam", "the outputSchema of triage has no 'nam' in lines[]; did you mean name?"),
    ("steps.triage.output.lines[*].nam", "has no 'nam' in lines[]"),
    ("steps.triage.output.lines[?pric > `1`]", "has no 'pric' in lines[]"),
    ("steps.triage.output.lines[?price > `1`].nam", "has no 'nam' in lines[]"),
    ("steps.triage.output.lines[?steps.note.output == 'x']", "has no 'steps' in lines[]"),
    ("steps.triage.output.lines[:2].nam", "has no 'nam' in lines[]"),
    ("steps.triage.output.groups[].nam", "has no 'nam' in groups[][]"),
    ("steps.triage.output.groups[][0].price", "steps.triage.output.groups[][] is an object, which has no items"),
    ("steps.triage.output.groups[0].name", "is a list, which has no 'name'"),
    ("steps.triage.output.lines[*].name | x", "what [*] or [?…] gives is a list, which has no 'x'"),
    ("sort_by(steps.triage.output.lines, &pric)", "has no 'pric' in lines[]"),
    ("max_by(steps.triage.output.lines, &price).nam", "has no 'nam' in lines[]"),
    ("map(&nam, steps.triage.output.lines)", "has no 'nam' in lines[]"),
    ("length(steps.triage.output.line)", "did you mean lines?"),
    ("steps.triage.output.[urgancy]", "did you mean urgency?"),
    ("steps.triage.output.{u: urgancy}", "did you mean urgency?"),
    ("steps.triage.output | urgancy", "did you mean urgency?"),
    (
        "steps.note.output.ok",
        "note has no outputSchema, so its output is a text without fields; write steps.note.output",
    ),
    ("steps.note.output[0]", "note has no outputSchema, so its output is a text without items"),
    ("steps.each.output.name", "steps.each.output is a list, which has no 'name'"),
    ("steps.each.output[*].nam", "the outputSchema of each has no 'nam'; did you mean name?"),
    # values
    (
        "steps.triage.output.kind == 'refnd'",
        "by the outputSchema steps.triage.output.kind is never 'refnd'; did you mean refund?",
    ),
    ("steps.triage.output.kind != 'high'", "is never 'high'; there are: refund, exchange, `null`"),
    ("'refnd' == steps.triage.output.kind", "is never 'refnd'"),
    ("steps.triage.output.level == `3`", "is never `3`; there are: `1`, `2`, three"),
    ("steps.triage.output.fixed == `1`", "steps.triage.output.fixed is never `1`"),
    ("steps.triage.output.sure == 'true'", "steps.triage.output.sure is true or false, and never 'true'"),
    ("steps.triage.output.score == '3'", "steps.triage.output.score is a number, and never '3'"),
    ("steps.triage.output.lines[?name == `3`]", "steps.triage.output.lines[].name is a text, and never `3`"),
    ("steps.note.output == `true`", "note has no outputSchema, so its output is a text, and never `true`"),
    (
        'input.lines[?kind == "refund"]',
        '"refund" in double quotes is the name of a field; texts stand in single quotes',
    ),
    ('steps.triage.output.lines[?name == "a"]', '"a" in double quotes is the name of a field'),
    # what can never be computed
    ("lenght(input)", "there is no function 'lenght'; did you mean length?"),
    ("length(input, input)", "length() takes 1 argument, not 2"),
    ("not_null()", "not_null() takes at least 1 argument, not 0"),
    ("sort_by(input.x, price)", "sort_by() is given what it looks at with '&', as in sort_by(LIST, &FIELD)"),
    ("&input", "'&' stands only before"),
    ("length(&input)", "'&' stands only before"),
    ("input[::0]", "the step of a slice cannot be 0"),
    ("!steps.note.output", "write !(steps.NAME"),
    ("steps.note.output >= 0.8", "numbers, true, false and null in backquotes"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_what_can_never_hold_is_refused(text: str, said: str) -> None:
    """In `when` and in `forEach`; a step's own output and what comes after it may be read by `until`."""
    for field in ("when", "forEach"):
        found = wrong(*reply(**{field: text}))
        assert said in found[f"crew.3.{field}"]
        assert list(found) == [f"crew.3.{field}"]
    crew = [
        TRIAGE,
        TEXT,
        EACH,
        agent("reply", needs=["note", "each"], repeat={"backTo": "reply", "until": text, "max": 2}),
    ]
    if "steps.reply" in text:
        assert wrong(*crew) == {}
    elif "not finished" not in said:
        assert said in wrong(*crew)["crew.3.repeat.until"]


def test_all_that_is_wrong_with_an_expression_is_told() -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.model_validate({"name": "T", "crew": [TRIAGE, agent("b", when="inputs.x || steps.triage.output.y")]})
    assert [str(detail["message"])[:20] for detail in caught.value.details] == [
        "there is no 'inputs'",
        "the outputSchema of ",
    ]


def test_roots_are_checked_beside_broken_needs() -> None:
    found = wrong(agent("a", when="inputs"), agent("b", needs=["x"], when="steps.nobody.output"))
    assert set(found) == {"crew.0.when", "crew.1.needs.0"}


@pytest.mark.parametrize(
    ("for_each", "said"),
    [
        ("steps.note.output", "takes a list, but note has no outputSchema, so its output is a text without items"),
        ("steps.triage.output", "steps.triage.output is an object, which has no items"),
        ("steps.triage.output.lines[0].price", "is a number, which has no items"),
        ("max_by(steps.triage.output.lines, &price)", "is an object, which has no items"),
    ],
)
def test_for_each_takes_a_list(for_each: str, said: str) -> None:
    assert said in wrong(*reply(forEach=for_each))["crew.3.forEach"]


def test_items_have_the_fields_of_their_list() -> None:
    each = {"forEach": "steps.triage.output.lines[?price > `1`]"}
    assert wrong(*reply(**each, prompt="{{ item }} {{ item.name }} {{ item.tags.0.x }}")) == {}
    assert (
        "the outputSchema of triage has no 'nam' in lines[]; did you mean name?"
        in (wrong(*reply(**each, prompt="{{ item.nam }}"))["crew.3.prompt"])
    )
    assert wrong(*reply(forEach="input.list", prompt="{{ item.nam }}")) == {}
    assert list(wrong(*reply(forEach="inputs.list", prompt="{{ item.nam }}"))) == ["crew.3.forEach"]
    assert "for the whole list" in wrong(*reply(forEach="input.list", when="item.keep"))["crew.3.when"]


def test_templates_see_the_same_types() -> None:
    prompt = "{{ steps.each.output.0.name }} {{ steps.triage.output.mixed.0 }} {{ steps.triage.output.open.z }}"
    assert wrong(*reply(prompt=prompt)) == {}
    for reference, said in {
        "steps.each.output.name": "steps.each.output is a list, which has no 'name'",
        "steps.each.output.0.nam": "the outputSchema of each has no 'nam'; did you mean name?",
        "steps.triage.output.lines.0.nam": "has no 'nam' in lines[]",
        "steps.triage.output.score.0": "is a number, which has no '0'",
    }.items():
        assert said in wrong(*reply(prompt="{{ " + reference + " }}"))["crew.3.prompt"]


def loop(**fields: Any) -> list[dict[str, Any]]:
    repeat = {"backTo": "write", "until": "steps.judge.output.ok", "max": 3}
    return [
        agent("plan", outputSchema=VERDICT),
        agent("write", **fields.get("write", {})),
        agent("polish", **fields.get("polish", {})),
        agent("judge", **{"outputSchema": VERDICT, "repeat": repeat, **fields.get("judge", {})}),
    ]


def test_in_a_loop_steps_read_what_later_ones_said_last() -> None:
    first = "steps.judge.output == `null`"
    for text in (f"{first} || steps.judge.output.ok", f"!(steps.judge.output.todo[0]) && {first}", "input"):
        assert wrong(*loop(write={"when": text})) == {}
        assert wrong(*loop(judge={"when": text})) == {}
    assert wrong(*loop(judge={"when": "steps.write.output"})) == {}
    assert "has no 'okay'; did you mean ok?" in wrong(*loop(write={"when": "steps.judge.output.okay"}))["crew.1.when"]
    assert "has no 'okay'" in wrong(*loop(write={"prompt": "{{ steps.judge.output.okay }}"}))["crew.1.prompt"]


@pytest.mark.parametrize(
    "text",
    [
        "steps.judge.output.ok",
        "steps.judge.output",
        "steps.judge.output.todo[0]",
        "steps.judge.output.ok == `false`",
        "steps.judge.output && steps.judge.output.ok",
        "length(steps.judge.output.todo || `[]`) > `0`",
    ],
)
def test_a_condition_that_no_first_round_can_meet_is_refused(text: str) -> None:
    for name, place in (("write", 1), ("judge", 3)):
        found = wrong(*loop(**{name: {"when": text}}))
        assert list(found) == [f"crew.{place}.when"]
        assert "is false in the loop's first round, in which judge has said nothing yet" in found[f"crew.{place}.when"]
        assert f"so that {name} is always skipped" in found[f"crew.{place}.when"]
    # What else it reads may make it true.
    for more in ("input.again", "steps.plan.output.ok", "steps.judge.output == `null`"):
        assert wrong(*loop(write={"when": f"{more} || {text}"})) == {}


def test_a_list_of_the_last_round_is_not_there_in_the_first() -> None:
    found = wrong(*loop(write={"forEach": "steps.judge.output.todo[*]"}))
    assert "is null in the loop's first round; name another for that with ||" in found["crew.1.forEach"]
    assert wrong(*loop(write={"forEach": "steps.judge.output.todo || steps.plan.output.todo"})) == {}
    assert wrong(*loop(write={"forEach": "steps.plan.output.todo"})) == {}


def test_a_function_is_not_given_what_the_first_round_lacks() -> None:
    late = "steps.judge.output.todo"
    for text in (f"length({late}) > `3`", f"{late} | length(@)", f"!(contains({late}[*], 'x'))", f"sort({late})[0]"):
        found = wrong(*loop(write={"when": text}))
        assert "is given null in the loop's first round" in found["crew.1.when"]
        # The verdict is taken when it is there, and so is what an earlier step said.
        until = {"backTo": "write", "until": text, "max": 3}
        assert wrong(*loop(judge={"repeat": until})) == {}
        assert wrong(*loop(write={"when": text.replace("judge", "plan")})) == {}
    for text in (
        f"length({late} || `[]`) > `3`",
        f"{late} && length({late}) > `3`",
        f"!({late}) || contains({late}, 'x')",
        f"{late}[?length(@) > `3`]",
        f"{late}[*].length(@)",
        "steps.judge.output.[length(todo)]",
        f"not_null({late}, `[]`)",
        f"type({late}) == 'null'",
        f"to_array({late})",
    ):
        assert wrong(*loop(write={"when": f"input.x || {text}"})) == {}


def test_a_field_that_is_required_is_there_even_where_it_is_not_described() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]}
    crew = [
        agent("one", outputSchema=schema),
        agent("two", when="steps.one.output.b.c", prompt="{{ steps.one.output.b }}"),
    ]
    assert wrong(*crew) == {}
    crew[1] |= {"when": "steps.one.output.c"}
    assert list(wrong(*crew)) == ["crew.1.when"]


def test_a_condition_within_a_loop_would_skip_who_decides() -> None:
    found = wrong(*loop(polish={"when": "steps.judge.output"}))
    assert found == {
        "crew.2.when": "stands within the loop from write to judge: where polish is skipped, so is judge, and the loop "
        "ends without its verdict; put it on write, which skips the loop, or let the prompt say when there is nothing "
        "to do"
    }
