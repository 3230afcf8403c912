"""What every provider refuses of tool calls in a conversation, each in its own words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Fault = Literal["name", "id", "arguments", "repeated", "missing", "extra", "tools", "characters"]


@dataclass
class Turn:
    """A message, or those that a provider takes together: the calls `(id, name, arguments)` and the ids of results."""

    calls: list[tuple[Any, Any, Any]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """The forms that a provider allows, and what it says of each fault. `{what}` is the name or id, `{at}` the place of
    the message. A fault that is not in `says` is taken."""

    names: str
    ids: str
    says: Mapping[Fault, str]

    def refusal(self, turns: Sequence[Turn], body: Any, tools: bool) -> str | None:
        """Return what the provider says of the first fault; `None` where there is none."""
        for fault, at, what in self._faults(turns, body, tools):
            if fault in self.says:
                return self.says[fault].format(at=at, what=what)
        return None

    def _faults(self, turns: Sequence[Turn], body: Any, tools: bool) -> list[tuple[Fault, int, str]]:
        found: list[tuple[Fault, int, str]] = []
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            found.append(("characters", 0, str(error)))
        if not tools and any(turn.calls or turn.results for turn in turns):
            found.append(("tools", 0, ""))
        seen: set[Any] = set()
        for at, turn in enumerate(turns):
            asked = turns[at - 1].calls if at else []
            found += [("extra", at, str(one)) for one in turn.results if one not in [call[0] for call in asked]]
            found += [("extra", at, str(one)) for n, one in enumerate(turn.results) if one in turn.results[:n]]
            given = turns[at + 1].results if at + 1 < len(turns) else []
            for identifier, name, arguments in turn.calls:
                if not isinstance(name, str) or not re.fullmatch(self.names, name):
                    found.append(("name", at, str(name)))
                if not isinstance(identifier, str) or not re.fullmatch(self.ids, identifier):
                    found.append(("id", at, str(identifier)))
                if identifier in seen:
                    found.append(("repeated", at, str(identifier)))
                seen.add(identifier)
                if not isinstance(arguments, dict):
                    found.append(("arguments", at, str(arguments)))
                if identifier not in given:
                    found.append(("missing", at, str(identifier)))
        return found
