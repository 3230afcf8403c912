"""Every error that LoopLlama raises on purpose.

The names are a contract: the state machine's `ErrorEquals` and the records' `error.type` say them.

    LoopLlamaError
     +- InvalidRequest                what somebody handed in is invalid; `details` name the fields
     |   +- WorkflowInvalid
     |   +- RouteInvalid
     |   +- CatalogInvalid            an entry of the Models table or its bundled source
     |   +- ToolInvalid               a definition in the Tools table
     +- NotFound
     |   +- WorkflowNotFound
     |   +- RunNotFound
     |   +- ModelUnknown
     +- Conflict                      somebody was faster, or the thing is in another state
     |   +- WorkflowPaused
     |   +- VersionConflict
     |   +- LeaseLost                 another invocation holds the step; `until` says how long (epoch ms)
     +- ModelError                    a model call that gave no usable answer; each maps a provider's error
     |   +- ModelThrottled            next fallback, then retry_later; `retry_after` (s) from the provider
     |   |   +- ModelBusy             the same, by our own limit of calls at once: nothing was called, no retry is used
     |   +- ModelUnavailable          next fallback, then retry_later: connection, 5xx, overloaded
     |   +- ModelTimeout              next fallback, then retry_later, unless no invocation could give it more time
     |   +- ContextTooLong            next fallback, then the step fails
     |   +- ContentFiltered           next fallback, then the step fails: refusal or content filter
     |   +- InvalidModelResponse      once more where that may help, next fallback, then the step fails: empty or broken
     |   +- ModelRequestRejected      next fallback, then the step fails; at once where no model will take the request
     |       +- ModelNotAvailable     next fallback, then the step fails: no such model, not for this account
     |       +- CredentialsRejected   next fallback, then the step fails: missing or wrong key, with the command
     +- OutputInvalid                 the answer does not follow the step's outputSchema, repair included
     +- ToolFailed                    a tool's failure; handed to the model as text, never ends a step by itself
     +- TurnLimitExceeded             maxTurns or the step's timeoutSeconds is used up
     +- ItemsFailed                   more items of a forEach step failed than its maxFailures allows
     +- ApprovalDeclined              a person declined what waited for approval
     +- ApprovalTimedOut              nobody answered in time
     +- FunctionDied                  one invocation after the other died with the step; each may have paid a call
     +- BudgetExceeded                the next call does not fit a budget; a cheaper model is tried first
     +- NoEligibleModel               none of the step's candidates may be used; says why for each
     +- AwsUnavailable                an AWS service we stand on did not answer; the state machine tries again
     +- AwsRefused                    an AWS service would refuse this call again (permission, no such table): at once
     +- InternalError                 a mistake of ours in a function; its log says where
     +- ContractUnknown               an execution of a newer version's state machine asks an older function
     +- LineLeft                      RunStep raises it in a line of steps; AdvanceRun takes the run from there
     +- RunFailed                     AdvanceRun raises it, uncaught, so that the execution can be redriven
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


LONGEST_WAIT_SECONDS, PATIENCE_SECONDS = 900, 3600
"""How long a step waits in one piece, and altogether for a provider that turns it away. A quota of a minute that many
items share takes long."""


class LoopLlamaError(Exception):
    """Base of the tree. `str(error)` is one or more sentences for a person: what, where, what to do."""


class InvalidRequest(LoopLlamaError):
    """What somebody handed in is invalid.

    `details` is a list of `{"field": path, "message": what would be right}`, plus `"line"` (1-based) for files.
    """

    def __init__(self, message: str, details: Sequence[dict[str, object]] = ()) -> None:
        super().__init__(message)
        self.details = list(details)

    @classmethod
    def of(cls, field: str, message: str, *, subject: str = "", sentence: str = "") -> Self:
        """Return the error of one field. A person reads `field: message`; or `subject message.`, where the subject
        calls the field by another name; or the `sentence`."""
        if subject:
            sentence = f"{subject} {message}" + "." * (not message.endswith("?"))
        return cls.of_all([{"field": field, "message": message}], sentence)

    @classmethod
    def of_all(cls, details: Sequence[dict[str, object]], sentence: str = "") -> Self:
        """Return the error of several fields. A person reads the first, or the `sentence`."""
        return cls(sentence or "{field}: {message}".format_map(details[0]), details)


class WorkflowInvalid(InvalidRequest):
    """A workflow definition that cannot run."""


class RouteInvalid(InvalidRequest):
    """A row of the routes table, or a request to write one, that is invalid."""


class CatalogInvalid(InvalidRequest):
    """A catalog entry that is invalid."""


class ToolInvalid(InvalidRequest):
    """A definition in the deployment's tools that is invalid."""


class NotFound(LoopLlamaError):
    """The thing named does not exist."""


class WorkflowNotFound(NotFound):
    """No such workflow, or no such version of it. `workflow_id` is what was asked for, where there is none at all."""

    workflow_id = ""


class RunNotFound(NotFound):
    """No such run."""


class ModelUnknown(NotFound):
    """Neither a catalog id, nor an alias, nor `provider:model`."""


class Conflict(LoopLlamaError):
    """The thing is in another state than the request needs."""


