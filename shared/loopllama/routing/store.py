"""Writing rows of the routes table: checked before they are stored, conditional on the whole row that was read."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.aws.versioned import Rows, version_of
from loopllama.core import clock
from loopllama.core.numbers import exact
from loopllama.errors import NotFound, RouteInvalid, VersionConflict
from loopllama.llm import usage
from loopllama.policies.registry import find
from loopllama.routing.cache import query
from loopllama.routing.change_log import History, route_of
from loopllama.routing.overrides import CHOICE
from loopllama.routing.validation import RouteChecks
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.queries.types import Forecast
    from loopllama.routing.types import RouteRow, Stamp

VALUES = (*CHOICE, "max_tokens", "temperature", "pin", "expires_at")
"""What a caller may set."""
_KNOWN = (*VALUES, "version", "updated_by", "reason", "updated_at")
MAX_REASON = 500
MAX_STEP = 256
LOOKED_AT = 20
"""Recent runs that the expected change of a write rests on."""
PROMPTS_OF = 5
"""Recent runs whose prompts must fit a model."""


class RouteStore:
    """The routes table, for those who change overrides. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._table = settings.routes_table
        self._clock = clock
        self._given = dynamodb
        self._settings = settings
        self._checks = RouteChecks(settings, self._dynamodb)
        self._history = History(settings, dynamodb)

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def rows(self, workflow_id: str) -> list[RouteRow]:
        """Return the workflow's rows as they are stored, by step; numbers are `Decimal`."""
        return sorted(query(self._dynamodb, self._table, workflow_id), key=lambda row: str(row["step"]))

    def get(self, workflow_id: str, step: str) -> RouteRow | None:
        """One row as it is stored."""
        answer = self._dynamodb().get_item(TableName=self._table, Key=_key(workflow_id, step), ConsistentRead=True)
        return cast("RouteRow", dynamo.from_item(answer["Item"])) if "Item" in answer else None

    def set(
        self,
        workflow_id: str,
        step: str,
        values: RouteRow,
        *,
        expected_version: int | None = None,
        updated_by: str,
        reason: str,
        expires_in: float | None = None,
        force: bool = False,
    ) -> RouteRow:
        """Replace the row by `values` (a subset of `VALUES`) and return it as it is stored.

        `expected_version` is the version that the caller saw, 0 for no row. `expires_in` is seconds from now.
        `force` allows models without a price. Raises `RouteInvalid`, with every reason, for values that are invalid,
        a workflow or step that is not there, and models that are unknown, disabled, unpriced, lack what the step needs
        (tools, a way to structured output, the length of its recent prompts) or whose provider has no key; and
        `VersionConflict` where the row is another than expected or changed between reading and writing, by whatever
        hand. A version is never given out twice as far as the history knows.
        """
        now = self._clock()
        if not 0 < len(step) <= MAX_STEP:
            raise RouteInvalid.of("step", f"must have 1 to {MAX_STEP} characters")
        row = cast("RouteRow", {key: exact(value) for key, value in values.items() if value is not None})
        if expires_in is not None:
            if expires_in <= 0:
                raise RouteInvalid.of("expires_in", f"must be more than 0 seconds, not {expires_in}")
            row["expires_at"] = int(now + expires_in)
        self.check(workflow_id, step, row, force=force)
        before = self._before(workflow_id, step, expected_version)
        last = max(version_of(before), 0 if version_of(before) else self._last_version(workflow_id, step))
        row = {**row, **_stamp(last, updated_by, reason, now), "workflow": workflow_id, "step": step}
        self._stored().put(row, before, "the route")
        return row

    def unset(
        self, workflow_id: str, step: str, *, expected_version: int | None = None, updated_by: str, reason: str
    ) -> bool:
        """Delete the row; whether there was one. Who and why is written to the row before it goes, so that the
        table's stream has seen it. Raises `VersionConflict` as `set` does."""
        before = self._before(workflow_id, step, expected_version)
        if before is None:
            return False
        version = version_of(before) or self._last_version(workflow_id, step)
        stamp = _stamp(version, updated_by, reason, self._clock())
        last: RouteRow = {"workflow": workflow_id, "step": step, **stamp}
        rows = self._stored()
        rows.put(last, before, "the route")
        rows.delete({"workflow": workflow_id, "step": step}, last, "the route")
        return True

    def rollback(
        self,
        workflow_id: str,
        step: str,
        to: int | None = None,
        *,
        expected_version: int | None = None,
        updated_by: str,
        reason: str = "",
    ) -> RouteRow | None:
        """Make the row say again what it said at version `to`, by default before its last change, as a new version;
        `None` where there was no row then. Without a `reason` the row says what it went back to. Checked and
        conditional like `set`; raises `NotFound` where the history has no such version, and `VersionConflict` where it
        does not show the present row yet."""
        if not 0 < len(step) <= MAX_STEP:
            raise RouteInvalid.of("step", f"must have 1 to {MAX_STEP} characters")
        route, before = route_of(workflow_id, step), self.get(workflow_id, step)
        reason = reason or ("back to before the last change" if to is None else f"back to version {to}")
        if to is None:
            entries = self._history.entries(route, 1)
            if not entries:
                raise NotFound(f"the history of {route!r} is empty: there is nothing to go back to")
            if _decided(entries[0].get("after")) != _decided(before):
                raise VersionConflict(f"the history of {route!r} does not show the present row yet: repeat in a moment")
            then = entries[0].get("before")
        else:
            then = self._history.at_version(route, to).get("after")
        version = version_of(before) if expected_version is None else expected_version
        values = _decided(then)
        expires_at = values.get("expires_at")
        if not values:
            self.unset(workflow_id, step, expected_version=version, updated_by=updated_by, reason=reason)
            return None
        if isinstance(expires_at, (int, Decimal)) and expires_at <= self._clock():
            raise RouteInvalid.of("expires_at", "that version has expired since; set it anew, or unset the row")
        return self.set(
            workflow_id, step, values, expected_version=version, updated_by=updated_by, reason=reason, force=True
        )

    def expected_change(self, workflow_id: str, step: str, values: RouteRow) -> Forecast | None:
        """Return what the row would change for cost and latency of a run, by the workflow's recent runs
        (`whatif.predict`) and the decision's own code (`Router.preview`); `None` where there are
        none, or where the row names no single model."""
        from loopllama.queries import recorded, whatif
        from loopllama.queries.runs import RunReader
        from loopllama.routing.router import Router
        from loopllama.workflows.store import DefinitionStore

        policy = find(values.get("policy"))
        if not isinstance(values.get("model"), str) or policy is None or policy.chooses:
            return None
        definition = DefinitionStore(self._settings).get(workflow_id)["definition"]
        runs = recorded.recent_runs(RunReader(self._settings), workflow_id, limit=LOOKED_AT)
        router = Router(self._settings)
        decided = router.preview(workflow_id, definition, step, values) if runs else {}
        changed = {name: router.priced_model(model) for name, model in decided.items()}
        if not changed:
            return None
        needs = {agent["name"]: agent["needs"] for agent in definition["crew"]}
        return whatif.predict(runs, needs, changed, router.priced_model)

    def check(self, workflow_id: str, step: str, row: RouteRow, *, force: bool = False) -> None:
        """Raise `RouteInvalid`, with every reason, where `set` would refuse the row."""
        unknown = sorted(row.keys() - set(VALUES))
        if unknown:
            raise RouteInvalid.of(unknown[0], f"is no field of a route; the fields are {', '.join(VALUES)}")
        if not row.keys() - {"expires_at"}:
            raise RouteInvalid.of("model", "is missing: a route sets at least one of " + ", ".join(VALUES))
        findings = self._checks.findings(workflow_id, step, row, self._clock(), self._longest_prompts(workflow_id))
        refusals = [finding for finding in findings if not (force and finding.forcible)]
        if refusals:
            details: list[dict[str, object]] = [
                {"field": refusal.field, "message": f"{refusal.message}{', or force it' if refusal.forcible else ''}"}
                for refusal in refusals
            ]
            raise RouteInvalid.of_all(details)

    def _longest_prompts(self, workflow_id: str) -> dict[str, int]:
        """Return the longest prompt (tokens) of each step in the workflow's recent runs."""
        if not self._settings.runs_table or not self._settings.workflows_table:
            return {}
        from loopllama.queries import recorded
        from loopllama.queries.runs import RunReader

        longest: dict[str, int] = {}
        for run in recorded.recent_runs(RunReader(self._settings), workflow_id, limit=PROMPTS_OF):
            for record in run["steps"]:
                for call in record["attempts"]:
                    tokens = usage.of_shown(call).input_tokens
                    longest[record["step"]] = max(longest.get(record["step"], 0), tokens)
        return longest

    def _last_version(self, workflow_id: str, step: str) -> int:
        if not self._settings.route_history_table:
            return 0
        return self._history.last_version(route_of(workflow_id, step))

    def _before(self, workflow_id: str, step: str, expected_version: int | None) -> RouteRow | None:
        before = self.get(workflow_id, step)
        version = version_of(before)
        if expected_version is not None and expected_version != version:
            raise VersionConflict(
                f"the route of {workflow_id}/{step} is at version {version}, not {expected_version}: "
                "read it again and repeat"
            )
        return before

    def _stored(self) -> Rows:
        return Rows(self._dynamodb(), self._table, "workflow", _KNOWN)


def _decided(row: RouteRow | None) -> RouteRow:
    """Return what a row says, without who and when."""
    decided = {name: value for name, value in (row or {}).items() if name in VALUES and value is not None}
    return cast("RouteRow", decided)


def _key(workflow_id: str, step: str) -> dict[str, Any]:
    return dynamo.to_item({"workflow": workflow_id, "step": step})


def _stamp(last: int, updated_by: str, reason: str, now: float) -> Stamp:
    if len(reason) > MAX_REASON or len(updated_by) > MAX_REASON:
        raise RouteInvalid.of("reason", f"must have at most {MAX_REASON} characters")
    return {"version": last + 1, "updated_by": updated_by, "reason": reason, "updated_at": clock.now_text(now)}
