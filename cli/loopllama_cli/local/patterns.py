"""Event patterns: the operators that AWS documents for EventBridge's rules and for filters of event source mappings.

moto matches both with one matcher, which takes more than either; what is documented for neither, or for the other one
only, is refused here before the stack is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_SIMPLE: dict[str, Callable[[Any], bool]] = {
    "prefix": lambda value: isinstance(value, str),
    "suffix": lambda value: isinstance(value, str),
    "equals-ignore-case": lambda value: isinstance(value, str),
    "exists": lambda value: isinstance(value, bool),
    "numeric": lambda value: _is_numeric(value),
    "anything-but": lambda value: _is_scalars(value),
}
"""What both take. https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html#filtering-syntax"""
_INNER = ("prefix", "suffix", "equals-ignore-case", "wildcard")
MAX_FILTERS = 5
"""Of one event source mapping; an account may ask for 10."""
MAX_FILTER = 4096
"""Characters of a filter's pattern.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-lambda-eventsourcemapping-filter.html"""


class PatternRefused(Exception):
    """AWS documents no such pattern; the message says where it stands and why."""


def check_filters(criteria: Mapping[str, Any]) -> None:
    """Check the `FilterCriteria` of an event source mapping. Raises `PatternRefused`."""
    filters = criteria.get("Filters") or []
    if len(filters) > MAX_FILTERS:
        raise PatternRefused(f"has {len(filters)} filters; an event source mapping may have {MAX_FILTERS}")
    for one in filters:
        text = one.get("Pattern")
        if not isinstance(text, str) or len(text) > MAX_FILTER:
            raise PatternRefused(f"a filter's Pattern must be text of at most {MAX_FILTER} characters")
        try:
            pattern = json.loads(text)
        except ValueError as error:
            raise PatternRefused(f"a filter's Pattern is not JSON: {error}") from error
        _check(pattern, "", _is_for_lambda)


def check_event_pattern(pattern: Any) -> None:
    """Check the pattern of a rule of EventBridge. Raises `PatternRefused`.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html"""
    _check(pattern, "", _is_for_rules)


def _check(pattern: Any, path: str, allowed: Callable[[str, Any], bool]) -> None:
    where = path or "the pattern"
    if not isinstance(pattern, Mapping) or not pattern:
        raise PatternRefused(f"{where} must be an object of names")
    for name, inner in pattern.items():
        here = f"{path}.{name}" if path else str(name)
        if name == "$or":
            if not isinstance(inner, list) or len(inner) < 2:
                raise PatternRefused(f"{here} must be a list of two or more patterns")
            for one in inner:
                _check(one, here, allowed)
        elif isinstance(inner, Mapping) and _is_reference(inner):
            continue
        elif isinstance(inner, list):
            for value in inner:
                _check_value(value, here, allowed)
        else:
            _check(inner, here, allowed)


def _check_value(value: Any, where: str, allowed: Callable[[str, Any], bool]) -> None:
    if value is None or isinstance(value, (str, int, float)) or _is_reference(value):
        return
    if not isinstance(value, Mapping) or len(value) != 1:
        raise PatternRefused(f"{where} must list values, or objects of one operator each")
    ((operator, operand),) = value.items()
    if not allowed(operator, operand):
        raise PatternRefused(f"{where}: AWS documents no operator {json.dumps({operator: operand})} here")


def _is_for_lambda(operator: str, operand: Any) -> bool:
    return operator in _SIMPLE and _SIMPLE[operator](operand)


def _is_for_rules(operator: str, operand: Any) -> bool:
    if _is_for_lambda(operator, operand):
        return True
    if operator in ("prefix", "suffix"):
        return _is_one(operand, ("equals-ignore-case",))
    if operator in ("wildcard", "cidr"):
        return isinstance(operand, str)
    return operator == "anything-but" and _is_one(operand, _INNER)


def _is_one(operand: Any, operators: tuple[str, ...]) -> bool:
    """Return whether an operand is one operator on a text or on several."""
    if not isinstance(operand, Mapping) or len(operand) != 1:
        return False
    ((operator, inner),) = operand.items()
    texts = inner if isinstance(inner, list) and inner else [inner]
    return operator in operators and all(isinstance(text, str) for text in texts)


def _is_scalars(value: Any) -> bool:
    values = value if isinstance(value, list) and value else [value]
    return all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in values)


def _is_numeric(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (2, 4):
        return False
    signs, numbers = value[::2], value[1::2]
    return all(sign in ("=", "<", "<=", ">", ">=") for sign in signs) and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers
    )


def _is_reference(value: Any) -> bool:
    """Return whether the template says what stands here when the stack is made."""
    return (
        isinstance(value, Mapping) and len(value) == 1 and (next(iter(value)) == "Ref" or "Fn::" in next(iter(value)))
    )
