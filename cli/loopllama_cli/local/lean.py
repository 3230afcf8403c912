"""Leaves out the parts of moto that take longest to load and that no template here uses.

moto's CloudFormation imports every service that it can create. EC2 (its lists of instance types and zones) and API
Gateway (a validator of OpenAPI) take more than half of the stack's start.
"""

from __future__ import annotations

import sys
from collections.abc import MutableSequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LEFT_OUT = ("moto.ec2", "moto.apigateway")


class _Hollow(ModuleType):
    """A module that has any class that is asked for, and nothing in it."""

    __path__: MutableSequence[str] = []  # noqa: RUF012 - as a package has it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        if fullname in LEFT_OUT or fullname.startswith(tuple(f"{name}." for name in LEFT_OUT)):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:  # noqa: ARG002 - there is nothing to run
        return


def install() -> None:
    """Call it before moto is imported."""
    sys.meta_path.insert(0, _Finder())
