"""The Workflows table: definitions by id and version (docs/design.md, Workflows).

Version 0 is the current definition and carries `current_version`; every other version never changes. A push writes
the new version first and turns version 0 to it second, so a crash in between leaves a version that nobody uses. A
deleted workflow keeps its `current_version`, so that its numbers are never given out again: a version that a process
has read stays true for good. It also keeps since when there was one (`since`) and until when (`updated_at`, listed as
`deleted`): its usage outlives it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, dynamo
from loopllama.core import numbers
from loopllama.core.clock import now_text
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest, VersionConflict, WorkflowNotFound
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.workflows.schema import Workflow
    from loopllama.workflows.types import WorkflowItem, WorkflowStatus

BY_UPDATED = "by_updated"
"""The index of current definitions: `listed` (always `"all"`), `updated_at`."""

_CACHED = 64
_ATTEMPTS = 20
_ID = late(r"[a-z0-9_]{1,128}")


class DefinitionStore:
    """Reads and writes workflow definitions. Items are dicts with `workflow_id`, `version`, `name`, `description`,
    `definition`, `created_at`, `updated_at`, and for version 0 `current_version` and `status`; numbers inside are
    `int` and `float`. Do not change what is returned: it may be cached."""

    def __init__(self, settings: Settings, dynamodb: Any = None) -> None:
        self._settings = settings
        self._table = settings.workflows_table
        self._dynamodb = dynamodb
        self._versions: dict[tuple[str, int], WorkflowItem] = {}

    def get(self, workflow_id: str, version: int = 0) -> WorkflowItem:
        """One version; 0 is the current one, read anew each time. Raises `WorkflowNotFound`."""
        if not isinstance(workflow_id, str) or not _ID.fullmatch(workflow_id):
            raise _not_found(workflow_id, version)
        if cached := self._versions.get((workflow_id, version)):
            return cached
        item = self._read(workflow_id, version)
        if item is None or "definition" not in item:
            raise _not_found(workflow_id, version)
        if version:
            while len(self._versions) >= _CACHED:
                self._versions.pop(next(iter(self._versions)))
            self._versions[workflow_id, version] = item
        return item

    def push(
        self, workflow: Workflow, workflow_id: str | None = None, expected_version: int | None = None
    ) -> WorkflowItem:
        """Create a workflow, or a new version of it where the content changed; returns the current item.

        `workflow_id` is made from the name by default. `expected_version` is the `current_version` that the change
        is based on, 0 for a workflow that must not exist yet; another one there raises `VersionConflict`. Without it
        the last push wins. A tool that the deployment does not have raises `WorkflowInvalid`;
        `routing.validation.warnings` says what else it does not know.
        """
        from loopllama.tools.checks import check_names
        from loopllama.tools.store import ToolStore

        if workflow_id is None:
            from loopllama.workflows.schema import workflow_id_of

            workflow_id = workflow_id_of(workflow.name)
        elif not _ID.fullmatch(workflow_id):
            raise InvalidRequest.of("id", "must be 1 to 128 of a-z, 0-9 and _", subject="The workflow's id")
        definition = workflow.to_definition()
        check_names(definition["crew"], ToolStore(self._settings, self._dynamodb))
        content = {"name": workflow.name, "description": workflow.description, "definition": definition}
        written = 0
        for _ in range(_ATTEMPTS):
            current = self._read(workflow_id, 0)
            base = current["current_version"] if current else 0
            live = current is not None and "definition" in current
            if expected_version is not None and expected_version != (base if live else 0):
                raise VersionConflict(
                    f"Workflow '{workflow_id}' is at version {base if live else 0}, not {expected_version}; "
                    "read it again and repeat the change."
                )
            if current and live and all(current.get(key) == value for key, value in content.items()):
                return current
            if written <= base:
                written = self._write_version(workflow_id, base + 1, content)
            if written and (item := self._turn(workflow_id, base, written, content)):
                return item
        raise VersionConflict(f"Workflow '{workflow_id}' is being changed by many at once; try again.")

    def create(self, workflow: Workflow) -> WorkflowItem:
        """Store a new workflow under the slug of its name, with a short suffix where that is taken."""
        from loopllama.workflows.schema import workflow_id_of

        slug = workflow_id_of(workflow.name)
        workflow_id = slug
        for _ in range(_ATTEMPTS):
            try:
                return self.push(workflow, workflow_id, expected_version=0)
            except VersionConflict:
                workflow_id = f"{slug}_{secrets.token_hex(2)}"
        raise VersionConflict(f"Too many workflows are called '{slug}'; choose another name.")

    def ids(self, deleted_after: str, most: int) -> list[str]:
        """Return the ids of at most `most` workflows, those that were deleted after that time among them. Eventually
        consistent."""
        found: list[str] = []
        for listed, after in (("all", "0"), ("deleted", deleted_after)):
            if len(found) < most:
                items = dynamo.each(
                    self._client(),
                    self._table,
                    "listed = :listed AND updated_at > :after",
                    {":listed": listed, ":after": after},
                    attributes=("workflow_id",),
                    index=BY_UPDATED,
                    limit=most - len(found),
                )
                found += [item["workflow_id"] for item in items]
        return list(dict.fromkeys(found))

    def versions(self, workflow_id: str) -> list[int]:
        """Return the numbers of a workflow's versions, the first one first. Every version is kept until the workflow
        is deleted; one whose push was interrupted is among them."""
        items = dynamo.each(
            self._client(),
            self._table,
            "workflow_id = :id AND version > :zero",
            {":id": workflow_id, ":zero": 0},
            attributes=("version",),
            consistent=True,
        )
        return [int(item["version"]) for item in items]

    def list(self, limit: int = 50, cursor: str | None = None) -> tuple[list[WorkflowItem], str | None]:
        """Return current definitions, most recently updated first (eventually consistent), and the cursor of the next
        page. Raises `InvalidRequest` for a cursor that is not ours."""
        from loopllama.core import pagination

        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": BY_UPDATED,
            "KeyConditionExpression": "listed = :all",
            "ExpressionAttributeValues": {":all": {"S": "all"}},
            "ScanIndexForward": False,
            "Limit": limit,
        }
        binding = pagination.bound("workflows")
        if cursor is not None:
            workflow_id, updated_at = pagination.read(cursor, binding, _ID, pagination.TIME)
            place = {"workflow_id": workflow_id, "version": 0, "listed": "all", "updated_at": updated_at}
            request["ExclusiveStartKey"] = dynamo.to_item(place)
        answer = self._client().query(**request)
        last = answer.get("LastEvaluatedKey")
        following = pagination.write(binding, last["workflow_id"]["S"], last["updated_at"]["S"]) if last else None
        return [_plain(dynamo.from_item(item)) for item in answer["Items"]], following

    def lives(self) -> dict[str, tuple[str, str]]:
        """Return when each workflow was created and, where it was, deleted (else `""`): also those that are deleted,
        whose usage stays. Eventually consistent."""
        lives: dict[str, tuple[str, str]] = {}
        for listed in ("deleted", "all"):
            pages = (
                self._client()
                .get_paginator("query")
                .paginate(
                    TableName=self._table,
                    IndexName=BY_UPDATED,
                    KeyConditionExpression="listed = :listed",
                    ExpressionAttributeValues={":listed": {"S": listed}},
                    ProjectionExpression="workflow_id, created_at, since, updated_at",
                )
            )
            for item in (dynamo.from_item(item) for page in pages for item in page["Items"]):
                since = str(item.get("since") or item.get("created_at") or "")
                lives[item["workflow_id"]] = (since, str(item["updated_at"]) if listed == "deleted" else "")
        return lives

    def set_status(self, workflow_id: str, status: WorkflowStatus) -> WorkflowItem:
        """Pause or resume a workflow; returns the current item. Raises `WorkflowNotFound`."""
        if not _possible(workflow_id):
            raise _not_found(workflow_id)
        values = {"status": status, "updated_at": now_text()}
        item = self._update(
            workflow_id, values, condition="attribute_exists(#definition)", names={"#definition": "definition"}
        )
        if item is None:
            raise _not_found(workflow_id)
        return item

    def delete(self, workflow_id: str) -> None:
        """Delete a workflow with all its versions; once this was interrupted, repeating it ends it. Raises
        `WorkflowNotFound` where there is none, or none any more. The caller sees to active runs and to routes."""
        current = self._read(workflow_id, 0)
        if current is None:
            raise _not_found(workflow_id)
        base, existed = current["current_version"], "definition" in current
        versions = self.versions(workflow_id)
        if existed:
            # Past every number in use, also by a push that has written its version but not yet turned to it.
            last = max([base, *versions])
            values = {"current_version": last, "listed": "deleted", "updated_at": now_text()}
            turned = self._update(
                workflow_id,
                values,
                initial={"since": current.get("created_at")},
                remove=("name", "description", "status", "definition", "created_at"),
                condition="current_version = :base",
                parameters={":base": base},
            )
            if turned is None:
                raise VersionConflict(f"Workflow '{workflow_id}' was changed meanwhile; try again.")
        for version in versions:
            key = dynamo.to_item({"workflow_id": workflow_id, "version": version})
            self._client().delete_item(TableName=self._table, Key=key)
        if not existed:
            raise _not_found(workflow_id)

    def _client(self) -> Any:
        if self._dynamodb is None:
            self._dynamodb = clients.client("dynamodb")
        return self._dynamodb

    def _read(self, workflow_id: str, version: int) -> WorkflowItem | None:
        if not _possible(workflow_id):
            return None
        item = (
            self._client()
            .get_item(
                TableName=self._table,
                Key=dynamo.to_item({"workflow_id": workflow_id, "version": version}),
                ConsistentRead=True,  # a run may start in the moment after the push
            )
            .get("Item")
        )
        return _plain(dynamo.from_item(item)) if item else None

    def _write_version(self, workflow_id: str, version: int, content: dict[str, Any]) -> int:
        """Write the first free version from `version` on; returns its number. A number that is taken belongs to
        another push, alive or dead: it is never written over."""
        now = now_text()
        for number in range(version, version + _ATTEMPTS):
            item = {"workflow_id": workflow_id, "version": number, **content, "created_at": now, "updated_at": now}
            if dynamo.put_new(self._client(), self._table, numbers.exact(item), "workflow_id"):
                return number
        raise VersionConflict(f"Workflow '{workflow_id}' is being changed by many at once; try again.")

    def _turn(self, workflow_id: str, base: int, version: int, content: dict[str, Any]) -> WorkflowItem | None:
        """Make `version` the current one if `base` still is; `None` where somebody was faster."""
        now = now_text()
        return self._update(
            workflow_id,
            {**content, "current_version": version, "updated_at": now, "listed": "all"},
            initial={"created_at": now, "status": "active"},
            condition="current_version = :base" if base else "attribute_not_exists(workflow_id)",
            parameters={":base": base} if base else None,
        )

    def _update(self, workflow_id: str, values: dict[str, Any], **how: Any) -> WorkflowItem | None:
        """Change version 0 as `dynamo.update` does; the item as it is then, `None` where the condition did not hold."""
        key = {"workflow_id": workflow_id, "version": 0}
        done, item = dynamo.update(self._client(), self._table, key, numbers.exact(values), **how)
        return _plain(item) if done else None


def _possible(workflow_id: str) -> bool:
    """Return whether DynamoDB takes it as a key at all; it answers anything else with an error of its own."""
    return isinstance(workflow_id, str) and 0 < len(workflow_id) <= 128


def _not_found(workflow_id: str, version: int = 0) -> WorkflowNotFound:
    which = f"version {version} of workflow" if version else "workflow"
    error = WorkflowNotFound(f"There is no {which} '{str(workflow_id)[:128]}'.")
    error.workflow_id = "" if version else str(workflow_id)[:128]
    return error


def _plain(item: dict[str, Any]) -> WorkflowItem:
    plain: WorkflowItem = numbers.plain(item)
    return plain
