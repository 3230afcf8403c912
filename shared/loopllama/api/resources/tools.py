"""/v1/tools: what agents may call. Read only: tools are defined with AWS credentials (`loopllama tools push`), because
they carry secrets to hosts and invoke functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router

from loopllama.api import response_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.parameters import Cursor, LongLimit, ToolName
from loopllama.api.responses import data
from loopllama.core import pagination
from loopllama.core.patterns import late
from loopllama.errors import NotFound
from loopllama.tools.presenter import built_in, view
from loopllama.tools.store import ToolStore

if TYPE_CHECKING:
    from loopllama.tools.types import ShownTool


_NAME = late(r"[\s\S]{1,2048}")
"""A row by hand may have any name."""
_LISTED_CHARACTERS = 2048
"""Of a description in a list: one that names many hosts is longer, and an answer ends at 6 MB."""


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()
    store = ToolStore(services.settings)

    @router.get(
        "/v1/tools",
        summary="List the tools that a crew may name",
        description="As agents see them: neither their addresses, headers and functions nor the names of secrets. "
        "They are defined with AWS credentials, by `loopllama tools push`.",
        responses=response_models.answers(
            (200, "The tools, by name", response_models.Page[response_models.ToolInList])
        ),
    )
    def list_tools(
        limit: LongLimit = 1000,
        cursor: Cursor = None,
    ) -> Response[str]:
        binding = pagination.bound("tools")
        after = pagination.read(cursor, binding, _NAME)[0] if cursor else ""
        tools = sorted([*built_in(), *map(view, store.rows())], key=lambda tool: tool["name"])
        following = [tool for tool in tools if tool["name"] > after]
        page = following[:limit]
        more = pagination.write(binding, page[-1]["name"]) if len(following) > limit else None
        return data([_short(tool) for tool in page], next_cursor=more)

    @router.get(
        "/v1/tools/<name>",
        summary="Get a tool",
        responses=response_models.answers((200, "The tool", response_models.Data[response_models.Tool])),
    )
    def get_tool(name: ToolName) -> Response[str]:
        known = {tool["name"]: tool for tool in built_in()} | {
            key: view(row) for key, row in store.named([name]).items()
        }
        if name not in known:
            raise NotFound(f"There is no tool '{name[:64]}'.")
        return data(known[name])

    return router


def _short(tool: ShownTool) -> dict[str, Any]:
    shown = {name: value for name, value in tool.items() if name != "parameters"}
    return {**shown, "description": tool["description"] and tool["description"][:_LISTED_CHARACTERS]}
