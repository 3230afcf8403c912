"""/v1/models: the catalog, bundled and in the Models table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body, Path, Query
from pydantic import Field

from .. import aws, clock
from ..catalog import Catalog, bundled
from ..catalog_entries import parse_item
from ..catalog_model import Model, is_model_id
from ..errors import CatalogInvalid, ModelUnknown
from ..pricing import price_at
from . import shapes
from .answers import data
from .services import Services, new_router
from .workflows import Request

ModelId = Annotated[str, Path(description="Catalog id, alias or provider:model; slashes may stand as they are.")]
Money = int | Decimal
_PRICES = ("input", "output", "cache_read", "cache_write")


class TierEntry(Request):
    """Prices of a whole call whose prompt is longer."""

    above: int
    input: Money
    output: Money
    cache_read: Money | None = None
    cache_write: Money | None = None


class PriceEntry(Request):
    """USD per million tokens."""

    effective_from: str | None = Field(default=None, max_length=10)
    """A date; from always on where left out."""
    input: Money
    output: Money
    cache_read: Money | None = None
    cache_write: Money | None = None
    tiers: list[TierEntry] | None = Field(default=None, max_length=10)


class ModelRequest(Request):
    """An entry of the Models table: adds to the bundled catalog, or replaces it field by field."""

    provider: str | None = None
    provider_model: str | None = None
    alias_of: str | None = None
    """The entry is another name for this model."""
    prices: list[PriceEntry] | None = Field(default=None, min_length=1, max_length=100)
    context_window: int | None = None
    max_output: int | None = None
    capabilities: list[str] | None = None
    enabled: bool | None = None
    """false: no workflow uses it any more, from the next step on."""
    replaced_by: str | None = None
    """What is used instead while it is disabled."""
    options: dict[str, Any] | None = None
    """Go into every call of the model, under the provider's own names."""


def routes(services: Services) -> Router:
    """The resource's routes."""
    router = new_router()

    @router.get(
        "/v1/models",
        summary="List the models by id, with today's prices",
        responses=shapes.answers((200, "The models", shapes.Page[shapes.Model])),
    )
    def list_models(
        provider: Annotated[str | None, Query(max_length=40)] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 1000,
        cursor: Annotated[str | None, Query(max_length=256)] = None,
    ) -> Response[str]:
        catalog = _catalog(services)
        aliases = _aliases(catalog)
        found = [one for one in catalog.models() if provider in (None, one.provider) and one.id > (cursor or "")]
        page = found[:limit]
        return data([view(one, aliases) for one in page], next_cursor=page[-1].id if len(found) > limit else None)

    @router.get(
        "/v1/models/<model_id>",
        summary="Get a model by id, alias or provider:model",
        responses=shapes.answers((200, "The model", shapes.Data[shapes.Model])),
    )
    def get_model(model_id: ModelId) -> Response[str]:
        catalog = _catalog(services)
        return data(view(catalog.resolve(_id(model_id)), _aliases(catalog)))

    @router.put(
        "/v1/models/<model_id>",
        summary="Set a model's entry in the Models table",
        description="It acts within seconds on every step that starts. Fields that are left out stay as bundled.",
        responses=shapes.answers((200, "The entry as it is stored", shapes.Data[shapes.ModelEntry])),
    )
    def put_model(model_id: ModelId, body: Annotated[ModelRequest, Body()]) -> Response[str]:
        item = {"model": _id(model_id), **body.model_dump(exclude_none=True)}
        _check(services, item)
        item |= {"updated_by": router.context["caller"].name, "updated_at": clock.now_text()}
        aws.client("dynamodb").put_item(TableName=services.settings.models_table, Item=aws.to_item(item))
        return data(item)

    @router.delete(
        "/v1/models/<model_id>",
        summary="Remove a model's entry from the Models table; what is bundled counts again",
        responses=shapes.answers((200, "It is gone", shapes.Data[shapes.ModelDeleted])),
    )
    def delete_model(model_id: ModelId) -> Response[str]:
        name = _id(model_id)
        answer = aws.client("dynamodb").delete_item(
            TableName=services.settings.models_table, Key=aws.to_item({"model": name}), ReturnValues="ALL_OLD"
        )
        if not answer.get("Attributes"):
            raise ModelUnknown(f"The Models table has no entry '{name[:80]}'; what is bundled cannot be removed.")
        return data({"model": name, "deleted": True})

    return router


def view(model: Model, aliases: Mapping[str, list[str]]) -> dict[str, Any]:
    """A model in the API's form."""
    price = price_at(model, clock.now())
    return {
        "model": model.id,
        "aliases": aliases.get(model.id, []),
        "provider": model.provider,
        "provider_model": model.provider_model,
        "price": None if price is None else _price(price),
        "prices": [_price(one) for one in model.prices],
        "context_window": model.context_window,
        "max_output": model.max_output,
        "capabilities": None if model.capabilities is None else sorted(model.capabilities),
        "enabled": model.enabled,
        "replaced_by": model.replaced_by,
        "options": dict(model.options or {}),
        "origin": dict(model.origin or {}),
    }


def _price(price: Any) -> dict[str, Any]:
    return {
        "effective_from": None if price.effective_from == date.min else price.effective_from.isoformat(),
        "between": [edge.isoformat("minutes") for edge in price.between] if price.between else None,
        **{name: getattr(price, name) for name in _PRICES},
        "tiers": [{"above": tier.above, **{name: getattr(tier, name) for name in _PRICES}} for tier in price.tiers],
    }


def _catalog(services: Services) -> Catalog:
    return bundled().with_entries(_items(services))


def _items(services: Services) -> list[dict[str, Any]]:
    pages = aws.client("dynamodb").get_paginator("scan").paginate(TableName=services.settings.models_table)
    return [aws.from_item(item) for page in pages for item in page["Items"]]


def _aliases(catalog: Catalog) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in catalog.aliases():
        try:
            found.setdefault(catalog.resolve(name).id, []).append(name)
        except ModelUnknown:
            continue  # an alias of the table that leads nowhere
    return found


def _id(segment: str) -> str:
    """The model's id of a path: its slashes arrive escaped (see `app`)."""
    name = unquote(segment)
    if not is_model_id(name):
        raise ModelUnknown(f"There is no model '{name[:80]}'.")
    return name


def _check(services: Services, item: Mapping[str, Any]) -> None:
    """Raises `CatalogInvalid` unless the entry makes sense, alone and beside the others."""
    name, fields, reasons = parse_item(item)
    if not fields and not reasons:
        raise _invalid(["the entry sets nothing; give at least one field"])
    if reasons:
        raise _invalid(reasons)
    others = [one for one in _items(services) if one.get("model") != name]
    catalog = bundled().with_entries([*others, item])
    problems = [one["reason"] for one in catalog.problems if one["model"] == name]
    if problems:
        raise _invalid(problems)
    try:
        catalog.resolve(name)
    except ModelUnknown as error:
        raise _invalid([f"`alias_of`: {error}"]) from None
    if "replaced_by" in fields:
        try:
            catalog.resolve(fields["replaced_by"])
        except ModelUnknown as error:
            raise _invalid([f"`replaced_by`: {error}"]) from None


def _invalid(reasons: list[str]) -> CatalogInvalid:
    details: list[dict[str, object]] = []
    for reason in reasons:
        named = re.match(r"`(\w+)`:? ", reason)
        field, message = (named[1], reason[named.end() :]) if named else ("body", reason)
        details.append({"field": field, "message": message})
    return CatalogInvalid(f"The model's entry makes no sense: {reasons[0]}.", details)
