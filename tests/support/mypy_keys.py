"""A plugin for mypy: `record.get("misspelt")` is an error where `record` is a TypedDict, as `record["misspelt"]` is.

mypy itself takes it for an `object`, so that a misspelt attribute reads as one that is not there.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import MethodContext, Plugin
from mypy.plugins.common import try_getting_str_literals
from mypy.plugins.default import typed_dict_get_callback
from mypy.types import Type, TypedDictType


class KnownKeys(Plugin):
    """Reports keys that a TypedDict does not have."""

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        """Return what is asked about each call of `get`."""
        return _get if fullname == "typing.Mapping.get" else None


def _get(context: MethodContext) -> Type:
    if isinstance(context.type, TypedDictType):
        for key in try_getting_str_literals(context.args[0][0], context.arg_types[0][0]) or ():
            if key not in context.type.items:
                context.api.msg.typeddict_key_not_found(context.type, key, context.context)
    return typed_dict_get_callback(context)


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin, as mypy asks for it."""
    return KnownKeys
