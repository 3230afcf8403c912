"""What template.yaml says about itself: parameters, outputs, tables, queues, alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from loopllama_cli.docgen import markdown
from loopllama_cli.project import project_root


def parameters() -> str:
    """Return the parameters with their defaults, what they may be, and what they do."""
    rows = (
        [
            f"`{name}`",
            f"`{parameter['Default']}`" if parameter["Default"] != "" else "",
            _allowed(parameter),
            parameter["Description"],
        ]
        for name, parameter in _template()["Parameters"].items()
    )
    return markdown.table(["parameter", "default", "may be", "what it does"], rows)


def outputs() -> str:
    """Return the stack's outputs."""
    rows = ([f"`{name}`", output["Description"]] for name, output in _template()["Outputs"].items())
    return markdown.table(["output", "what it is"], rows)


def tables() -> str:
    """Return the tables with their keys and indexes, and what they keep."""
    rows = []
    for name, properties in _resources("AWS::DynamoDB::Table"):
        kinds = {
            attribute["AttributeName"]: attribute["AttributeType"] for attribute in properties["AttributeDefinitions"]
        }
        indexes = (
            f"`{index['IndexName']}`: {_key(index, kinds)}" for index in properties.get("GlobalSecondaryIndexes", ())
        )
        lives = properties.get("TimeToLiveSpecification", {}).get("AttributeName")
        recovery = properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled")
        rows.append(
            [
                f"`{name}`",
                _key(properties, kinds),
                "; ".join(indexes),
                f"`{lives}`" if lives else "",
                "yes" if "StreamSpecification" in properties else "",
                "yes" if recovery else "no",
            ]
        )
    return markdown.table(["table", "key", "indexes", "time to live", "stream", "point-in-time recovery"], rows)


def queues() -> str:
    """Return the queues of what got lost, with who sends to them."""
    senders: dict[str, list[str]] = {}
    resources = _template()["Resources"]
    for name, resource in resources.items():
        if resource["Type"].startswith("AWS::Serverless::") or resource["Type"] == "AWS::Lambda::EventSourceMapping":
            for queue in sorted(set(_arns(resource["Properties"]))):
                function = resource["Properties"].get("FunctionName", {}).get("Ref", name)
                if function not in senders.setdefault(queue, []):
                    senders[queue].append(function)
    rows = (
        [f"`{name}`", markdown.names(senders.get(name, ())), f"{properties['MessageRetentionPeriod'] // 86400} days"]
        for name, properties in _resources("AWS::SQS::Queue")
    )
    return markdown.table(["queue", "of the functions", "keeps a message"], rows)


def alarms() -> str:
    """Return the alarms with what they say and from which figure on."""
    rows = (
        [
            f"`{name}`",
            properties["AlarmDescription"],
            f"`{threshold['Ref']}`" if isinstance(threshold, dict) else str(threshold),
        ]
        for name, properties in _resources("AWS::CloudWatch::Alarm")
        for threshold in [properties["Threshold"]]
    )
    return markdown.table(["alarm", "says", "from"], rows)


@lru_cache(maxsize=1)
def _template() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse((project_root() / "template.yaml").read_text("utf-8"))
    return parsed


def _resources(kind: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return (
        (name, resource["Properties"])
        for name, resource in _template()["Resources"].items()
        if resource["Type"] == kind
    )


def _allowed(parameter: Mapping[str, Any]) -> str:
    if "AllowedValues" in parameter:
        values = [f"`{value}`" for value in parameter["AllowedValues"]]
        return ", ".join(values if len(values) < 8 else [*values[:4], "…", values[-1]])
    least, most = parameter.get("MinValue"), parameter.get("MaxValue")
    if least is not None:
        return f"{least:,} to {most:,}" if most is not None else f"{least:,} or more"
    if "AllowedPattern" in parameter:
        return f"`{parameter['AllowedPattern']}`"
    return f"at most {parameter['MaxLength']:,} characters" if "MaxLength" in parameter else "text"


def _key(schema: Mapping[str, Any], kinds: Mapping[str, str]) -> str:
    return ", ".join(f"`{key['AttributeName']}` ({kinds[key['AttributeName']]})" for key in schema["KeySchema"])


def _arns(value: Any) -> Iterable[str]:
    """Yield the queues whose addresses stand in `value`."""
    if isinstance(value, dict):
        if "Fn::GetAtt" in value:
            name = value["Fn::GetAtt"]
            name = name.split(".")[0] if isinstance(name, str) else name[0]
            if name.startswith("Lost"):
                yield name
        for inner in value.values():
            yield from _arns(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _arns(inner)
