"""Whether a row of the routes table, or what a definition says of models, is a good idea: asked before it is written,
and of what was written by hand."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, errors
from loopllama.catalog.allowed import not_allowed
from loopllama.catalog.catalog import Catalog
from loopllama.catalog.model import Model
from loopllama.catalog.providers import KNOWN, Known
from loopllama.core.names import meant
from loopllama.errors import ModelUnknown, NoEligibleModel, WorkflowNotFound
from loopllama.llm import structured_output
from loopllama.routing.cache import ModelTable
from loopllama.routing.decision import RouteRequest, plan
from loopllama.routing.overrides import NO_OVERRIDE, ChoiceInvalid, parse_choice, parse_row
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.routing.types import RouteRow
    from loopllama.workflows.types import CrewStep, Definition


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a row: its attribute, and what would be right. `invalid`: the row, or a part of it, makes no
    sense and will be skipped; otherwise it is only unwise. `forcible`: somebody may want it all the same."""

    field: str
    message: str
    invalid: bool = True
    forcible: bool = False


MAX_FINDINGS = 50
"""So many findings about a definition are told at most."""
MAX_MODELS = 200
"""Different models of a definition that are looked at: each is a row that is read, and a name that others are like."""


class RouteChecks:
    """Checks rows against the catalog and, where the settings name the tables, the workflow and its recent runs."""

    def __init__(self, settings: Settings, dynamodb: Callable[[], Any]) -> None:
        self._settings = settings
        self._dynamodb = dynamodb
        self._models = ModelTable(settings.models_table, dynamodb, 0.0, settings.allowed)
        self._keys: dict[str, bool] = {}

    def findings(
        self, workflow_id: str, step: str, row: RouteRow, now: float, longest: Mapping[str, int] | None = None
    ) -> list[Finding]:
        """Return all that speaks against the row, the worst first. Attributes of nobody's are no finding: people may
        add notes of their own. `longest` is the longest recent prompt of each step, in tokens."""
        parsed = parse_row(row)
        self._keys.clear()
        findings = [_problem(field, problem) for field, problem in parsed.problems.items()]
        if parsed.expires_at is not None and parsed.expires_at <= now:
            findings.append(Finding("expires_at", "has passed already", invalid=False))
        steps = self._steps(workflow_id, step)
        if isinstance(steps, Finding):
            return [*findings, steps]
        places = parsed.choice.places() if parsed.choice is not None else []
        catalog, _ = self._models.catalog([name for name, _ in places], now)
        for name, field in dict(reversed(places)).items():
            try:
                findings += self._model(name, field, catalog, steps, longest or {})
            except ModelUnknown as error:
                findings.append(Finding(field, str(error)))
        return sorted(findings, key=lambda finding: not finding.invalid)

    def definition(self, definition: Definition, now: float) -> list[Finding]:
        """Return all that speaks against the models of a definition, with what its steps use instead; fields are paths
        into the definition. Rows of the routes table are left out: they come and go without it."""
        default, workflow_model = self._settings.default_model, definition.get("model")
        self._keys.clear()
        findings: list[Finding] = []
        named: list[tuple[str, str, list[CrewStep]]] = []
        rest: list[CrewStep] = []
        for position, step in enumerate(definition["crew"]):
            try:
                choice = parse_choice(step)
            except ChoiceInvalid as error:
                findings.append(
                    _problem(f"crew.{position}.{error.field}", str(error).removeprefix(f"`{error.field}` "))
                )
                rest.append(step)
                continue
            if choice is None:
                rest.append(step)
                continue
            before: Counter[str] = Counter()
            for name, field in choice.places():
                index = "" if field == "model" else f".{before[field]}"
                before[field] += 1
                named.append((name, f"crew.{position}.{field}{index}", [step]))
        if workflow_model is not None:
            named.append((workflow_model, "model", rest))
        elif rest:
            named.append((default, "DefaultModel", rest))
        looked_at = set(islice(dict.fromkeys(name for name, _, _ in named), MAX_MODELS))
        catalog, _ = self._models.catalog([default, *sorted(looked_at)], now)
        for name, field, steps in named:
            if len(findings) >= MAX_FINDINGS:
                break
            if name not in looked_at:
                message = f"{name!r} and what follows was not looked at: a crew has at most {MAX_MODELS} models"
                findings.append(Finding(field, message, invalid=False))
                break
            try:
                model_findings = self._model(name, field, catalog, steps, {})
            except ModelUnknown as error:
                model_findings = [Finding(field, str(error))]
            outcome = self._outcome(definition, name, steps, catalog, now) if model_findings else ""
            whose = "the template's parameter DefaultModel: " if field == "DefaultModel" else ""
            findings += [
                replace(finding, message=f"{whose}{sentence(finding.message)}{outcome}") for finding in model_findings
            ]
        return findings[:MAX_FINDINGS]

    def _outcome(
        self, definition: Definition, name: str, steps: Sequence[CrewStep], catalog: Catalog, now: float
    ) -> str:
        """Return what steps come to that skip the model `name`; empty where they use it."""
        ends: dict[str, list[str]] = {}
        for step in steps:
            required = frozenset({"tools"}) if step.get("tools") else frozenset()
            request = RouteRequest("", definition.get("model"), step, {}, required)
            try:
                decision = plan(request, NO_OVERRIDE, NO_OVERRIDE, self._settings.default_model, catalog, now)
            except (NoEligibleModel, ModelUnknown):
                ends.setdefault("fails: no model is left for it", []).append(str(step["name"]))
                continue
            models = [*(candidate.model for candidate in decision.candidates), *decision.route_.attempt_order]
            with contextlib.suppress(ModelUnknown):
                if catalog.resolve(name).id in [model.id for model in models]:
                    continue
            source = decision.route_.source
            by = "" if source == "agent" else f" ({_SOURCES.get(source, source)})"
            ends.setdefault(f"uses {models[0].id}{by}", []).append(str(step["name"]))
        outcome = "; ".join(f"step {', '.join(names[:5])} {end}" for end, names in ends.items())
        return f" As it is, {outcome}." if outcome else ""

    def _steps(self, workflow_id: str, step: str) -> Sequence[CrewStep] | Finding:
        """Return the steps that the row decides for: with `*` those whose agents name no model."""
        if not self._settings.workflows_table:
            return []
        from loopllama.workflows.store import DefinitionStore

        try:
            crew = DefinitionStore(self._settings, self._dynamodb()).get(workflow_id)["definition"]["crew"]
        except WorkflowNotFound as error:
            return Finding("workflow", str(error))
        if step == "*":
            return [agent for agent in crew if not agent.get("model") and not agent.get("policy")]
        mine = [agent for agent in crew if agent["name"] == step]
        if mine:
            return mine
        names = [agent["name"] for agent in crew]
        what = f"the workflow has no step {step!r}: its steps are {', '.join(names)}, or * for all{meant(step, names)}"
        return Finding("step", what)

    def _model(
        self, name: str, field: str, catalog: Catalog, steps: Sequence[CrewStep], longest: Mapping[str, int]
    ) -> list[Finding]:
        """Return what speaks against a model that the row names in `field`."""
        model = catalog.resolve(name)
        findings: list[Finding] = []
        if model.barred:
            findings.append(Finding(field, f"{name!r} {not_allowed(self._settings.allowed_models)}"))
        elif not model.enabled:
            instead = f"; use {model.replaced_by}" if model.replaced_by else ""
            findings.append(Finding(field, f"{name!r} is disabled{instead}", invalid=False))
        # What an application inference profile stands for, and costs, is read when a step uses it.
        if not model.prices and ":application-inference-profile/" not in model.provider_model:
            message = f"{name!r} has no price, so its cost would be unknown"
            if (model.origin or {}).get("id") == "written out":
                near = catalog.near(name)
                meant = f" (did you mean {', '.join(near)}?)" if near else ""
                message = (
                    f"{name!r} is not in the catalog{meant}, so that it has no price, and a step fails where "
                    f"{model.provider} does not know it"
                )
            message = f"{message}; give it one: loopllama models price {name} --input USD --output USD"
            findings.append(Finding(field, message, invalid=False, forcible=True))
        if model.provider not in self._keys:
            self._keys[model.provider] = self.has_key(model.provider)
        if not self._keys[model.provider]:
            own = KNOWN.get(model.provider, Known()).local_server
            message = (
                f"{name!r} needs {'the address' if own else 'a key'} of provider {model.provider}, and none is "
                f"configured; set it with: loopllama providers set {model.provider}{' --base-url URL' if own else ''}"
            )
            findings.append(Finding(field, message, invalid=False))
        for step in steps:
            findings += _able(name, field, model, step)
            tokens = longest.get(step["name"], 0)
            if model.context_window is not None and tokens > model.context_window:
                message = f"{name!r} takes {model.context_window} tokens, and step {step['name']!r} had {tokens} lately"
                findings.append(Finding(field, message, invalid=False))
        return findings

    def has_key(self, provider: str) -> bool:
        """Return whether the provider can be called, as far as that can be known from here."""
        known = KNOWN.get(provider, Known())
        simulated = self._settings.simulated_providers
        if known.by_role or "*" in simulated or provider in simulated:
            return True
        if not self._settings.provider_secrets_prefix:
            return True
        secrets = clients.client("secretsmanager")
        try:
            secrets.describe_secret(SecretId=self._settings.provider_secrets_prefix + provider)
        except secrets.exceptions.ResourceNotFoundException:
            return False
        except secrets.exceptions.ClientError:
            return True  # who may not look cannot say that it is missing
        return True


