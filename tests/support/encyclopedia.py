"""What stands in for Wikipedia where the functions run here: it answers the tools of examples/research_brief."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from support.loopback import Handler, serving
from support.system import TOOLS

PAGE = "As of 2024 about 66 percent of Danish homes use district heating; the first plant was built in 1903."


class Encyclopedia(Handler):
    """Answers the search and every page that `tools.json` of research_brief may ask for."""

    asked: list[str]

    def serve(self) -> None:
        self.asked.append(self.path)
        answer = json.dumps({"pages": [{"key": "District_heating", "title": "District heating", "excerpt": PAGE}]})
        self.answer(200, answer, content_type="application/json")


@contextlib.contextmanager
def encyclopedia_server() -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Serve it; gives the tools that ask it, and the addresses that were asked for."""
    asked: list[str] = []
    with serving(Encyclopedia, asked=asked) as url:
        tools: dict[str, Any] = json.loads(TOOLS.read_text("utf-8"))
        tools["search"] |= {"url": tools["search"]["url"].replace("https://en.wikipedia.org", url)}
        tools["http_get"] |= {"hosts": [url.removeprefix("http://")]}
        for tool in tools.values():
            tool["allow_private"] = True
        yield tools, asked
