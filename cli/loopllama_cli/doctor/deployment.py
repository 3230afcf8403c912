"""What `loopllama deploy` asks of the account: before, whether the region has Bedrock; after, what the aliases may
stand for. Neither keeps anybody from deploying who may not look."""

from __future__ import annotations

import getpass
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loopllama.errors import InvalidRequest
from loopllama.tools.store import MAX_REASON, ToolStore
from loopllama_cli.commands.common import NO_PARAMETER
from loopllama_cli.console import output
from loopllama_cli.doctor.findings import Check
from loopllama_cli.target import Choice, Target, connect, next_command, remember

CONFIG = "samconfig.toml"
"""The SAM CLI's own file, in the folder that one is in."""
_REASON = "the best that could be called when the stack was deployed"


def _said() -> dict[str, Any]:
    """Return the options of `sam deploy` that samconfig.toml sets."""
    try:
        file: dict[str, Any] = tomllib.loads(Path(CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    said: dict[str, Any] = {}
    for command in ("global", "deploy"):
        part: Any = file
        for name in ("default", command, "parameters"):
            part = part.get(name) if isinstance(part, dict) else None
        said |= part if isinstance(part, dict) else {}
    return said


def check_config() -> None:
    """Raise `InvalidRequest` where samconfig.toml sets the parameter Tools, by which CloudFormation would refuse all of
    them after the build."""
    overrides = _said().get("parameter_overrides") or ()
    texts = [overrides] if isinstance(overrides, str) else overrides  # a text, a list of texts, or a table
    if any(re.search(r"(^|[\s,\"'])(ParameterKey=)?Tools\b(=|,|$)", str(text)) for text in texts):
        raise InvalidRequest(f"{CONFIG}, parameter_overrides: take Tools out; {NO_PARAMETER}")


def completed(choice: Choice) -> Choice:
    """Return the choice with the stack, region and profile that samconfig.toml says for what the command line does
    not."""
    said = _said()
    names = {"stack": "stack_name", "region": "region", "profile": "profile"}
    found = {field: said.get(name) for field, name in names.items() if getattr(choice, field) is None}
    return replace(choice, **{field: value for field, value in found.items() if isinstance(value, str) and value})


def before(choice: Choice, ask: Callable[[str], bool] | None) -> bool:
    """Tell where the region has no Bedrock, before anything is built; return whether to go on. `ask` asks a person;
    without one it goes on, because other providers' models need no Bedrock."""
    from loopllama_cli.doctor.region import examine_region, has_none

    try:
        import boto3

        session = boto3.Session(profile_name=choice.profile, region_name=choice.region)
        if session.region_name is None:
            return True  # SAM asks for it, or says that it is missing
        make: Any = session.client
        check = examine_region(session.region_name, make)
    except Exception as error:  # whatever it is, SAM says it better
        check = Check("bedrock", "warn", f"whether the region has it cannot be seen: {error}")
    if check.status == "ok":
        return True
    _print([check])
    return ask is None or not has_none(check) or ask("Deploy all the same?")


def define_tools(choice: Choice, definitions: Mapping[str, Any], file: str) -> bool:
    """Write the tools of a file into the stack that was deployed, and return whether that is done: the deployment has
    succeeded either way, so nothing is raised."""
    if not definitions:
        return True
    forget = remember(choice)
    try:
        store = ToolStore(connect(choice).settings)
        store.write(definitions, updated_by=getpass.getuser(), reason=f"deployed with {Path(file).name}"[:MAX_REASON])
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        again = next_command("tools push", file) + ("" if choice.stack else " --stack NAME")
        output.message(f"The stack is deployed, but its tools were not written: {said}. Again: {again}", "bold red")
        return False
    finally:
        forget()
    output.message(f"Tools defined: {', '.join(definitions)}", "dim")
    return True


def after(choice: Choice, ask: Callable[[str], bool] | None) -> None:
    """Tell what the aliases may stand for in a stack that was deployed, and set those to which the person says yes.
    Without `ask` the commands are printed. Nothing is raised: the deployment has succeeded."""
    if not choice.stack:
        output.message(f"Next: {next_command('doctor')} --stack NAME tells which models can be called.", "dim")
        return
    forget = remember(choice)
    try:
        _offer(connect(choice), choice, ask)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        output.message(f"Which models can be called was not found: {said}. Later: {next_command('doctor')}", "yellow")
    finally:
        forget()


def _offer(target: Target, choice: Choice, ask: Callable[[str], bool] | None) -> None:
    from loopllama.catalog.store import CatalogStore
    from loopllama_cli.doctor import offers
    from loopllama_cli.doctor.access import Access
    from loopllama_cli.doctor.quotas import Limits

    found = offers(target, Access(choice.profile), Limits(choice.profile))
    _print(offer.check for offer in found if offer.check.todo)
    better = [offer for offer in found if offer.model]
    if ask is None or not better:
        return
    store = CatalogStore(target.settings)
    for offer in better:
        if ask(f"Let {offer.alias} stand for {offer.model} from now on?"):
            store.write(
                offer.alias, {"alias_of": offer.model}, expected_version=0, updated_by=getpass.getuser(), reason=_REASON
            )
            output.message(f"{offer.alias} stands for {offer.model}; back: {_back(offer.alias)}", "dim")


def _back(alias: str) -> str:
    return next_command("models remove", alias)


def _print(checks: Iterable[Check]) -> None:
    for check in checks:
        output.message(f"{check.status:<4} {check.what}: {check.found}", "yellow" if check.status != "ok" else "")
        for line in check.todo.splitlines():
            output.message(f"     → {line}")
