"""A copy of a stack's workflows, routes, models and tools as files, and back: what `workflows export --all` writes and
`workflows push FOLDER` restores.

    models.yaml              entries of the Models table, by id
    tools.json               definitions of tools, by name, as `tools push` takes them
    workflows/<id>.yaml      a workflow file
    routes/<id>.yaml         its routes, as `routes export` writes them

Pushing a copy repeats nothing that is there already, so whoever was interrupted pushes it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from loopllama.catalog.entries import VALUES
from loopllama.catalog.store import CatalogStore
from loopllama.errors import InvalidRequest, LoopLlamaError
from loopllama.tools.store import ToolStore
from loopllama.workflows.store import DefinitionStore
from loopllama_cli import route_files, tool_files, workflow_files, yaml_text

if TYPE_CHECKING:
    from loopllama.settings import Settings

MODELS, TOOLS, WORKFLOWS, ROUTES = "models.yaml", "tools.json", "workflows", "routes"
_PAGE = 100


Kind = Literal["model", "tool", "workflow", "route"]


class Restored(TypedDict):
    """What became of a file, or of an entry of the models' or the tools'; `error` says why it is not in the stack."""

    kind: Kind
    id: str
    version: int | None
    error: str | None
    warnings: list[dict[str, object]]


def export(settings: Settings, folder: Path) -> list[str]:
    """Write a copy of a stack's workflows, routes, models and tools; returns the files, by their path in the folder.
    In a folder with an earlier copy, files of what is gone are deleted. Raises `InvalidRequest` for a folder with
    anything else in it."""
    others = [path.name for path in folder.iterdir()] if folder.exists() else []
    if others and MODELS not in others:
        raise InvalidRequest(f"{folder} is neither empty nor a copy that was written earlier: name another folder")
    entries = {
        str(item["model"]): {name: item[name] for name in VALUES if item.get(name) is not None}
        for item in CatalogStore(settings).items()
    }
    tools = {row["tool"]: tool_files.definition(row) for row in ToolStore(settings).rows()}
    files = {Path(MODELS): yaml_text.dump({"models": entries}), Path(TOOLS): tool_files.dump(tools) + "\n"}
    for item in _all(settings):
        workflow_id = item["workflow_id"]
        files[Path(WORKFLOWS) / f"{workflow_id}.yaml"] = workflow_files.dump(item)
        if routes := route_files.present(settings, workflow_id):
            files[Path(ROUTES) / f"{workflow_id}.yaml"] = route_files.dump(workflow_id, routes)
    for kind in (WORKFLOWS, ROUTES):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for path in (folder / kind).glob("*.yaml"):
            if path.relative_to(folder) not in files:
                path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return sorted(map(str, files))


def _all(settings: Settings) -> Iterator[Any]:
    store, cursor = DefinitionStore(settings), None
    while True:
        items, cursor = store.list(_PAGE, cursor)
        for item in items:
            yield store.get(item["workflow_id"])  # the index may lag behind
        if cursor is None:
            return


@dataclass
class Restore:
    """Pushes a copy into a stack: first the models and tools, then the workflows, then the routes, as each may name the
    ones before. `by` is who does it, for the histories."""

    settings: Settings
    folder: Path
    by: str
    reason: str = field(init=False)

    def __post_init__(self) -> None:
        self.reason = f"from {self.folder.resolve().name}"

    def run(self) -> Iterator[Restored]:
        """Restore all; what cannot be is told and left out."""
        if not (self.folder / MODELS).is_file():
            raise InvalidRequest(f"{self.folder} has no {MODELS}: it is no copy that `workflows export --all` wrote")
        yield from self._models()
        yield from self._tools()
        for path in _files(self.folder / WORKFLOWS):
            yield self._workflow(path)
        for path in _files(self.folder / ROUTES):
            yield self._routes(path)

    def _models(self) -> Iterator[Restored]:
        document = workflow_files.read(self.folder / MODELS, most=workflow_files.MAX_BYTES * 20)
        entries = document.get("models") if isinstance(document, dict) else None
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise InvalidRequest(f"{self.folder / MODELS} must hold models: a mapping of ids to their fields")
        # An alias may be written before what it stands for: as long as one round helps another follows.
        left, failed = dict(entries), dict.fromkeys(entries, "")
        while left:
            done = []
            for model, entry in left.items():
                try:
                    yield self._model(model, entry)
                    done.append(model)
                except LoopLlamaError as error:
                    failed[model] = str(error)
            if not done:
                break
            left = {model: entry for model, entry in left.items() if model not in done}
        for model in left:
            yield _restored("model", model, error=failed[model])

    def _model(self, model: str, entry: Mapping[str, Any]) -> Restored:
        store = CatalogStore(self.settings)
        there = store.get(model) or {}
        changes = {name: entry.get(name) for name in VALUES if entry.get(name) != there.get(name)}
        if changes:
            _, there = store.write(model, changes, updated_by=self.by, reason=self.reason)
        return _restored("model", model, there.get("version"))

    def _tools(self) -> Iterator[Restored]:
        path, store = self.folder / TOOLS, ToolStore(self.settings)
        if not path.is_file():
            return  # a copy of an earlier version
        for name, definition in tool_files.read(path).items():
            try:
                (written,) = store.write({name: definition}, updated_by=self.by, reason=self.reason)
                yield _restored("tool", name, written["version"])
            except LoopLlamaError as error:
                yield _restored("tool", name, error=str(error))

    def _workflow(self, path: Path) -> Restored:
        from loopllama.routing import validation

        try:
            file = workflow_files.load_file(path)
            item = workflow_files.push(self.settings, file)
        except LoopLlamaError as error:
            return _restored("workflow", path.stem, error=str(error))
        warnings = workflow_files.located(path, validation.warnings(self.settings, item["definition"]))
        return {**_restored("workflow", item["workflow_id"], item["current_version"]), "warnings": warnings}

    def _routes(self, path: Path) -> Restored:
        try:
            file = route_files.read(path)
            file.apply(self.settings, file.changes(self.settings, force=True), self.by, self.reason, force=True)
        except LoopLlamaError as error:
            return _restored("route", path.stem, error=str(error))
        return _restored("route", file.workflow)


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that may be somebody's, who has put others beside those that were written."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in (".yaml", ".yml", ".json"))


def _restored(kind: Kind, name: str, version: Any = None, error: str | None = None) -> Restored:
    number = None if version is None else int(version)
    return {"kind": kind, "id": name, "version": number, "error": error, "warnings": []}
