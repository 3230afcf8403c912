"""Workflow definitions in as few words as a test has, and what is said of wrong ones."""

import pytest

from loopllama.errors import WorkflowInvalid
from loopllama.workflows.schema import Workflow


def agent(role="Writer", **fields):
    return {"role": role, "systemPrompt": "Write.", **fields}


def crew_of(*agents):
    return Workflow(name="Test", crew=list(agents)).to_definition()["crew"]


def refused(*agents, **fields):
    """Field to message of everything that is wrong."""
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.model_validate({"name": "Test", **({"crew": list(agents)} if agents else {}), **fields})
    details = caught.value.details
    first = f"The workflow cannot run: {details[0]['field']}: {details[0]['message']}"
    assert str(caught.value).startswith(first)
    return {str(detail["field"]): str(detail["message"]) for detail in details}
