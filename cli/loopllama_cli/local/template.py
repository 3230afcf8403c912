"""The project's SAM template, made ready for moto's CloudFormation.

Reads template.yaml, puts local folders where AWS has S3 addresses, transforms it with the SAM translator and takes out
what moto cannot create: the HTTP APIs, whose routes are served here, and resources that change nothing locally.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopllama_cli.local.parameters import ParameterRefused, check_parameters
from loopllama_cli.local.patterns import PatternRefused, check_event_pattern, check_filters

DROPPED = {
    "AWS::ApiGateway::": "routes are served on the API port",
    "AWS::ApiGatewayV2::": "routes are served on the API port",
    "AWS::Lambda::LayerVersion": "layers are read from their source folder",
    "AWS::Lambda::EventInvokeConfig": "applied to the function",
    "AWS::CloudWatch::Alarm": "nothing evaluates alarms locally",
    "AWS::CloudWatch::CompositeAlarm": "nothing evaluates alarms locally",
    "AWS::Logs::MetricFilter": "metrics come from embedded metric format",
    "AWS::Logs::QueryDefinition": "Logs Insights is not there",
    "AWS::SQS::QueuePolicy": "permissions are not checked",
    "AWS::SNS::TopicPolicy": "permissions are not checked",
    "AWS::S3::BucketPolicy": "permissions are not checked",
    "AWS::Lambda::Permission": "permissions are not checked",
    "AWS::Events::EventBusPolicy": "permissions are not checked",
    "AWS::SecretsManager::ResourcePolicy": "permissions are not checked",
    "AWS::XRay::": "there is no X-Ray",
    "AWS::ApplicationInsights::": "there is no Application Insights",
    "AWS::ResourceGroups::": "there are no resource groups",
    "AWS::Budgets::": "nothing is billed",
}
"""Types (or, ending in `::`, families of types) that are left out, and why that changes nothing."""


class TemplateError(Exception):
    """The template cannot run locally; the message says what to do."""


@dataclass(frozen=True)
class Route:
    """One route of the HTTP API: `path` as in the template (`/v1/runs/{id}`, `/{proxy+}`), `method` in capitals."""

    method: str
    path: str
    function: str
    version: str
    """Of the proxy event: 1.0 or 2.0."""


@dataclass
class Template:
    body: dict[str, Any]
    """CloudFormation that moto can create."""
    parameters: dict[str, str] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Why resources were left out, and their logical ids."""


def load(
    project: Path, parameters: dict[str, str], defaults: dict[str, str], supported: Callable[[str], bool]
) -> Template:
    """Read and transform `project`/template.yaml.

    `defaults` go to those parameters that the template has and `parameters` does not; `supported(type)` says what moto
    can create. Raises `TemplateError`."""
    path = project / "template.yaml"
    try:
        text = path.read_text()
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}. The local stack needs the project's SAM template.") from error
    source = _parse(text, path)
    unknown = sorted(set(parameters) - set(source.get("Parameters", {})))
    if unknown:
        known = ", ".join(sorted(source.get("Parameters", {}))) or "none"
        raise TemplateError(f"{path} has no parameter {', '.join(unknown)}. It has: {known}.")
    parameters = {**{name: defaults[name] for name in defaults if name in source.get("Parameters", {})}, **parameters}
    try:
        check_parameters(source.get("Parameters", {}), parameters)
    except ParameterRefused as refused:
        raise TemplateError(f"{path}: {refused}.") from refused
    routes = _routes(source)
    layers = _localise(source, project)
    body = _transform(source, parameters, path)
    _check_patterns(body)
    template = Template(body, parameters, routes)
    _prepare(template, layers, project)
    _drop(template, supported)
    return template


def localise_urls(template: Template, api_url: str) -> None:
    """Put the local address where the template says that of an API."""
    text = re.sub(
        r"https://[a-z0-9]+local\.execute-api\.(\$\{AWS::Region\}|[a-z0-9-]+)\.(\$\{AWS::URLSuffix\}|amazonaws\.com)"
        r"(/(Prod|Stage|[a-z0-9]+local)(?=[/\"]))?",
        api_url,
        json.dumps(template.body),
    )
    template.body = json.loads(text)


