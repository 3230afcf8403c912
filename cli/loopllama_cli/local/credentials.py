"""The local stack's AWS credentials: made anew at each start, and kept where only whoever started it can read them.

A command in another terminal finds them in `~/.loopllama/local-PORT.json`, which ends with the stack. The folder and
the file must be the user's own and closed to everybody else; what is not is neither read nor written.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key as AWS has them, without a session token. Prints without its secret."""

    aws_access_key_id: str
    aws_secret_access_key: str

    @classmethod
    def new(cls) -> Credentials:
        """Return random ones in AWS's own form: 20 and 40 characters."""
        return cls("AKIA" + "".join(secrets.choice(_ID_LETTERS) for _ in range(16)), secrets.token_urlsafe(30))

    def as_json(self) -> dict[str, str]:
        """Return both parts by name."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"Credentials({self.aws_access_key_id})"


def keep(url: str, credentials: Credentials) -> None:
    """Write down the credentials of the stack at `url`. Raises `OSError` where that cannot be done in private."""
    folder = _folder()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check(folder, os.lstat(folder), stat.S_ISDIR)
    # Made aside (0600, a name that nobody knows) and moved into place: whatever stood there, a link too, is replaced
    # and not written through.
    descriptor, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(credentials.as_json(), file)
        Path(name).replace(_file(folder, url))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def forget(url: str, credentials: Credentials) -> None:
    """Remove what `keep` wrote, if it is there and no other stack's."""
    with contextlib.suppress(OSError):
        if _kept(url) == credentials:
            _file(_folder(), url).unlink()


def find(url: str, environment: Mapping[str, str]) -> Credentials | None:
    """Return the credentials of the user's stack at `url`: what it wrote down, else those in `environment` if that
    names the same address. `None` where there are none. Raises `OSError` where a file is all that there is, and it is
    not the user's alone."""
    given = None
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret and environment.get("AWS_ENDPOINT_URL", "").rstrip("/") == url.rstrip("/"):
        given = Credentials(key, secret)
    try:
        return _kept(url) or given
    except OSError:
        if given:
            return given
        raise


def _kept(url: str) -> Credentials | None:
    try:
        if urlsplit(url).hostname not in ("127.0.0.1", "localhost"):
            return None
        folder = _folder()
        path = _file(folder, url)
    except (ValueError, FileNotFoundError):  # no address, no home
        return None
    try:
        _check(folder, os.lstat(folder), stat.S_ISDIR)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            _check(path, os.fstat(file.fileno()), stat.S_ISREG)
            return Credentials(**json.load(file))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise OSError(f"{path} cannot be read: {error}") from error


def _folder() -> Path:
    try:
        return Path.home() / ".loopllama"
    except RuntimeError as error:
        raise FileNotFoundError("this user has no home folder") from error


def _file(folder: Path, url: str) -> Path:
    return folder / f"local-{urlsplit(url).port or 80}.json"


def _check(path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        mode = stat.filemode(status.st_mode)
        raise PermissionError(f"{path} is not yours alone (owner {status.st_uid}, {mode})")
