"""/v1/models: the catalog, bundled and in the Models table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import Field

from loopllama.api import response_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.parameters import (
    Cursor,
    ExpectedVersion,
    ExpectedVersionQuery,
    LongLimit,
    ModelId,
    Number,
    Reason,
    ReasonQuery,
)
from loopllama.api.responses import data, fields_as_asked
from loopllama.api.scopes import Forbidden
from loopllama.catalog.catalog import Catalog
from loopllama.catalog.model import is_model_id
from loopllama.catalog.presenter import view
from loopllama.core import clock, pagination
from loopllama.core.input_model import InputModel
from loopllama.errors import InvalidRequest, ModelUnknown
from loopllama.routing.change_log import plain


class TierEntry(InputModel):
    """Prices of a whole call whose prompt is longer."""

    above: int
    input: Number
    output: Number
    cache_read: Number | None = None
    cache_write: Number | None = None
    cache_write_1h: Number | None = None


class TierPriceEntry(InputModel):
    """USD per million tokens at a service tier."""

    input: Number
    output: Number
    cache_read: Number | None = None
    cache_write: Number | None = None
    cache_write_1h: Number | None = None
    tiers: list[TierEntry] | None = Field(default=None, max_length=10)


class ServiceTiersEntry(InputModel):
    """Prices at service tiers that differ from the standard one."""

    flex: TierPriceEntry | None = None
    priority: TierPriceEntry | None = None
    batch: TierPriceEntry | None = None


class PriceEntry(InputModel):
    """USD per million tokens."""

    effective_from: str | None = Field(default=None, max_length=10)
    """A date; from always on where left out."""
    input: Number
    output: Number
    cache_read: Number | None = None
    cache_write: Number | None = None
    cache_write_1h: Number | None = None
    """Of what is kept in the cache for an hour."""
    tiers: list[TierEntry] | None = Field(default=None, max_length=10)
    service_tiers: ServiceTiersEntry | None = None


class ModelRequest(InputModel):
    """Fields of an entry of the Models table, which adds to the bundled catalog or replaces it field by field. What is
    left out stays as it is; null takes a field out, so that what is bundled counts again."""

    provider: str | None = None
    """Needed for a model that is not bundled."""
    provider_model: str | None = None
    """The provider's own id of it."""
    alias_of: str | None = None
    """The entry is another name for this model."""
    prices: list[PriceEntry] | None = Field(default=None, min_length=1, max_length=100)
    """Every price of the entry by date. Those in force stay as they are; later ones may be added and changed."""
    context_window: int | None = None
    """Longest prompt, in tokens."""
    max_output: int | None = None
    """Longest answer, in tokens."""
    capabilities: list[str] | None = None
    """Of `tools`, `structured_output`, `images`, `prompt_cache`, `reasoning`."""
    efforts: list[str] | None = None
    """Of `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`: what the model takes, as in `gpt-5@low`."""
    enabled: bool | None = None
    """false: no workflow uses it any more, from the next step on."""
    replaced_by: str | None = None
    """What is used instead while it is disabled."""
    options: dict[str, Any] | None = None
    """Go into every call of the model, under the provider's own names."""
    same_as: str | None = None
    """The model that it is, where its own name does not say it (a deployment at Azure, an ARN, a second account)."""
    max_concurrent_calls: int | None = None
    """How many of its calls may be under way at once, in all functions together."""
    expected_version: ExpectedVersion = None
    reason: Reason = ""


