"""Values of a template's parameters, checked as CloudFormation checks them before it makes anything.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html says which constraint
holds for which type. The messages are CloudFormation's, as reported: ministack pull request 1648 measured that of a
pattern; aws-cli issue 7750 quotes a `ConstraintDescription`. That issue also reports that an `AllowedPattern` refuses
every value of a CommaDelimitedList, against the documentation: such a template is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

MAX_BYTES = 4096
_LIST = re.compile(r"List<(.+)>")
_AWS_IDS = {
    "AWS::EC2::Subnet::Id": re.compile(r"subnet-[0-9a-f]+"),
    "AWS::EC2::SecurityGroup::Id": re.compile(r"sg-[0-9a-f]+"),
    "AWS::EC2::VPC::Id": re.compile(r"vpc-[0-9a-f]+"),
}
"""Types whose values must be there in the account. Here only their form is known, and that there is one."""


class ParameterRefused(Exception):
    """CloudFormation would refuse the value; the message is its own."""


def check_parameters(declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]) -> None:
    """Check the values of all parameters, those that are not given being their defaults. Raises `ParameterRefused`."""
    missing = [name for name, one in declared.items() if name not in given and "Default" not in one]
    if missing:
        raise ParameterRefused(f"Parameters: [{', '.join(missing)}] must have values")
    for name, one in declared.items():
        if "AllowedPattern" in one and one.get("Type") != "String":
            raise ParameterRefused(f"Parameter '{name}' may have no AllowedPattern: only a String is safe with one")
        reason = _wrong(one, str(given.get(name, one.get("Default"))))
        if reason and one.get("ConstraintDescription"):
            raise ParameterRefused(f"Parameter {name} failed to satisfy constraint: {one['ConstraintDescription']}")
        if reason:
            raise ParameterRefused(f"Parameter '{name}' {reason}")


def _wrong(declared: Mapping[str, Any], value: str) -> str | None:
    kind = str(declared.get("Type", "String"))
    if len(value.encode()) > MAX_BYTES:
        return f"must be at most {MAX_BYTES} bytes long"
    listed = _LIST.fullmatch(kind)
    is_list = listed is not None or kind == "CommaDelimitedList"
    kind = listed[1] if listed else kind
    for part in [each.strip() for each in value.split(",")] if is_list else [value]:
        if reason := _wrong_part(declared, kind, part):
            return reason
    return None


def _wrong_part(declared: Mapping[str, Any], kind: str, value: str) -> str | None:
    if kind in _AWS_IDS and not _AWS_IDS[kind].fullmatch(value):
        return f"has the value '{value}', which does not exist"
    number = _number(value) if kind == "Number" else None
    if kind == "Number" and number is None:
        return "must be a number"
    allowed = declared.get("AllowedValues")
    if allowed is not None and value not in map(str, allowed):
        return "must be one of AllowedValues"
    if number is not None:
        if "MinValue" in declared and number < Decimal(str(declared["MinValue"])):
            return f"must be a number not less than {declared['MinValue']}"
        if "MaxValue" in declared and number > Decimal(str(declared["MaxValue"])):
            return f"must be a number not greater than {declared['MaxValue']}"
        return None
    if "MinLength" in declared and len(value) < int(declared["MinLength"]):
        return f"must contain at least {declared['MinLength']} characters"
    if "MaxLength" in declared and len(value) > int(declared["MaxLength"]):
        return f"must contain at most {declared['MaxLength']} characters"
    if "AllowedPattern" in declared and not re.fullmatch(declared["AllowedPattern"], value):
        return f"must match pattern {declared['AllowedPattern']}"
    return None


def _number(value: str) -> Decimal | None:
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
