"""Secrets in texts that others write, in each way that they write them."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core.redaction import Scrubber, of_headers

SECRET = 'sk-Aa0/+"&é=?9%_key-0123456789'
FORMS = {
    "as it is": SECRET,
    "JSON": json.dumps(SECRET)[1:-1],
    "JSON with escaped slashes": json.dumps(SECRET)[1:-1].replace("/", "\\/"),
    "JSON in JSON": json.dumps(json.dumps(SECRET)[1:-1])[1:-1],
    "URL": quote(SECRET, safe=""),
    "a URL's path": quote(SECRET),
    "a form": quote_plus(SECRET),
    "lower case": quote(SECRET, safe="")
    .replace("%2F", "%2f")
    .replace("%2B", "%2b")
    .replace("%C3%A9", "%c3%a9")
    .replace("%3D", "%3d")
    .replace("%3F", "%3f"),
    "HTML": html.escape(SECRET),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "base64 behind a name": base64.b64encode(b"user:" + SECRET.encode()).decode(),
    "base64 behind Bearer": base64.b64encode(f"Bearer {SECRET} and more".encode()).decode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_it_is_found_in_each_form(name: str) -> None:
    scrub = Scrubber([SECRET]).text
    text = scrub(f"You sent <{FORMS[name]}>, which is wrong.")
    assert FORMS[name] not in text
    assert "***" in text
    assert text.startswith("You sent <")
    assert text.endswith(">, which is wrong.")
    for part in (SECRET, base64.b64encode(SECRET.encode()).decode(), *FORMS.values()):
        assert part[8:20] not in text


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("length", [8, 12, 20])
def test_a_text_that_is_cut_in_the_middle_of_it(name: str, length: int) -> None:
    scrub = Scrubber([SECRET]).text
    if name.startswith("base64 behind"):
        return  # what is whole there begins behind what stands before it
    assert scrub(f"You sent {FORMS[name][:length]}") == "You sent ***"


def test_a_beginning_in_the_middle_is_found_where_it_is_long() -> None:
    scrub = Scrubber(["sk-proj-0123456789abcdefghij"]).text
    assert scrub("key sk-proj-0123456789ab… is wrong") == "key ***… is wrong"
    assert scrub("keys begin with sk-proj- and are long") == "keys begin with sk-proj- and are long"


def test_placeholders_and_words_stay() -> None:
    assert Scrubber(["none", "x", ""]).text("none of x") == "none of x"
    assert Scrubber(["password-of-mine-1"]).text("the password is wrong") == "the password is wrong"


def test_values_names_errors_and_bytes() -> None:
    scrubber = Scrubber([SECRET, "another-secret"], "[secret]")
    value = {"a": [f"<{SECRET}>", 7, None], SECRET: {"b": "another-secret"}}
    assert scrubber.value(value) == {"a": ["<[secret]>", 7, None], "[secret]": {"b": "[secret]"}}
    assert scrubber.raw(f"<{SECRET}>".encode()) == b"<[secret]>"
    error = ValueError(f"no {SECRET}", 7)
    scrubber.error(error)
    assert error.args == ("no [secret]", 7)


def test_which_headers_carry_secrets() -> None:
    headers = {"Authorization": "Bearer abcdefgh", "x-api-key": "k", "content-type": "text/plain", "Cookie": "c"}
    assert of_headers(headers) == ["Bearer abcdefgh", "k", "c", "abcdefgh"]


@given(
    st.text(max_size=60), st.text(st.characters(codec="ascii", min_codepoint=33), min_size=8, max_size=40), st.text()
)
def test_no_text_keeps_it(before: str, secret: str, after: str) -> None:
    scrubbed = Scrubber([secret], "").text(before + secret + after)
    assert secret not in scrubbed or secret in (before + after)


@pytest.mark.parametrize("key", ["lm-studio", "not-needed", "anything", "sk-no-key-required"])
def test_what_stands_for_no_key_is_left_in_answers(key: str) -> None:
    scrubber = Scrubber([key, *of_headers({"Authorization": f"Bearer {key}"})])
    text = f"Set api_key to {key}: Bearer {key} is not looked at"
    assert scrubber.text(text) == text
    assert scrubber.raw(text.encode()) == text.encode()