_SOURCES = {"workflow-default": "the workflow's default", "deployment-default": "the deployment's default"}


def warnings(settings: Settings, definition: Definition) -> Sequence[dict[str, object]]:
    """Return what a definition names and this deployment cannot use as it stands, as `{"field", "message"}`: models
    that nobody knows, that are disabled, have no price or no key, or lack what their step needs, and tools whose
    definition is invalid; each with what happens and what to do.

    Such a definition can be stored: the model may be added later, and a run says what was skipped. Where the tables
    cannot be read that is the one warning."""
    from loopllama.tools import checks
    from loopllama.tools.store import ToolStore

    try:
        findings = RouteChecks(settings, lambda: clients.client("dynamodb")).definition(definition, time.time())
        tools = checks.invalid(definition["crew"], ToolStore(settings))
    except Exception as error:
        if (trouble := errors.trouble(error)) is None:
            raise
        return [
            {"field": "workflow", "message": f"whether its models and tools can be used could not be seen: {trouble}"}
        ]
    models: list[dict[str, object]] = [{"field": finding.field, "message": finding.message} for finding in findings]
    return [*models, *tools]


def idle_routes(settings: Settings, workflow_id: str, definition: Definition) -> list[dict[str, object]]:
    """Return the routes of a workflow that do nothing, because the crew has no such step, as `{"field", "message"}`.
    Where the table cannot be read none is told."""
    from loopllama.routing.store import RouteStore

    try:
        rows = RouteStore(settings).rows(workflow_id) if settings.routes_table else []
    except Exception as error:
        if errors.trouble(error) is None:
            raise
        return []
    names = {"*", *(agent["name"] for agent in definition["crew"])}
    return [
        {
            "field": f"routes.{row['step']}",
            "message": f"the override of step '{row['step']}' does nothing: the crew has no such step; remove it: "
            f"loopllama routes unset {workflow_id} {row['step']}",
        }
        for row in rows
        if row["step"] not in names
    ]


