"""What people and clients send, as pydantic reads it. Nothing that RunStep loads imports this."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

from loopllama.core import money


class InputModel(BaseModel):
    """A part of a workflow file or of a request's body: camelCase, snake_case is taken too, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


Usd = Annotated[
    Decimal,
    BeforeValidator(money.usd),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": money.MOST_USD},
                {"type": "string", "pattern": money.USD_TEXT},
            ]
        }
    ),
]
"""An amount of money, as a number or in digits."""
