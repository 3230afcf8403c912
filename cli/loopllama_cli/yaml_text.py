"""Values as YAML that `workflow_files` reads back as the same values, and that other programs read alike."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import yaml

from loopllama.core import exact_json
from loopllama_cli.yaml_nodes import Loader


class _Dumper(yaml.SafeDumper):
    """Writes a text in quotes where YAML 1.1 or our own reading would take it for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the attribute is PyYAML's)
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *Loader.yaml_implicit_resolvers.get(first, [])]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *Loader.yaml_implicit_resolvers}
    }

    def ignore_aliases(self, data: Any) -> bool:
        """Write values out that stand in several places."""
        del data
        return True


def dump(value: Any) -> str:
    """Return a value as YAML: keys in their order, long texts as blocks, numbers with all their digits."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize)


def _number(dumper: yaml.SafeDumper, value: Decimal | float) -> yaml.Node:
    text = exact_json.number(value) if isinstance(value, Decimal) else repr(value)
    kind = "float" if "." in text or "e" in text.lower() else "int"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", text)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # Only double quotes keep line breaks of other kinds; a block is what people can read, where it can hold the text.
    style = '"' if any(character in value for character in "\r\x85\u2028\u2029") else "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(Decimal, _number)
_Dumper.add_representer(float, _number)
_Dumper.add_representer(str, _text)