def parse(text: str) -> Any:
    """Read YAML, CloudFormation's short tags written out (`{"Ref": …}`). Raises `yaml.YAMLError`."""
    import yaml
    from samtranslator.yaml_helper import intrinsics_multi_constructor, yaml_parse

    quick = getattr(yaml, "CSafeLoader", None)  # a tenth of the time, where PyYAML was built with libyaml
    if quick is None:
        return yaml_parse(text)
    loader: Any = type("_Loader", (quick,), {})
    loader.add_multi_constructor("!", intrinsics_multi_constructor)
    try:
        return yaml.load(text, loader)  # noqa: S506 - safe loader
    except yaml.YAMLError:
        return yaml_parse(text)  # refuses it too, and shows the line


def _parse(text: str, path: Path) -> dict[str, Any]:
    import yaml

    try:
        source = parse(text)
    except yaml.YAMLError as error:
        raise TemplateError(f"{path}: {error}") from error
    if not isinstance(source, dict) or not isinstance(source.get("Resources"), dict):
        raise TemplateError(f"{path}: a template with Resources is needed.")
    return source


def _localise(source: dict[str, Any], project: Path) -> dict[str, str]:
    """Replace local folders by S3 addresses that carry them, and definitions by their text. Returns each layer's
    folder by logical id."""
    defaults = source.get("Globals", {}).get("Function", {})
    layers: dict[str, str] = {}
    for name, resource in source["Resources"].items():
        properties = resource.setdefault("Properties", {})
        kind = resource["Type"]
        if kind == "AWS::Serverless::Function":
            uri = properties.get("CodeUri", defaults.get("CodeUri", "."))
            properties["CodeUri"] = {"Bucket": "local", "Key": str(_folder(project, uri, name))}
        elif kind == "AWS::Serverless::LayerVersion":
            folder = _folder(project, properties.get("ContentUri", "."), name)
            layers[name] = str(folder / "python" if (folder / "python").is_dir() else folder)
            properties["ContentUri"] = {"Bucket": "local", "Key": str(folder)}
        elif kind == "AWS::Serverless::StateMachine" and isinstance(uri := properties.get("DefinitionUri"), str):
            file = project / uri
            try:
                properties["Definition"] = json.loads(file.read_text())
            except (OSError, ValueError) as error:
                raise TemplateError(f"{name}: cannot read the state machine {file}: {error}") from error
            del properties["DefinitionUri"]
    source.get("Globals", {}).get("Function", {}).pop("CodeUri", None)
    return layers


def _folder(project: Path, uri: Any, name: str) -> Path:
    folder = (project / uri).resolve() if isinstance(uri, str) else None
    if folder is None or not folder.is_dir():
        raise TemplateError(f"{name}: {uri!r} is not a folder of the project. Give CodeUri or ContentUri a local path.")
    return folder


def _routes(source: dict[str, Any]) -> list[Route]:
    routes = []
    for name, resource in source["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        for event in resource.get("Properties", {}).get("Events", {}).values():
            properties = event.get("Properties", {})
            if event["Type"] == "Api":
                routes.append(Route(properties["Method"].upper(), properties["Path"], name, "1.0"))
            elif event["Type"] == "HttpApi":
                version = str(properties.get("PayloadFormatVersion", "2.0"))
                path, method = properties.get("Path", "/{proxy+}"), properties.get("Method", "ANY").upper()
                routes.append(Route(method, path, name, version))
    return routes


class _NoManagedPolicies:
    """Managed policies are permissions, and permissions are not checked: any name gets an ARN."""

    def load(self) -> dict[str, str]:
        return {}


def _transform(source: dict[str, Any], parameters: dict[str, str], path: Path) -> dict[str, Any]:
    from samtranslator.public.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    try:
        body = transform(copy.deepcopy(source), dict(parameters), _NoManagedPolicies())
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes)
        raise TemplateError(f"{path} is not a valid SAM template: {causes}. Try `sam validate --lint`.") from error
    return json.loads(json.dumps(body))  # type: ignore[no-any-return]


def _check_patterns(body: dict[str, Any]) -> None:
    for name, resource in body["Resources"].items():
        properties = resource.get("Properties", {})
        try:
            if resource["Type"] == "AWS::Lambda::EventSourceMapping":
                check_filters(properties.get("FilterCriteria") or {})
            elif resource["Type"] == "AWS::Events::Rule" and "EventPattern" in properties:
                check_event_pattern(properties["EventPattern"])
        except PatternRefused as refused:
            raise TemplateError(f"{name}: {refused}.") from refused


