"""Values of parameters: what CloudFormation takes, and what it says to the rest."""

from __future__ import annotations

from typing import Any

import pytest

from loopllama_cli.local.parameters import ParameterRefused, check_parameters
from loopllama_cli.local.template import TemplateError, load
from loopllama_cli.project import project_root

TEXT, NUMBER = {"Type": "String"}, {"Type": "Number"}


@pytest.mark.parametrize(
    ("declared", "value", "says"),
    [
        ({**TEXT, "AllowedPattern": "[a-z]+"}, "abc", None),
        ({**TEXT, "AllowedPattern": "[a-z]+"}, "abc1", "Parameter 'P' must match pattern [a-z]+"),
        ({**TEXT, "AllowedPattern": "[a-z]*"}, "abc\n", "Parameter 'P' must match pattern [a-z]*"),
        ({**TEXT, "AllowedPattern": "a", "ConstraintDescription": "be a"}, "b", "P failed to satisfy constraint: be a"),
        ({**TEXT, "AllowedValues": ["a", "b"]}, "b", None),
        ({**TEXT, "AllowedValues": ["a", "b"]}, "B", "Parameter 'P' must be one of AllowedValues"),
        ({**NUMBER, "AllowedValues": [1, 3]}, "3", None),
        ({**NUMBER, "AllowedValues": [1, 3]}, "2", "must be one of AllowedValues"),
        ({**TEXT, "MinLength": 2}, "a", "Parameter 'P' must contain at least 2 characters"),
        ({**TEXT, "MaxLength": 2}, "äöü", "Parameter 'P' must contain at most 2 characters"),
        ({**TEXT, "MaxLength": 3}, "äöü", None),
        (NUMBER, "1.5", None),
        (NUMBER, "-2e3", None),
        (NUMBER, "", "Parameter 'P' must be a number"),
        (NUMBER, "NaN", "must be a number"),
        (NUMBER, "1,5", "must be a number"),
        ({**NUMBER, "MinValue": 0.1}, "0.1", None),
        ({**NUMBER, "MinValue": 0.1}, "0.09", "Parameter 'P' must be a number not less than 0.1"),
        ({**NUMBER, "MaxValue": 40}, "40", None),
        ({**NUMBER, "MaxValue": 40}, "41", "Parameter 'P' must be a number not greater than 40"),
        ({"Type": "List<Number>", "MaxValue": 5}, "1, 2,5", None),
        ({"Type": "List<Number>", "MaxValue": 5}, "1,6", "must be a number not greater than 5"),
        ({"Type": "List<Number>"}, "1,a", "must be a number"),
        ({"Type": "CommaDelimitedList"}, "", None),
        ({"Type": "CommaDelimitedList", "AllowedPattern": "a"}, "a", "may have no AllowedPattern"),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, "subnet-1a, subnet-2b", None),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, "", "has the value '', which does not exist"),
        ({"Type": "List<AWS::EC2::SecurityGroup::Id>"}, "sg-1,subnet-2", "has the value 'subnet-2'"),
        ({"Type": "AWS::EC2::VPC::Id"}, "vpc-12", None),
        (TEXT, "a" * 4097, "must be at most 4096 bytes long"),
    ],
)
def test_values(declared: dict[str, Any], value: str, says: str | None) -> None:
    if says is None:
        check_parameters({"P": declared}, {"P": value})
        return
    with pytest.raises(ParameterRefused) as refused:
        check_parameters({"P": declared}, {"P": value})
    assert says in str(refused.value)


def test_defaults_are_checked_and_must_be_there() -> None:
    check_parameters({"P": {**NUMBER, "Default": 5, "MaxValue": 5}}, {})
    with pytest.raises(ParameterRefused, match="not greater than 4"):
        check_parameters({"P": {**NUMBER, "Default": 5, "MaxValue": 4}}, {})
    with pytest.raises(ParameterRefused, match=r"Parameters: \[P, Q\] must have values"):
        check_parameters({"P": TEXT, "Q": NUMBER}, {})


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"Stage": "Prod"}, r"Parameter 'Stage' must match pattern"),
        ({"MaxConcurrency": "41"}, r"Parameter 'MaxConcurrency' must be a number not greater than 40"),
        ({"LogRetentionDays": "8"}, r"Parameter 'LogRetentionDays' must be one of AllowedValues"),
        ({"DefaultModel": ""}, r"Parameter 'DefaultModel' must contain at least 1 characters"),
        ({"KmsKeyArn": "alias/mine"}, r"Parameter 'KmsKeyArn' must match pattern"),
        ({"BedrockArns": "gr-1"}, r"Parameter 'BedrockArns' must match pattern"),
    ],
)
def test_the_local_stack_refuses_them(parameters: dict[str, str], says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        load(project_root(), parameters, {}, lambda kind: True)
