"""`loopllama init`: a folder of one's own, with a crew, an input and what a deployment needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from loopllama.core.names import closest
from loopllama.errors import InvalidRequest
from loopllama_cli.console import output

EXAMPLE = "support_reply"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_LONGEST = 40
"""The stack's name is the project's, and stands in names of roles and buckets, which have 64 characters."""

_SAMCONFIG = """\
# What `loopllama deploy` goes by: the SAM CLI's own file, of which every option of `sam deploy` can be set here.
version = 0.1

[default.global.parameters]
stack_name = "{stack}"

[default.deploy.parameters]
capabilities = "CAPABILITY_IAM"
resolve_s3 = true
s3_prefix = "{stack}"
confirm_changeset = true
"""
_README = """\

## Run it on this machine
`loopllama local` serves the whole stack until it is stopped; models without a key are simulated, and say so. The
commands above, in another terminal, push the workflow and run it.

## Deploy it
It needs AWS credentials and AWS's SAM CLI, shows what it would change, and asks:

```
loopllama deploy{tools}
loopllama workflows push workflow.yaml --stack {stack}
loopllama run {workflow} --input @{input} --stack {stack}
loopllama doctor --stack {stack}
```
"""


def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The new folder; the workflow and the stack get its name.")
    ],
    example: Annotated[
        str, typer.Option(metavar="NAME", help="The crew to begin with; a wrong name lists what there is.")
    ] = EXAMPLE,
) -> None:
    """Make a new project folder: a workflow, an input, a README, and what a deployment needs.

    It runs at once with `loopllama local`, and deploys with `loopllama deploy`. Nothing that exists is written over.
    """
    folder = Path(name)
    files = project(name, example)
    try:
        folder.mkdir()
    except FileExistsError:
        raise InvalidRequest(f"{folder} exists already; nothing was written. Choose another name.") from None
    except OSError as error:
        raise InvalidRequest(f"cannot make {folder}: {error.strerror}") from error
    for path, content in files.items():
        (folder / path).write_text(content, encoding="utf-8")
    output.out().print(output.plain(f"{folder}: {', '.join(sorted(files))}"))
    output.message(f"Next: cd {folder}, then as its README.md says.", "dim")


def project(name: str, example: str) -> dict[str, str]:
    """Return the files of a new project by their names. Raises `InvalidRequest` for a name that cannot be one, or an
    example that is not there."""
    from loopllama_cli.project import project_root

    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise InvalidRequest(
            f"{name!r} is not a valid project name: a-z and 0-9, single - or _ between, a letter first, "
            f"at most {_LONGEST}"
        )
    examples = {path.parent.name: path.parent for path in project_root().glob("examples/*/workflow.yaml")}
    if example not in examples:
        raise InvalidRequest(f"example {example!r} not found{closest(example, sorted(examples))}")
    files = {
        path.name: path.read_text(encoding="utf-8") for path in sorted(examples[example].iterdir()) if path.is_file()
    }
    workflow, stack = name.replace("-", "_"), name.replace("_", "-")
    title = workflow.replace("_", " ").capitalize()
    files["workflow.yaml"] = re.sub(r"(?m)^name: .*$", f"name: {title}", files["workflow.yaml"], count=1)
    (given,) = (path for path in files if path.startswith("input."))
    readme = re.sub(r"\A# .*", f"# {title}", files["README.md"]).replace(f" {example} ", f" {workflow} ")
    tools = " --tools tools.json" if "tools.json" in files else ""
    files["README.md"] = readme + _README.format(stack=stack, workflow=workflow, input=given, tools=tools)
    files["samconfig.toml"] = _SAMCONFIG.format(stack=stack)
    files[".gitignore"] = ".aws-sam/\n"
    return files
