"""Templates: what they read, what they refuse, what they never show."""

import json
import re
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama.workflows import expressions, prompt_template
from loopllama.workflows.prompt_template import Reference, parse

names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def test_text_around_references_is_kept():
    template = parse("Ticket:\n{{ input }}\n\nFacts: {{steps.extract.output.order.id}}, {{ input.tags.0 }}.")
    assert template.references == [
        Reference("input", None, ()),
        Reference("steps", "extract", ("order", "id")),
        Reference("input", None, ("tags", "0")),
    ]
    assert (
        template.render({"tags": ["vip"]}, {"extract": {"order": {"id": "A-1"}}})
        == 'Ticket:\n{"tags": ["vip"]}\n\nFacts: A-1, vip.'
    )


def test_fields_of_any_name_can_be_named():
    value = {"größe": 4, "名前": "x", "first name": "Ada", "a.b": {"$id": 9}}
    text = '{{ input.größe }} {{ input.名前 }} {{ input."first name" }} {{ input."a.b"."$id" }} {{ input."größe" }}'
    assert parse(text).render(value, {}) == "4 x Ada 9 4"
    assert parse('{{ input."a.b"."$id" }}').references == [Reference("input", None, ("a.b", "$id"))]
    with pytest.raises(InvalidRequest, match=re.escape('{{ input."last name" }}: input has no field')):
        parse('{{ input."last name" }}').render(value, {})
    for wrong in ('{{ input."a }}', "{{ input.a b }}", "{{ input..a }}", '{{ "a".b }}', '{{ input."a"b }}'):
        with pytest.raises(ValueError, match=r"is no name of a value|is unknown"):
            parse(wrong)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3), st.integers())
def test_every_key_of_json_can_be_named(keys, found):
    """In a template and in an expression, in the same words."""
    value = found
    for key in reversed(keys):
        value = {key: value, "other": {"x": 1}} if key != "other" else {key: value}
    name = ".".join(["input", *(json.dumps(key, ensure_ascii=False) for key in keys)])
    escaped = ".".join(["input", *(json.dumps(key) for key in keys)])
    for written in (name, escaped):
        (reference,) = parse(f"{{{{ {written} }}}}").references
        assert reference == Reference("input", None, tuple(keys))
        assert parse(f"a{{{{{written}}}}}b").render(value, {}) == f"a{found}b"
        assert expressions.parse(written).of({"input": value, "steps": {}}) == found
    assert parse(f"{{{{ {reference.name} }}}}").references == [reference], "an error names it as it is to be written"
    text = f"{{{{ steps.a.output.{escaped[6:]} }}}}"
    assert parse(text).render(None, {"a": value}) == parse(text.replace("steps.a.output", "item")).render(
        None, {}, value
    )


def test_a_letter_with_marks_needs_no_quotes():
    value = {"हिन्दी": 1, "gro\u0308ße": 2, "\u0645\u06cc\u200c\u062e": 3, "2nd_review": 4, "c-d": 5, "0": 6}
    text = " ".join(f"{{{{ input.{name} }}}}" for name in value)
    assert parse(text).render(value, {}) == "1 2 3 4 5 6"


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("input.first name", 'input."first name"'),
        ("input['first name']", 'input."first name"'),
        ('input["first name"].x', 'input."first name".x'),
        ("input.'first name'", 'input."first name"'),
        ("input.$ref", 'input."$ref"'),
        ("input.a/b", 'input."a/b"'),
        ("input.a:b", 'input."a:b"'),
        ("input.@type", 'input."@type"'),
        ("input.🎉", 'input."🎉"'),
        ("input[0]", "input.0"),
        ("input.lines[0].größe x", 'input.lines.0."größe x"'),
        ("steps.a.output.first name", 'steps.a.output."first name"'),
        ("item.first name", 'item."first name"'),
        ("input . a", "input.a"),
    ],
)
def test_a_name_that_needs_quotes_is_told_as_it_should_be(written, right):
    with pytest.raises(ValueError, match=re.escape(f"did you mean {{{{ {right} }}}}?")):
        parse(f"{{{{ {written} }}}}")
    assert parse(f"{{{{ {right} }}}}").references


def test_an_escape_that_json_has_not_is_told():
    with pytest.raises(ValueError, match="has an escape that JSON has not"):
        parse(r'{{ input."C:\dir" }}')
    assert parse(r'{{ input."C:\\dir" }}').references == [Reference("input", None, (r"C:\dir",))]


@pytest.mark.parametrize("written", ["input.a | upper", "input.a == 1", "upper(input.a)", "if input.a"])
def test_no_name_is_made_of_what_is_to_be_computed(written):
    with pytest.raises(ValueError, match=re.escape("; write {{ input }}")):
        parse(f"{{{{ {written} }}}}")


def test_texts_stay_as_they_are_and_the_rest_is_json():
    render = parse("{{ steps.a.output }}|{{ steps.a.output.x }}").render
    assert render("", {"a": {"x": 'é\n"q"'}}) == '{"x": "é\\n\\"q\\""}|é\n"q"'
    assert render("", {"a": {"x": None}}) == '{"x": null}|null'
    assert render("", {"a": {"x": True}}).endswith("|true")
    assert render("", {"a": {"x": Decimal("12.50")}}) == '{"x": 12.5}|12.5'
    assert render("", {"a": {"x": Decimal("12")}}) == '{"x": 12}|12'


@pytest.mark.parametrize("digits", ["0.1", "19.9", "12345678901234567.89", "0.0000001", "-1.5", "1" + "0" * 100])
def test_numbers_keep_their_digits(digits):
    number = exact_json.loads(digits)
    text = parse("{{ input }}|{{ input.0.e_1 }}").render([{"e_1": number, "é": [number, "é"]}], {})
    assert text == f'[{{"e_1": {digits}, "é": [{digits}, "é"]}}]|{digits}'
    assert parse("{{ input }}").render(Decimal(digits), {}) == digits