def sentence(text: str) -> str:
    """Return the text with an end, so that another sentence may follow."""
    return text if text.endswith((".", "?")) else f"{text}."


def _able(name: str, field: str, model: Model, step: CrewStep) -> list[Finding]:
    """Return what the step needs and the model is known not to have."""
    findings: list[Finding] = []
    capabilities = model.capabilities
    if capabilities is not None:
        if step.get("tools") and "tools" not in capabilities:
            findings.append(Finding(field, f"{name!r} cannot call tools, and step {step['name']!r} has tools"))
        schema = step.get("output_schema")
        askable = schema is not None and structured_output.mode_for({"tools"}, schema) != "instructions"
        if askable and structured_output.mode_for(capabilities, schema) == "instructions":
            findings.append(
                Finding(
                    field,
                    f"{name!r} has neither structured output nor tools, and step {step['name']!r} has an outputSchema",
                    invalid=False,
                )
            )
    wanted, limit = step.get("max_tokens"), model.max_output
    if wanted and limit is not None and wanted > limit:
        findings.append(
            Finding(
                field,
                f"{name!r} answers with at most {limit} tokens, and step {step['name']!r} asks for up to {wanted}",
                invalid=False,
            )
        )
    return findings


def _problem(field: str, problem: str) -> Finding:
    """Return a problem of reading the row. What makes all of it (`row`) nonsense is a time of expiry that cannot be
    read."""
    field = "expires_at" if field == "row" else field
    return Finding(field, problem.removeprefix(f"`{field}` "))
