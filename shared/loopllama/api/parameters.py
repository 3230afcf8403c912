"""What the API's resources take alike: ids in addresses, pages, conditions of writes, numbers in bodies."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from pydantic import Field

WorkflowId = Annotated[str, Path(description="The workflow's id.")]
StepName = Annotated[str, Path(description="The step's name; `*` is the whole workflow.")]
RunId = Annotated[str, Path(description="The run's id.")]
ToolName = Annotated[str, Path(description="The tool's name.")]
ModelId = Annotated[str, Path(description="Catalog id, alias or provider:model; slashes may stand as they are.")]

Limit = Annotated[int, Query(ge=1, le=100, description="At most so many.")]
LongLimit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
"""Of pages whose rows are short."""
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]

ExpectedVersion = Annotated[
    Annotated[int, Field(ge=0, lt=10**9)] | None,
    Field(description="Only if it is at this version (0: there is none); otherwise 409."),
]
ExpectedVersionQuery = Annotated[ExpectedVersion, Query(alias="expectedVersion")]
Reason = Annotated[str, Field(max_length=500, description="Why; kept in the history.")]
ReasonQuery = Annotated[Reason, Query()]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="The same key with the same request gives the same answer for 24 hours, and acts once.",
    ),
]

Number = int | Decimal
"""A number of a body, exact. What it may be is checked where it is stored, for every door alike."""
