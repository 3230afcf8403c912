"""Which model a step uses, and which layer said so."""

from loopllama.routing.layers import Route, RouteRequest
from loopllama.routing.pins import pin_chains
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore

__all__ = ["Route", "RouteRequest", "RouteStore", "Router", "pin_chains"]
