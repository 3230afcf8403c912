"""Commands against tables in memory."""

from typer.testing import CliRunner

from loopllama.core import exact_json
from loopllama.settings import Settings
from loopllama_cli.main import app

SETTINGS = Settings(
    workflows_table="Workflows",
    routes_table="Routes",
    route_history_table="RouteHistory",
    models_table="Models",
    tools_table="Tools",
    runs_table="Runs",
    default_model="balanced",
    provider_secrets_prefix="test/providers/",
    simulated_providers=("google",),
)
CREW = """\
name: Support reply
model: frontier
crew:
  - {role: Triage, systemPrompt: Sort the ticket.}
  - {role: Writer, systemPrompt: Write the reply., model: claude-sonnet-4-6}
"""


def table(*keys, index=(), other=()):
    """Return what CreateTable takes for a table beside its name."""

    def schema(pairs):
        return [
            {"AttributeName": key, "KeyType": kind} for (key, _), kind in zip(pairs, ("HASH", "RANGE"), strict=False)
        ]

    indexes = [
        {"IndexName": called, "KeySchema": schema(pairs), "Projection": {"ProjectionType": "ALL"}}
        for called, *pairs in filter(None, [index, other])
    ]
    return {
        "KeySchema": schema(keys),
        "AttributeDefinitions": [
            {"AttributeName": key, "AttributeType": kind} for key, kind in (*keys, *index[1:], *other[1:])
        ],
        **({"GlobalSecondaryIndexes": indexes} if index else {}),
    }


TABLES = {
    "Workflows": table(
        ("workflow_id", "S"), ("version", "N"), index=("by_updated", ("listed", "S"), ("updated_at", "S"))
    ),
    "Routes": table(("workflow", "S"), ("step", "S")),
    "RouteHistory": table(("route", "S"), ("sequence", "S")),
    "Models": table(("model", "S")),
    "Tools": table(("tool", "S")),
    "Runs": table(
        ("run_id", "S"),
        ("item", "S"),
        index=("by_workflow", ("workflow_id", "S"), ("created_at", "S")),
        other=("by_active", ("active", "S"), ("check_at", "S")),
    ),
}


def invoke(*arguments, code=0, **options):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
    assert result.exit_code == code, (result.stderr, result.exception)
    return result


def answer(*arguments, **options):
    return exact_json.loads(invoke(*arguments, "--json", **options).stdout)
