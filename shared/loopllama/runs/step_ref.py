"""What one invocation of RunStep is asked to do, and how the record names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from loopllama import CONTRACT
from loopllama.errors import ContractUnknown
from loopllama.workflows import graph

if TYPE_CHECKING:
    from loopllama.runs.records import Number, Run, StepRecord, WorkPayload
    from loopllama.workflows.types import CrewStep

QUESTION_ID = 16
"""Characters of a question's id."""
ITERATION = "iteration_"
"""Prefix of the run's attributes that say in which iteration a loop is."""
LINE, ALONE = -2, -1
"""Depths of a chain beside which no other runs: a line, whose steps the state machine takes without asking what is
next, and the only chain of a run (`engine/lone_chain.py`)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one RunStep invocation is asked to do: one step of one run. `depth` is 0 in one of a round's chains, 1 in a
    fork inside it, `LINE` or `ALONE` where no other chain runs. `contract` is that of the execution's state machine."""

    run_id: str
    workflow_id: str
    version: int
    step: str
    iteration: int = 0
    item: int = 0
    depth: int = 0
    contract: int = CONTRACT

    def to_payload(self) -> WorkPayload:
        """Return the state machine's form."""
        return {
            "contract": self.contract,
            "run_id": self.run_id,
            "workflow": self.workflow_id,
            "version": self.version,
            "step": self.step,
            "iteration": self.iteration,
            "item": self.item,
            "depth": self.depth,
        }

    @classmethod
    def from_payload(cls, payload: WorkPayload) -> Work:
        """Read what the state machine hands over."""
        return cls(
            run_id=payload["run_id"],
            workflow_id=payload["workflow"],
            version=int(payload["version"]),
            step=payload["step"],
            iteration=int(payload.get("iteration", 0)),
            item=int(payload.get("item", 0)),
            depth=int(payload.get("depth", 0)),
            contract=contract_of(payload),
        )

    @classmethod
    def of_item(cls, run: Run, item: StepRecord) -> Work:
        """Return the work that a step's item is the record of."""
        _, step, iteration, number = item["item"].split("#")
        return cls(
            run["run_id"], run["workflow_id"], int(run.get("workflow_version", 0)), step, int(iteration), int(number)
        )

    def other(self, step: str, iteration: int) -> Work:
        """Another step of the same chain."""
        return replace(self, step=step, iteration=iteration, item=0)

    @property
    def parent(self) -> Work:
        """The forEach step itself, of which this is one item's turn."""
        return replace(self, item=0)

    @property
    def key(self) -> str:
        """The step's item in the run's record."""
        return step_key(self.step, self.iteration, self.item)


def step_key(name: str, iteration: int = 0, item: int = 0) -> str:
    """Return the sort key of a step's item."""
    return f"STEP#{name}#{iteration}#{item}"


def iteration_of(run: Run, crew: Sequence[CrewStep], name: str) -> int:
    """Return the iteration of a step that counts now, as the run's item says it."""
    loop = graph.loop_of(crew, name)
    return int(cast("Mapping[str, Number]", run).get(ITERATION + loop["name"], 0)) if loop else 0


def question_id(item: str, key: str) -> str:
    """Return what names a question to those who answer it: the step's `item` asks it under `key`."""
    return hashlib.sha256(f"{item}/{key}".encode()).hexdigest()[:QUESTION_ID]


def contract_of(payload: Mapping[str, Any]) -> int:
    """Return the contract of the state machine that a payload comes from. Raises `ContractUnknown` for one of a newer
    version: guessing what it means would take steps in a wrong order."""
    contract = int(payload.get("contract", 1))
    if contract > CONTRACT:
        raise ContractUnknown(
            f"the execution began in a newer version (its contract is {contract}, this one's {CONTRACT}): upgrade "
            "again, then loopllama runs redrive RUN"
        )
    return contract