_COUNTED = frozenset(("options", "provider", "provider_model", "prices", "same_as"))
"""Fields of an entry by which a call is charged."""
_MODEL_ID = re.compile(r".{1,256}")


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()

    @router.get(
        "/v1/models",
        summary="List the models by id, with today's prices",
        responses=response_models.answers((200, "The models", response_models.Page[response_models.Model])),
    )
    def list_models(
        provider: Annotated[str | None, Query(max_length=40, description="Only this provider's.")] = None,
        limit: LongLimit = 1000,
        cursor: Cursor = None,
    ) -> Response[str]:
        items = services.catalog.items()
        catalog = services.catalog.with_entries(items)
        binding = pagination.bound("models", provider)
        after = pagination.read(cursor, binding, _MODEL_ID)[0] if cursor else ""
        models = [model for model in catalog.models() if provider in (None, model.provider) and model.id > after]
        page, more = models[:limit], _More(catalog, items)
        return data(
            [view(model, clock.now()) | more.of(model.id) for model in page],
            next_cursor=pagination.write(binding, page[-1].id) if len(models) > limit else None,
        )

    @router.get(
        "/v1/models/<model_id>",
        summary="Get a model by id, alias or provider:model",
        responses=response_models.answers((200, "The model", response_models.Data[response_models.Model])),
    )
    def get_model(model_id: ModelId) -> Response[str]:
        items = services.catalog.items()
        catalog = services.catalog.with_entries(items)
        name = _id(model_id)
        model = catalog.resolve(name)
        return data(view(model, clock.now()) | _More(catalog, items).of(model.id, name))

    def check_may_price(fields: Iterable[str]) -> None:
        """Raise `Forbidden` where a key would decide what counts against its own limit, or the deployment's."""
        whose = "the deployment's DailyCostLimit" if services.settings.daily_cost_limit else ""
        if router.context["caller"].max_usd_per_day is not None:
            whose = "this API key's USD a day"
        counted = sorted(_COUNTED.intersection(fields))
        if whose and counted:
            raise Forbidden(
                f"What a model is and costs counts against {whose}, so no such key changes {', '.join(counted)}; with "
                "AWS credentials: loopllama models price, loopllama models set"
            )

    @router.put(
        "/v1/models/<model_id>",
        summary="Change a model's entry in the Models table, or make one",
        description="It acts within seconds on every step that starts: `enabled: false` is the kill switch.",
        responses=response_models.answers(
            (200, "The entry as it is stored", response_models.Data[response_models.ModelEntry])
        ),
    )
    def put_model(model_id: ModelId, body: Annotated[ModelRequest, Body()]) -> Response[str]:
        named = body.model_fields_set - {"expected_version", "reason"}
        if not named:
            raise InvalidRequest.of("body", "sets nothing; give at least one field of the entry", subject="The body")
        check_may_price(named)
        changes = dict.fromkeys(named) | body.model_dump(include=named, exclude_none=True)
        with fields_as_asked():
            _, item = services.catalog.write(
                services.catalog.own_id(_id(model_id)),
                changes,
                expected_version=body.expected_version,
                updated_by=router.context["caller"].key_id,
                reason=body.reason,
            )
        return data(plain(item))

    @router.delete(
        "/v1/models/<model_id>",
        summary="Remove a model's entry from the Models table; what is bundled counts again",
        responses=response_models.answers((200, "It is gone", response_models.Data[response_models.ModelDeleted])),
    )
    def delete_model(
        model_id: ModelId,
        expected_version: ExpectedVersionQuery = None,
        reason: ReasonQuery = "",
    ) -> Response[str]:
        name = _id(model_id)
        if services.catalog.get(name) is None:
            name = services.catalog.own_id(name)
        check_may_price(services.catalog.get(name) or ())
        removed = services.catalog.remove(
            name, expected_version=expected_version, updated_by=router.context["caller"].key_id, reason=reason
        )
        if not removed:
            raise ModelUnknown(f"The Models table has no entry '{name[:80]}'; what is bundled cannot be removed.")
        return data({"model": name, "deleted": True})

    return router


class _More:
    """What the catalog's view of a model leaves out: its aliases, and its entry in the table."""

    def __init__(self, catalog: Catalog, items: Iterable[Mapping[str, Any]]) -> None:
        self._entries = {str(item["model"]): plain(item) for item in items}
        self._aliases: dict[str, list[str]] = {}
        for name in catalog.aliases():
            try:
                self._aliases.setdefault(catalog.resolve(name).id, []).append(name)
            except ModelUnknown:
                continue  # an alias of the table that leads nowhere

    def of(self, model_id: str, name: str | None = None) -> dict[str, Any]:
        """Return of a model; `name` is what it was asked by, whose own entry goes first."""
        entry = self._entries.get(name or model_id) or self._entries.get(model_id)
        return {"aliases": self._aliases.get(model_id, []), "entry": entry}


def _id(segment: str) -> str:
    """Return the model's id of a path: its slashes arrive escaped (see `app`)."""
    name = unquote(segment)
    if not is_model_id(name):
        raise ModelUnknown(f"There is no model '{name[:80]}'.")
    return name
