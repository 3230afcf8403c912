"""The command line's reference, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from loopllama_cli.docgen import markdown
from loopllama_cli.examples import EXAMPLES
from loopllama_cli.main import EXIT_CODES, app


def options() -> str:
    """Return the options that may stand anywhere on the line."""
    common = ("stack", "local", "region", "profile", "debug")
    return _table([param for param in get_command(app).params if param.name in common])


def exit_codes() -> str:
    """Return what the program ends with."""
    return markdown.table(["exit code", "meaning"], [[str(code), meaning] for code, meaning in EXIT_CODES.items()])


def sections() -> str:
    """Return a section for each command that does something."""
    return "\n\n".join(_section(path, command) for path, command in commands(get_command(app), "loopllama"))


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(path: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    names = [_argument(param) for param in arguments]
    title = f"## `{' '.join([path, *names, *(['[OPTIONS]'] if options else [])])}`"
    text = f"{title}\n{inspect.cleandoc(command.help or '')}\n\n{_examples(path)}"
    return f"{text}\n\n{_table([*arguments, *options])}" if arguments or options else text


def _examples(path: str) -> str:
    return "\n".join(f"- `loopllama {line}`" for line in EXAMPLES[path.removeprefix("loopllama ")])


def _argument(param: Any) -> str:
    return str(param.metavar) if param.required else f"[{param.metavar}]"


def _table(params: list[Any]) -> str:
    rows = []
    for param in params:
        name, notes = _argument(param) if param.param_type_name == "argument" else _option(param), [param.help or ""]
        if param.param_type_name == "option":
            if param.required:
                notes.append("Required.")
            if param.secondary_opts and param.default is None:
                pass  # neither, until one is given
            elif param.secondary_opts:
                notes.append(f"Default: `{(param.opts if param.default else param.secondary_opts)[0]}`.")
            elif not param.is_flag and param.default not in (None, "", ()):
                notes.append(f"Default: {param.default}.")
        rows.append([f"`{name}`", " ".join(notes)])
    return markdown.table(["", ""], rows)


def _option(param: Any) -> str:
    spelled = " / ".join([*sorted(param.opts, key=len, reverse=True), *param.secondary_opts])
    return spelled if param.is_flag else f"{spelled} {param.metavar or 'N'}"