class WorkflowPaused(Conflict):
    """A paused workflow starts no runs."""


class VersionConflict(Conflict):
    """Somebody wrote first; read again and repeat."""


class LeaseLost(Conflict):
    """Another invocation holds the step until `until` (epoch ms)."""

    def __init__(self, message: str, until: int = 0) -> None:
        super().__init__(message)
        self.until = until


class ModelError(LoopLlamaError):
    """A model call that gave no usable answer.

    `next_model`: whether the next fallback is tried; an error may say of itself that it is not. `later`: whether the
    step is tried again later once the attempt order is exhausted; an error may say of itself that trying again is of no
    use. `retry_after`: seconds that the provider asked for, where it did. `status`: the HTTP status, where there was
    one.
    `model`: the provider's name for what answered, where it told. `usage` is attached by an adapter when the provider
    billed the failed call. `maybe_billed`: the request may have reached the provider and no answer came back
    (connection reset, time-out). `simulated`: the simulated provider failed, not the model's own.
    `against`: whether it speaks against the model's health (`routing.circuit_breaker`); `None`: its kind says.
    `repeatable`: the model may answer the same request well, so it is asked once more before the next fallback.
    """

    next_model: bool = True
    later: bool = False

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        usage: object = None,
        maybe_billed: bool = False,
        simulated: bool = False,
        against: bool | None = None,
        repeatable: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status
        self.usage = usage
        self.maybe_billed = maybe_billed
        self.simulated = simulated
        self.against = against
        self.repeatable = repeatable
        self.model = ""


class ModelThrottled(ModelError):
    """The provider asks for fewer calls (429 and its like), or for money. `later` is false where waiting for an hour is
    of no use: a quota of a day, credit that is used up."""

    later = True


class ModelBusy(ModelThrottled):
    """As many calls of the model are under way as may be at once (`routing.call_slots`); nothing was called."""


class ModelUnavailable(ModelError):
    """Connection refused or reset, 5xx, overloaded."""

    later = True


class ModelTimeout(ModelError):
    """No whole answer within the call's time."""

    later = True


class ContextTooLong(ModelError):
    """The prompt does not fit the model's context window."""


class ContentFiltered(ModelError):
    """The model or the provider's filter declined to answer."""


class InvalidModelResponse(ModelError):
    """The answer is empty, cut off or cannot be read."""


class ModelRequestRejected(ModelError):
    """The provider will never answer this request. What it refuses says nothing against the next model, unless it says
    that no model would take the request: then the step fails at once."""


class ModelNotAvailable(ModelRequestRejected):
    """The provider does not have this model, not any more, or not for this account. It says nothing against the next
    model."""


class CredentialsRejected(ModelRequestRejected):
    """The provider's key is missing or wrong. It says nothing against the next model."""


class OutputInvalid(LoopLlamaError):
    """The answer does not follow the step's `outputSchema`, after one repair; the step fails."""


class ToolFailed(LoopLlamaError):
    """A tool call failed; the message goes back to the model."""


class TurnLimitExceeded(LoopLlamaError):
    """The turn used up its `maxTurns` or `timeoutSeconds`; the step fails."""


class ItemsFailed(LoopLlamaError):
    """More items of a forEach step failed than its `maxFailures` allows; the step fails."""


class ApprovalDeclined(LoopLlamaError):
    """A person declined to let the step start; it fails."""


class ApprovalTimedOut(LoopLlamaError):
    """Nobody answered before the step's waiting time was over; it fails."""


class FunctionDied(LoopLlamaError):
    """One invocation after the other died in the middle of the step (memory, the function's time); it fails."""


class BudgetExceeded(LoopLlamaError):
    """The next call does not fit the run's or the workflow's budget: cheaper models are tried, then the run fails.

    `later`: it would fit if other calls came to less than they have reserved, so it is tried again.
    """

    retry_after: float | None = None

    def __init__(self, message: str, *, later: bool = False) -> None:
        super().__init__(message)
        self.later = later


class NoEligibleModel(LoopLlamaError):
    """Every candidate was skipped before it was called; says why for each. The step fails."""


class AwsUnavailable(LoopLlamaError):
    """An AWS service that a function stands on did not answer, or throttled beyond the SDK's retries; the state
    machine tries again, the API answers 503."""


class AwsRefused(LoopLlamaError):
    """An AWS service that a function stands on refused a call, and would refuse it again: the role lacks a permission,
    the resource is not there, the request is invalid to it."""


class InternalError(LoopLlamaError):
    """A function made a mistake. The message says its kind and where, and nothing of what it worked on."""


class ContractUnknown(LoopLlamaError):
    """The execution's state machine is a newer version's, from before a rollback: this function does not know what it
    says. Nothing was done; upgrade again and redrive the run."""


class LineLeft(LoopLlamaError):
    """A step of a line must wait, ask somebody or go on in another invocation, or it has failed. The state machine
    leaves the line and asks AdvanceRun what is ready; nothing is wrong with the function."""


class RunFailed(LoopLlamaError):
    """The run has a step that failed for good. Redriving the execution re-enters AdvanceRun, which reopens it."""
