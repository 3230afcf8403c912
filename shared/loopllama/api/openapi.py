"""The OpenAPI document, made from the routes, and the page that shows it (Swagger UI, which powertools brings)."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from aws_lambda_powertools import event_handler
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from loopllama.api.responses import JSON
from loopllama.api.scopes import NEEDS
from loopllama.core import exact_json

DOCUMENTATION = ("/openapi.json", "/docs")
ROOT = "/"
"""The bare address, which leads to the documentation. It is open without the prefix only."""
PUBLIC = ("/healthz", *DOCUMENTATION)
"""What needs no key, the documentation where the deployment says so."""
TAGS = ("workflows", "runs", "routes", "models", "tools", "usage", "service")
"""What the page groups the routes by: the last of these words in the path."""
_CACHED = "public, max-age=3600"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-ancestors 'none'"
)
_DESCRIPTION = """\
Request bodies take camelCase; snake_case is taken too. Answers are snake_case and wrapped in `data`; only a crew's
agents come back in camelCase. Errors are `{"error": one sentence, "details": …}`. Lists are newest first. Times are ISO
8601 UTC, money is USD and exact.
"""
_KEY = (
    "An API key: `ll_live_` and 40 characters. Each route names the scope that the key needs; keys with `admin`, and "
    "keys that were made without scopes, open them all."
)
_BRACES = str.maketrans("{}", "<>")
"""From OpenAPI's names in paths to the router's."""
_SERVERS = [{"url": "/"}, {"url": "/api", "description": "The same routes, where self-hosted LoopLlama has them"}]


def add(resolver: APIGatewayHttpResolver, version: str) -> None:
    """Serve `/openapi.json` and `/docs`, to which `/` leads."""

    @cache
    def text() -> str:
        return exact_json.dumps(document(resolver, version))

    @resolver.get("/", include_in_schema=False)
    def root() -> Response[str]:
        """Lead who types the bare address to the documentation, which asks for a key where it is not public."""
        body = {"name": "LoopLlama", "version": version, "documentation": "/docs", "health": "/healthz"}
        return Response(302, JSON, exact_json.dumps(body), headers={"Location": "/docs"})

    @resolver.get("/openapi.json", include_in_schema=False, compress=True)
    def openapi() -> Response[str]:
        return Response(200, JSON, text(), headers={"Cache-Control": _CACHED})

    @resolver.get("/docs", include_in_schema=False, compress=True)
    def docs() -> Response[str]:
        headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": _CACHED}
        return Response(200, "text/html; charset=utf-8", _page(text()), headers=headers)


def document(resolver: APIGatewayHttpResolver, version: str) -> dict[str, Any]:
    """Return the document as a value."""
    from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer

    spec: dict[str, Any] = exact_json.loads(
        resolver.get_openapi_json_schema(
            title="LoopLlama",
            version=version,
            description=_DESCRIPTION,
            security_schemes={"key": HTTPBearer(description=_KEY)},
            security=[{"key": []}],
        )
    )
    spec["servers"] = _SERVERS
    spec["tags"] = [{"name": tag} for tag in TAGS]
    for path, operations in spec["paths"].items():
        about = [word for word in path.split("/") if word in TAGS] or ["service"]
        for method, operation in operations.items():
            operation["tags"] = about[-1:]
            scope = NEEDS[method.upper(), path.translate(_BRACES)].scope
            operation["security"] = [{"key": [scope]}] if scope else []
            # powertools' own answer to bad requests; ours is 400.
            operation["responses"].pop("422", None)
    schemas = spec["components"]["schemas"]
    for name in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        schemas.pop(name, None)
    return spec


def _page(spec: str) -> str:
    script, style = _asset("swagger-ui-bundle.min.js"), _asset("swagger-ui.min.css")
    # A text of the document must not end the script that holds it.
    spec = spec.replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>LoopLlama API</title><style>{style}</style></head>
<body><div id="page"></div><script>{script}</script>
<script>SwaggerUIBundle({{spec: {spec}, dom_id: "#page", deepLinking: true, docExpansion: "list"}})</script>
</body></html>
"""


def _asset(name: str) -> str:
    """Return one of Swagger UI's files, which the layer holds compressed (shared/trim.py)."""
    path = Path(event_handler.__file__).parent / "openapi" / "swagger_ui" / name
    if path.exists():
        return path.read_text("utf-8")
    return gzip.decompress(path.with_name(f"{name}.gz").read_bytes()).decode()