def _prepare(template: Template, layers: dict[str, str], project: Path) -> None:
    """Give functions their folders and what else belongs to them."""
    resources = template.body["Resources"]
    for resource in resources.values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Lambda::Function":
            used = [reference["Ref"] for reference in properties.pop("Layers", []) if "Ref" in reference]
            folders = [folder for ref in used for name, folder in layers.items() if ref == name or _hashed(ref, name)]
            properties["Local"] = {"Directory": properties["Code"].get("S3Key", str(project)), "Layers": folders}
        elif resource["Type"] == "AWS::Lambda::EventInvokeConfig":
            target = properties["FunctionName"].get("Ref") if isinstance(properties["FunctionName"], dict) else None
            if target in resources:
                config = {key: properties[key] for key in properties if key not in ("FunctionName", "Qualifier")}
                resources[target]["Properties"]["EventInvokeConfig"] = config


def add_functions(template: Template, functions: Mapping[str, Sequence[str]]) -> None:
    """Add Lambda functions to a template that is prepared: name to folder and handler. They have a role that
    permits nothing, and no variables of their own. Raises `TemplateError` for a name that the template gives."""
    resources = template.body["Resources"]
    taken = [resource.get("Properties", {}).get("FunctionName") for resource in resources.values()]
    if functions:
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = {"Version": "2012-10-17", "Statement": [trust]}
        resources["LocalToolRole"] = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": document}}
    for place, (name, (directory, handler)) in enumerate(functions.items()):
        if name in taken:
            raise TemplateError(f"the template has a function {name!r} itself: give the tool's another name")
        resources[f"LocalToolFunction{place}"] = {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": name,
                "Handler": handler,
                "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
                "Role": {"Fn::GetAtt": ["LocalToolRole", "Arn"]},
                "MemorySize": 1024,
                "Timeout": 900,  # a call ends with its tool's own time
                "Code": {"S3Bucket": "local", "S3Key": directory},
                "Local": {"Directory": directory, "Layers": []},
            },
        }


def _hashed(logical_id: str, name: str) -> bool:
    """SAM names a layer version by the layer and ten hexadecimal digits."""
    return re.fullmatch(re.escape(name) + "[0-9a-f]{10}", logical_id) is not None


def _drop(template: Template, supported: Callable[[str], bool]) -> None:
    resources = template.body["Resources"]
    names: dict[str, str] = {}
    for name, resource in list(resources.items()):
        kind = resource["Type"]
        reason = next(
            (DROPPED[key] for key in DROPPED if kind == key or (key.endswith("::") and kind.startswith(key))), ""
        )
        if not reason and not supported(kind):
            raise TemplateError(
                f"{name} is a {kind}, which the local stack cannot create. If the system runs without it, add the type "
                "to DROPPED in loopllama_cli/local/template.py; if not, run the function that needs it against AWS."
            )
        if reason:
            template.dropped.setdefault(reason, []).append(name)
            names[name] = f"{name.lower()[:40]}local"
            del resources[name]
    template.body = _without(template.body, names)
    for resource in template.body["Resources"].values():
        depends = resource.get("DependsOn", [])
        depends = [depends] if isinstance(depends, str) else depends
        resource["DependsOn"] = [name for name in depends if name not in names]


def _without(node: Any, names: dict[str, str]) -> Any:
    """Return the template with references to left-out resources replaced by stand-in names."""
    if isinstance(node, list):
        return [_without(part, names) for part in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Ref"} and node["Ref"] in names:
        return names[node["Ref"]]
    if node.keys() == {"Fn::GetAtt"}:
        path = node["Fn::GetAtt"]
        owner, _, attribute = path.partition(".") if isinstance(path, str) else (path[0], "", ".".join(path[1:]))
        if owner in names:
            return f"{names[owner]}-{attribute}"
    if node.keys() == {"Fn::Sub"}:
        text, *rest = node["Fn::Sub"] if isinstance(node["Fn::Sub"], list) else [node["Fn::Sub"]]
        text = re.sub(
            r"\$\{([A-Za-z0-9]+)((?:\.[A-Za-z0-9.]+)?)\}",
            lambda match: names[match[1]] + match[2].replace(".", "-") if match[1] in names else match[0],
            text,
        )
        return {"Fn::Sub": [text, *_without(rest, names)] if rest else text}
    return {key: _without(value, names) for key, value in node.items()}
