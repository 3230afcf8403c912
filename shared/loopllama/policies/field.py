"""The name of a policy as a field of pydantic models.

The policies are looked up when somebody asks, so that a schema lists those that are registered then. Needs pydantic:
modules that `run_step` loads must not import this one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, PlainValidator
from pydantic_core import CoreSchema, PydanticKnownError

from loopllama.policies.registry import MAX_NAME, POLICIES


class _Listed:
    """A mark on a field: its JSON Schema lists the names of all policies."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(POLICIES)}


def _known(value: object) -> str:
    if isinstance(value, str) and value in POLICIES:
        return value
    *others, last = map(repr, POLICIES)
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})


PolicyName = Annotated[str, PlainValidator(_known), _Listed()]
"""The name of a policy; any other value is refused with the names of all."""
AnyPolicyName = Annotated[str, Field(max_length=MAX_NAME), _Listed()]
"""A text where the routes table's own check says which policies there are."""
