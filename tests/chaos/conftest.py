"""A stack of their own for the tests of this folder, whose functions are about to be ill-treated."""

from __future__ import annotations

from support.fixtures import provider_server, running, system

__all__ = ["provider_server", "running", "system"]
