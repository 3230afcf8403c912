"""The API as a whole: who may ask, what is asked, and what every answer carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.api_gateway import ResponseBuilder, Route
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from loopllama import __version__
from loopllama.api import openapi as document
from loopllama.api import response_models
from loopllama.api.auth import KeyStore, RateLimit
from loopllama.api.dependencies import Services, possible_run
from loopllama.api.resources import advice, events, models, overrides, runs, tools, usage, workflows
from loopllama.api.responses import JSON, MethodNotAllowed, parse_body, problem, read_body
from loopllama.api.scopes import NEEDS, Forbidden, check_scope, check_workflow
from loopllama.settings import Settings
from loopllama.telemetry import logs

_SELF_HOSTED = "/api"
"""Before `/v1` in the addresses of self-hosted LoopLlama: every route answers under it too."""
_MODELS = "/v1/models/"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class _Resolver(APIGatewayHttpResolver):
    """Asks `admit` about a route before it looks at what the route is asked."""

    admit: Callable[[Route, Mapping[str, str]], None]

    def _call_route(self, route: Route, route_arguments: dict[str, str]) -> ResponseBuilder[Any]:
        self.admit(route, route_arguments)
        return super()._call_route(route, route_arguments)


class Api:
    """The HTTP API over one deployment. `handle` is the Lambda handler: API Gateway's HTTP API, payload format 2.0."""

    def __init__(self, settings: Settings) -> None:
        self._keys = KeyStore(settings)
        self._rate = RateLimit(settings.requests_per_second)
        self._cors = _cors(settings.allowed_origins)
        self._public_docs = settings.public_docs
        # Bodies are read and measured before the resolver sees them, whatever content type they claim.
        self._resolver = _Resolver(enable_validation=True, json_body_deserializer=parse_body)
        self._resolver.admit = self._admit
        self._resolver.exception_handler(Exception)(self._problem)
        self._services = services = Services(settings)
        for resource in (workflows, advice, runs, events, overrides, models, tools, usage):
            self._resolver.include_router(resource.routes(services))
        document.add(self._resolver, __version__)

        @self._resolver.get(
            "/healthz",
            summary="Whether the API answers, and which version does",
            responses=response_models.answers((200, "It does", response_models.Health)),
        )
        def healthz() -> Response[str]:
            return Response(200, JSON, f'{{"status":"ok","version":"{__version__}"}}')

    def handle(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Return API Gateway's event to its answer; never raises."""
        request_id = str(event["requestContext"].get("requestId", ""))
        logs.logger().append_keys(request_id=request_id)
        headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
        try:
            answer = self._answer(event, headers, context)
        except Exception as error:
            refusal = problem(error, request_id)
            answer = {"statusCode": refusal.status_code, "headers": dict(refusal.headers), "body": refusal.body}
        answer["headers"] = {
            **_HEADERS,
            "X-Request-Id": request_id,
            **(self._cors.to_dict(headers.get("origin")) if self._cors else {}),
            **answer["headers"],
        }
        return answer

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document of all routes."""
        return document.document(self._resolver, __version__)

    def _answer(self, event: dict[str, Any], headers: Mapping[str, str], context: Any) -> dict[str, Any]:
        http = event["requestContext"]["http"]
        method, path = http["method"], event["rawPath"]
        if path.startswith(f"{_SELF_HOSTED}/"):
            path = path.removeprefix(_SELF_HOSTED)
        if method == "OPTIONS" and self._cors and "origin" in headers:
            allowed = CORSConfig.build_allow_methods({"GET", "POST", "PUT", "PATCH", "DELETE"})
            return {"statusCode": 204, "headers": {"Access-Control-Allow-Methods": allowed}}
        if not self._is_open(event, path):
            caller = self._keys.authenticate(headers.get("authorization"))
            self._rate.take(caller)
            self._keys.count(caller)
            self._resolver.append_context(caller=caller)  # type: ignore[no-untyped-call]
        if path.startswith(_MODELS):
            # Ids of models may hold slashes, and the gateway has decoded them: it is all one segment of the path.
            path = _MODELS + path.removeprefix(_MODELS).replace("/", "%2F")
        asked = {
            **event,
            "rawPath": path,
            "headers": {**headers, "content-type": JSON},
            "body": read_body(event),
            "isBase64Encoded": False,
        }
        try:
            return self._resolver.resolve(asked, context)
        finally:
            # The resolver does so by itself only where it answers.
            self._resolver.clear_context()  # type: ignore[no-untyped-call]

    def _admit(self, route: Route, names: Mapping[str, str]) -> None:
        """Raise `Forbidden` unless the request's key opens the route that was found for it, whose path has these
        `names`; a route that `NEEDS` lacks is opened by none. Raises `RunNotFound`."""
        need = NEEDS.get((route.method, route.path))
        if need is None and route in self._resolver._static_routes + self._resolver._dynamic_routes:
            raise Forbidden(
                f"{route.method} {route.path} opens to no API key: it is missing in loopllama/api/scopes.py"
            )
        caller = self._resolver.context.get("caller")
        if need is None or caller is None:
            return
        check_scope(caller, route.method, route.path, need)
        if need.about == "workflow":
            check_workflow(caller, names["workflow_id"])
        elif need.about == "run" and caller.workflows is not None:
            possible_run(names["run_id"])
            check_workflow(caller, self._services.runs.run(names["run_id"])["workflow_id"])

    def _is_open(self, event: Mapping[str, Any], path: str) -> bool:
        """Return whether a request needs no key. On AWS an open address has a route of its own, which is throttled
        apart from the others, so it is not open by another way."""
        route = event.get("routeKey")
        apart = route in (None, f"GET {path}", f"GET {_SELF_HOSTED}{path}")
        if path == document.ROOT:
            return route in (None, "GET /")
        return path in document.PUBLIC and apart and (self._public_docs or path not in document.DOCUMENTATION)

    def _problem(self, error: Exception) -> Response[str]:
        event = self._resolver.current_event
        if isinstance(error, NotFoundError):
            error = self._not_found() or error
        return problem(error, str(event.request_context.request_id))

    def _not_found(self) -> MethodNotAllowed | None:
        """Another error where the address exists and knows other methods."""
        event = self._resolver.current_event
        every = self._resolver._static_routes + self._resolver._dynamic_routes
        allowed = sorted({route.method for route in every if route.rule.match(event.path)})
        return MethodNotAllowed(event.http_method, allowed) if allowed else None


def _cors(origins: tuple[str, ...]) -> CORSConfig | None:
    if not origins:
        return None
    return CORSConfig(
        allow_origin=origins[0],
        extra_origins=list(origins[1:]),
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        expose_headers=["Retry-After", "X-Request-Id"],
        max_age=3600,
    )
