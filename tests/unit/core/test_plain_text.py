"""Bytes of files and uploads as text, in every way that editors and shells write them."""

from __future__ import annotations

import itertools

import pytest

from loopllama.core.plain_text import NotText, decoded


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\xef\xbb\xbf", ""),
        (b"\xef\xbb\xbfhi", "hi"),
        (b"a\r\nb\rc\n", "a\r\nb\rc\n"),
        ("größe 🎉 日本".encode(), "größe 🎉 日本"),
        ("a\ufeffb\u2028c\x85d".encode(), "a\ufeffb\u2028c\x85d"),
        (b"a\x00b", "a\x00b"),
        (b"\x00", "\x00"),
        (b"\x00\x00", "\x00\x00"),
        (b"ab\x00\x00", "ab\x00\x00"),
    ],
)
def test_utf_8_is_read_as_it_is(data: bytes, text: str) -> None:
    assert decoded(data) == text


PLAIN = ("a", "hi", '{"n": 1}\r\n', "name: T\n" * 50)
MARKED, UNMARKED = ("utf-16", "utf-32"), ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize(
    ("text", "encoding"),
    # Without a mark only plain letters can be told.
    [
        *itertools.product((*PLAIN, "größe", "日本語"), MARKED),
        *itertools.product(PLAIN, UNMARKED),
    ],
)
def test_what_windows_writes_is_told_by_its_name(text: str, encoding: str) -> None:
    with pytest.raises(NotText, match=rf"^is UTF-{encoding[4:6]}, not UTF-8: save it as UTF-8$"):
        decoded(text.encode(encoding))


def test_another_encoding_is_told_with_its_place() -> None:
    with pytest.raises(NotText, match=r"^is not UTF-8 \(line 2, byte 6\): save it as UTF-8$") as told:
        decoded("one\nm\xf6".encode("latin-1"))
    assert told.value.line == 2
    with pytest.raises(NotText, match="not UTF-8"):
        decoded(b"abc\xc3")
