"""How the API says what is wrong with a request."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from loopllama.api import responses
from loopllama.core import exact_json
from loopllama.errors import InvalidRequest


class Inner(BaseModel):
    steps: int


class Body(BaseModel):
    model_config = ConfigDict(strict=True)

    input: Annotated[str, StringConstraints(min_length=1)] | dict[str, Any] = ""
    temperature: int | Decimal | None = None
    tags: dict[str, str] | None = None
    models: dict[str, str] | None = None
    budget: Inner | None = None


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"input": 5}, "input", "must be a text or an object"),
        ({"input": None}, "input", "must be a text or an object"),
        ({"temperature": "x"}, "temperature", "must be a number"),
        ({"models": []}, "models", "must be an object"),
        ({"budget": 5}, "budget", "must be an object"),
        ({"models": {"a": 5}}, "models.a", "must be a text"),
    ],
)
def test_a_field_of_several_kinds_is_one_complaint(given: Any, field: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(given, from_attributes=True)  # as FastAPI does
    errors = [{**one, "loc": ("body", *one["loc"])} for one in caught.value.errors()]
    refused = responses._invalid(RequestValidationError(errors))
    assert refused.details == [{"field": field, "message": message}]


def test_a_body_has_a_bounded_number_of_levels() -> None:
    def nested(levels: int) -> str:
        return '{"a":' * (levels - 1) + '{"b": [' + '"{[", ' * 500 + "1.5]}" + "}" * (levels - 1)

    assert responses.parse_body(nested(exact_json.MAX_LEVELS - 1))["a"]
    for levels in (exact_json.MAX_LEVELS, exact_json.MAX_LEVELS + 1, 900, 50_000):
        with pytest.raises(InvalidRequest, match="nested too deeply"):
            responses.parse_body(nested(levels))
