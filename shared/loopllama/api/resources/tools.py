"""/v1/tools: what agents may call. Read only: tools are defined with AWS credentials (`loopllama tools push`), because
they carry secrets to hosts and invoke functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Query

from loopllama.api import response_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.parameters import LongLimit, ToolName
from loopllama.api.responses import data
from loopllama.errors import NotFound
from loopllama.tools.presenter import built_in, view
from loopllama.tools.store import ToolStore

if TYPE_CHECKING:
    from loopllama.tools.types import ShownTool


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
        cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    ) -> Response[str]:
        tools = sorted([*built_in(), *map(view, store.rows())], key=lambda tool: tool["name"])
        following = [tool for tool in tools if tool["name"] > (cursor or "")]
        page = following[:limit]
        return data([_short(tool) for tool in page], next_cursor=page[-1]["name"] if len(following) > limit else None)

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
