"""The subsets of JSON Schema that providers take: for an answer in their own mode, and for the parameters of tools.

`SUBSETS` says it once, each with its source and its date; `schema_restating` puts schemas into them, and the table in
docs/providers.md is made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ANNOTATIONS = frozenset(
    {
        *("$schema", "$id", "$anchor", "$comment", "title", "default", "examples", "example", "deprecated"),
        *("readOnly", "writeOnly", "contentMediaType", "contentEncoding", "discriminator"),
    }
)
"""Keywords that constrain nothing; `discriminator` is OpenAPI's, pydantic writes it beside `oneOf`."""
_STRUCTURE = frozenset(
    {
        *("type", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions"),
        *("properties", "required", "additionalProperties", "items", "format"),
    }
)
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_LENGTHS = frozenset({"minLength", "maxLength", "uniqueItems"})
_ITEMS = frozenset({"minItems", "maxItems"})


@dataclass(frozen=True, slots=True)
class Subset:
    """What may stand in a schema.

    `keywords` may stand, and `worded` be put into the description; a schema with any other cannot be said. Without
    `keywords` all may stand. `loose`: whatever may not stand goes into the description, as nothing is held to the
    schema. `references`: a `$ref` stands beside other keywords, alone, or what it names stands in its place. `closed`:
    objects must say that they have no other properties; `open_objects` may have none of their own. `optional`:
    properties may be left out. `type_lists`: several types may stand in one `type`; else `nullable` stands for null.
    `root` are the keywords that the outermost schema may have, all without it; with `plain_keys` the names
    of its properties are bounded (`tool_forms`). `most` bounds what
    `schema_restating` counts.
    """

    about: str
    source: str
    seen: str
    keywords: frozenset[str] | None = None
    worded: frozenset[str] = frozenset()
    loose: bool = False
    formats: frozenset[str] | None = None
    references: Literal["beside", "alone", "inlined"] = "beside"
    recursive: bool = True
    closed: bool = False
    open_objects: bool = True
    optional: bool = True
    type_lists: bool = True
    const: bool = True
    look_around: bool = True
    root: frozenset[str] | None = None
    plain_keys: bool = False
    most: Mapping[str, int] = field(default_factory=dict)


SUBSETS: Mapping[str, Subset] = {
    "any": Subset("not restated", "", ""),
    "openai strict": Subset(
        "answers held to strictly",
        "https://platform.openai.com/docs/guides/structured-outputs (supported schemas); nothing beside a `$ref`: "
        "github.com/openai/openai-python, issue 2024",
        "2026-11",
        keywords=_STRUCTURE | _ITEMS | _NUMBERS | {"pattern"},
        formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
        references="alone",
        closed=True,
        open_objects=False,
        optional=False,
        look_around=False,
        most={"properties": 5000, "enum values": 1000, "characters of an enum over 250": 15_000, "depth": 10},
    ),
    "anthropic": Subset(
        "answers held to strictly, at Anthropic and of Claude on Bedrock",
        "https://platform.claude.com/docs/en/build-with-claude/structured-outputs (JSON schema limitations), "
        "https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html",
        "2026-11",
        keywords=_STRUCTURE,
        worded=_ITEMS | _NUMBERS | _LENGTHS | {"pattern"},
        formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
        recursive=False,
        closed=True,
        open_objects=False,
        most={"optional properties": 24, "unions": 16, "depth": 10},
    ),
    "gemini": Subset(
        "answers",
        "https://ai.google.dev/gemini-api/docs/structured-output (JSON schema support); nothing beside a `$ref`: "
        "github.com/su-kaka/gcli2api, pull request 374",
        "2026-05",
        keywords=(_STRUCTURE | _ITEMS | {"minimum", "maximum"}) - {"const", "$ref", "$defs", "definitions"},
        worded=_LENGTHS | _NUMBERS | {"pattern"},
        formats=frozenset({"date-time", "date", "time"}),
        references="inlined",
        recursive=False,
        const=False,
        most={"depth": 10},
    ),
    "openai tools": Subset(
        "parameters of tools",
        "github.com/nspady/google-calendar-mcp, issue 39 (no union at the root); github.com/PrefectHQ/fastmcp, issue "
        "2464 (a list says its items); github.com/spring-projects/spring-ai, issue 4776 (an object its properties)",
        "2025-11",
        loose=True,
    ),
    "anthropic tools": Subset(
        "parameters of tools",
        "github.com/windoze95/cantinarr, issue 497 (no union at the root); github.com/anthropics/claude-code, issue "
        "63673 (draft 2020-12)",
        "2026-08",
        loose=True,
        plain_keys=True,
    ),
    "nova tools": Subset(
        "parameters of tools, for Amazon Nova",
        "https://docs.aws.amazon.com/nova/latest/userguide/tool-use-definition.html",
        "2026-11",
        loose=True,
        references="inlined",
        recursive=False,
        root=frozenset({"type", "properties", "required"}),
    ),
    "gemini tools": Subset(
        "parameters of tools",
        "https://ai.google.dev/api/caching#Schema; github.com/pizza-bot-app/pizza-bot, issue 62; "
        "github.com/brightwave-inc/tidebreak, issue 1516",
        "2026-09",
        keywords=frozenset(
            {
                *("type", "description", "enum", "anyOf", "properties", "required", "items", "format", "nullable"),
                *("minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern"),
            }
        ),
        loose=True,
        formats=frozenset({"date-time", "enum", "float", "double", "int32", "int64"}),
        references="inlined",
        recursive=False,
        type_lists=False,
        const=False,
    ),
}
"""By the names that `catalog.providers.Known` uses."""
