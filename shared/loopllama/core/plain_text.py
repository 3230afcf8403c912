"""Text as files and uploads hold it: UTF-8, with a byte order mark or without; anything else is told by its name."""

from __future__ import annotations

_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_LOOKED_AT = 64


class NotText(ValueError):
    """Bytes that are no text in UTF-8. The message says what they are and what to do, beginning with `is`; `line` is
    where (from 1)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def decoded(data: bytes) -> str:
    """Return the text of a file's or an object's bytes, without the mark that Windows' programs put before it. Raises
    `NotText`."""
    # PowerShell's `>` and Notepad's "Unicode" write UTF-16. Without a mark, plain letters in it are valid UTF-8 too,
    # each with a NUL beside it.
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "") or _without_mark(data)
    if encoding:
        raise NotText(f"is {encoding}, not UTF-8: save it as UTF-8", 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotText(f"is not UTF-8 (line {line}, byte {error.start + 1}): save it as UTF-8", line) from None


def _without_mark(data: bytes) -> str:
    """Return `UTF-16` or `UTF-32` where the bytes are plain letters in it, else nothing."""
    start = data[:_LOOKED_AT]
    for width in (4, 2):
        if len(start) < width or len(data) % width:
            continue
        for place in (0, width - 1):  # the letters' bytes, the others being NUL
            letters = start[place::width]
            if letters.count(0) == 0 and start.count(0) == len(start) - len(letters):
                return f"UTF-{8 * width}"
    return ""