def test_a_rendered_value_is_never_read_as_a_template_again():
    assert parse("{{ input }}").render("{{ steps.secret.output }}", {}) == "{{ steps.secret.output }}"


@pytest.mark.parametrize("text", ["plain", "", "a } b }} c", '{"a": {"b": 1}}', "{ { input } }"])
def test_text_without_double_opening_braces_is_itself(text):
    assert parse(text).render("x", {}) == text


@given(st.text())
def test_any_text_can_be_written(text):
    escaped = text.replace("{", '{{ "{" }}')
    assert parse(escaped).render("", {}) == text


@given(st.text())
def test_parsing_ends_in_a_template_or_a_value_error(text):
    try:
        assert parse("{{" + text).parts
    except ValueError as error:
        assert re.match(r"line \d+, column \d+: ", str(error))  # noqa: PT017


@given(json_values, st.lists(names, max_size=3))
def test_a_reference_finds_what_lies_there(value, path):
    nested = value
    for name in reversed(path):
        nested = {name: nested}
    for text, input_, outputs in (
        ("{{" + ".".join(["input", *path]) + "}}", nested, {}),
        ("{{ " + ".".join(["steps", "s-1", "output", *path]) + " }}", "", {"s-1": nested}),
    ):
        rendered = parse(text).render(input_, outputs)
        if value is None and outputs and not path:
            assert rendered == "", "a step without output reads as nothing"
            continue
        assert rendered == value if isinstance(value, str) else json.loads(rendered) == value


@given(st.sampled_from(["input", "steps"]), names, st.lists(names, max_size=4))
def test_a_reference_is_written_as_it_is_read(root, step, path):
    reference = Reference(root, step if root == "steps" else None, tuple(path))
    assert parse("{{ " + reference.name + " }}").references == [reference]


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ("one\ntwo {{ input", "line 2, column 5", '{{ "{{" }}'),
        ("{{ }}", "line 1, column 1", "{{ input }}"),
        ("{{ inputs }}", "line 1, column 1", "'inputs' is unknown"),
        ("{{ steps.extract }}", "line 1, column 1", "{{ steps.extract.output }}"),
        ("{{ steps.extract.result.x }}", "line 1, column 1", "{{ steps.extract.output }}"),
        ("{{ steps }}", "line 1, column 1", "{{ steps.STEP.output }}"),
        ("a\n\n{{ input.a b }}", "line 3, column 1", "no name of a value"),
        ("{{ input..a }}", "line 1, column 1", "no name of a value"),
        ("{{ input | upper }}", "line 1, column 1", "no name of a value"),
        ("{{ input.__class__() }}", "line 1, column 1", "no name of a value"),
        ("{{ 'x' }}", "line 1, column 1", "no name of a value"),
        ('{{"a": 1}}', "line 1, column 1", '{{ "{{" }}'),
    ],
)
def test_what_is_wrong_and_what_would_be_right(text, place, advice):
    with pytest.raises(ValueError, match=r"^line \d+, column \d+: ") as caught:
        parse(text)
    assert str(caught.value).startswith(place)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ input.name }}", "input has no field 'name'; it has: nom, items, none"),
        ("{{ input.items.2 }}", "input.items is a list of 2; its items are 0 to 1"),
        ("{{ input.items.x }}", "input.items is a list of 2"),
        ("{{ input.items." + "9" * 5000 + " }}", "input.items is a list of 2"),
        ("{{ input.items.² }}", "input.items is a list of 2"),
        ("{{ input.nom.first }}", "input.nom is a text"),
        ("{{ input.none.first }}", "input.none is null"),
        ("{{ steps.a.output.x.y }}", "steps.a.output.x is a number"),
        ("{{ steps.b.output }}", "step b has no output; there are outputs of: a"),
    ],
)
def test_a_missing_field_names_the_reference_and_what_there_is(text, message):
    with pytest.raises((InvalidRequest, ValueError), match=None) as caught:
        parse(text).render({"nom": "SECRET", "items": ["SECRET", 2], "none": None}, {"a": {"x": 5}})
    assert message in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_attributes_of_python_objects_are_out_of_reach():
    with pytest.raises(InvalidRequest, match="no field '__class__'"):
        parse("{{ input.__class__ }}").render({}, {})


def test_names_of_many_fields_are_cut():
    with pytest.raises(InvalidRequest, match="and 480 more"):
        parse("{{ input.x }}").render({f"f{number}": 0 for number in range(500)}, {})


def test_templates_load_no_libraries():
    code = (
        "import sys, loopllama.workflows.prompt_template;"
        "sys.exit(any(m in sys.modules for m in ('pydantic', 'boto3', 'jsonschema', 'yaml', 'httpx')))"
    )
    path = prompt_template.__file__.rsplit("/loopllama/", 1)[0]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path})


def test_a_prompt_that_multiplies_its_input_is_refused_before_it_fills_the_memory():
    template, large = parse("{{ input }}" * 700), "x" * 1_000_000
    with pytest.raises(InvalidRequest, match="longer than 16,777,216 characters"):
        template.render(large, {})
    assert len(parse("{{ input }}" * 16).render(large, {})) == 16_000_000


@pytest.mark.parametrize("name", ['input."' + "\\\\" * 3900, "input." + '"' * 7900, "input." + "a b" * 2600])
def test_a_name_of_thousands_of_signs_is_refused_at_once(name):
    began = time.process_time()
    with pytest.raises(ValueError, match=r"is no name of a value|without") as told:
        parse(f"{{{{ {name} }}}}")
    assert time.process_time() - began < 2
    assert len(str(told.value)) < 1000
