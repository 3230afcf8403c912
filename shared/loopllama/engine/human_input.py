"""Steps that wait for a person: what is asked, the answer, and its delivery to the execution.

A step that waits has `pending` in its record: what is asked, under which key, until when. The answer is an attribute of
its own (`human_<key>`), written once by whoever answers first. The state machine waits with a task token; token and
answer may come in either order, and whichever comes second delivers: an answer that was stored and not delivered is
delivered again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from loopllama.agent.tool_calls import Waiting
from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.engine.transitions import ended
from loopllama.errors import ApprovalDeclined, ApprovalTimedOut, Conflict, InvalidRequest
from loopllama.runs import questions
from loopllama.runs.step_ref import Work
from loopllama.runs.step_writer import StepWriter
from loopllama.runs.store import ANSWER, QUEUED_CHECK_SECONDS, START, UNANSWERED, RunStore
from loopllama.runs.waits import answers_of

if TYPE_CHECKING:
    from loopllama.runs.records import HumanAnswer, Question, Run, StepOutcome, StepRecord
    from loopllama.runs.value_store import ValueStore
    from loopllama.workflows.types import CrewStep

TIMEOUT_SECONDS = 7 * 86400
"""How long a step waits where its `approval` sets no `timeoutSeconds`."""
MAX_ANSWER = 100_000
_MOST_NAMED = 20
"""Questions that an answer to none of them is told."""


def check_start(step: CrewStep, record: StepRecord) -> None:
    """Before an agent whose start needs an approval: raises `Waiting` until somebody has approved,
    `ApprovalDeclined`."""
    if not (step.get("approval") or {}).get("start"):
        return
    answer = answers_of(record).get(START)
    if answer is None:
        raise Waiting(START, "approval", f"Approve step {step['name']} ({step['role']}) to start")
    if not answer.get("approved"):
        note = f": {answer['note']}" if answer.get("note") else ""
        raise ApprovalDeclined(f"a person declined to let the step start{note}")


def wait(
    store: RunStore,
    values: ValueStore,
    step: CrewStep,
    writer: StepWriter,
    waiting: Waiting,
    reopened_at: str | None = None,
) -> StepOutcome:
    """Record what is asked and let the execution wait: first until it is time to tell that the question's time ends,
    then for the rest. What was asked before the run was `reopened_at` (ISO 8601 UTC) is asked anew: while the run had
    failed nobody could answer. Raises `ApprovalTimedOut` when the time for it is over."""
    work, now = writer.work, clock.now_ms()
    pending = writer.record.get("pending")
    if not pending or pending["key"] != waiting.key or pending["asked_at"] < (reopened_at or ""):
        seconds = int((step.get("approval") or {}).get("timeout_seconds", TIMEOUT_SECONDS))
        pending = {
            "key": waiting.key,
            "kind": waiting.kind,
            "prompt": values.store(work.run_id, f"{writer.path}/question", waiting.prompt),
            "asked_at": clock.now_text(now / 1000),
            "expires_at": clock.now_text(now / 1000 + seconds),
        }
        if waiting.tool is not None:
            pending["tool"] = waiting.tool
        if waiting.tool_input is not None:
            # Whole: nobody can approve what they see only the beginning of.
            pending["tool_input"] = values.store(work.run_id, f"{writer.path}/asked", waiting.tool_input)
    closed = writer.record.get(UNANSWERED)
    if closed is not None and closed["asked_at"] < (reopened_at or ""):
        closed = None  # who told so died before the step failed, and the run with it
    if (closed is None or closed["key"] != waiting.key) and pending["expires_at"] <= clock.now_text(now / 1000):
        # From here on nobody can answer. What was asked stays, so that nobody is asked again should the rest fail.
        writer.write({UNANSWERED: pending}, release=True, remove=["pending", "token"])
        closed = pending
    if closed is not None and closed["key"] == waiting.key:
        store.clear_pending(work.run_id, work.key, waiting.key)
        if waiting.key in answers_of(writer.record):
            return ended(work, "continue")  # Somebody did at the last moment.
        raise ApprovalTimedOut(f"nobody answered by {closed['expires_at']}:\n{waiting.prompt}")
    left_ms = clock.ms_between(clock.now_text(now / 1000), pending["expires_at"])
    to_notice_ms = questions.notice_ms(pending) - clock.ms_between(pending["asked_at"], clock.now_text(now / 1000))
    if to_notice_ms <= 0 and "expiring_since" not in pending:
        pending = {**pending, "expiring_since": clock.now_text(now / 1000)}
    writer.write({"pending": pending}, release=True, remove=["token"])
    store.set_pending(work, questions.beginning(pending, waiting.prompt, waiting.tool_input))
    wait_ms = left_ms if to_notice_ms <= 0 else to_notice_ms
    return {**ended(work, "waiting"), "seconds": max(1, -(-wait_ms // 1000))}


def keep_token(store: RunStore, work: Work, token: str) -> None:
    """Keep the task token of the state machine, which waits now, and deliver at once what was answered in the
    meantime."""
    done, item = dynamo.update(
        store.dynamodb,
        store.table,
        {"run_id": work.run_id, "item": work.key},
        {"token": token},
        condition="attribute_exists(pending)",
    )
    record = cast("StepRecord", item)
    if not done or record["pending"]["key"] in answers_of(record):
        deliver(token)


def respond(
    store: RunStore, run_id: str, answer: Mapping[str, Any], by: str | None = None, question: str | None = None
) -> Question:
    """Answer the `question` of that id, which may be left out where the run asks one thing; returns what was asked.

    `answer` is `{"input": text}` or `{"approved": bool, "note": text}`, as the kind of question wants. Of two answers
    at once one is stored, the other raises `Conflict`, as does one to a run that waits for nothing or no longer, and
    one that might be meant for several questions: it names their ids. Raises `RunNotFound`, `InvalidRequest`.
    """
    now = clock.now_text()
    key, pending = _meant(store.run(run_id), question, now)
    values = {**_checked(pending, answer), "id": uuid4().hex, "asked_at": pending["asked_at"], "at": now}
    if pending["expires_at"] <= now:
        raise Conflict(f"the time to answer was over at {pending['expires_at']}")
    # Should this die before the answer is delivered, the reconciler is not to wait until it looks at the run again.
    store.watch(run_id, "run", QUEUED_CHECK_SECONDS)
    done, item = dynamo.update(
        store.dynamodb,
        store.table,
        {"run_id": run_id, "item": key},
        {ANSWER + pending["key"]: {**values, **({"by": by} if by else {})}},
        condition="pending.#key = :key AND attribute_not_exists(#answer)",
        names={"#answer": ANSWER + pending["key"], "#key": "key"},
        parameters={":key": pending["key"]},
    )
    record = cast("StepRecord", item)
    stored = answers_of(record).get(pending["key"], {})
    # Also where nothing was stored now: it may be that who answered died before this. Delivered first: the reconciler
    # looks at what is still shown as pending.
    if stored and record.get("token"):
        deliver(record["token"])
    store.clear_pending(run_id, key, pending["key"])
    # An answer that is there is this one where the SDK repeated the write because its answer was lost.
    if not done and stored.get("id") != values["id"]:
        raise Conflict("somebody has answered already" if stored else "the step waits no longer")
    return pending


def redeliver(store: RunStore, run_id: str, key: str, pending: Question) -> bool:
    """Deliver an answer whose giver died between storing and delivering it; whether there was one."""
    record = store.items(run_id, [key]).get(key, {})
    if pending["key"] not in answers_of(record):
        return False
    if record.get("token"):
        deliver(record["token"])
    store.clear_pending(run_id, key, pending["key"])
    return True


def wake(store: RunStore, run_id: str, step: str | None = None) -> None:
    """Let the steps of a run that wait for people, or only the items of `step`, look up: the run is stopping."""
    for key, pending in (store.run(run_id).get("pending") or {}).items():
        if step in (None, pending.get("step")) and (token := store.items(run_id, [key]).get(key, {}).get("token")):
            deliver(token)


def deliver(token: str) -> None:
    """Let the waiting execution go on; a token that is spent or expired is no matter."""
    states = clients.client("stepfunctions")
    try:
        states.send_task_success(taskToken=token, output="{}")
    except (states.exceptions.TaskTimedOut, states.exceptions.TaskDoesNotExist, states.exceptions.InvalidToken):
        return


def _meant(run: Run, question: str | None, now: str) -> tuple[str, Question]:
    """Return the question that somebody answers, by its step's key. Raises `Conflict`."""
    asked = questions.open_questions(run)
    if not asked:
        error = run.get("error") or {}
        over = f": {error['message']}" if error.get("type") == ApprovalTimedOut.__name__ else ""
        raise Conflict(f"run {run['run_id']} waits for no answer; it is {run['status']}{over}")
    if question is not None:
        # Who read one question must not answer the next, because somebody else was faster.
        named = [entry for entry in asked if questions.id_of(*entry) == question]
        if not named:
            raise Conflict(f"run {run['run_id']} does not ask that, or no longer; it asks {_named(asked)}")
        return named[0]
    in_time = [entry for entry in asked if entry[1]["expires_at"] > now] or asked[:1]
    if len(in_time) > 1:
        raise Conflict(
            f"run {run['run_id']} asks {len(in_time)} questions; say by its id which one you answer: {_named(in_time)}"
        )
    return in_time[0]


def _named(asked: Sequence[tuple[str, Question]]) -> str:
    """Return ids and places of questions, for a person who has to name one."""
    texts = []
    for key, question in asked[:_MOST_NAMED]:
        iteration, item = questions.place_of(key)
        place = question.get("step", "") + (f"[{item}]" if item else "") + (f" #{iteration + 1}" if iteration else "")
        tool = f" of {question['tool']}" if question.get("tool") else ""
        texts.append(
            f"{questions.id_of(key, question)} ({place}: {question['kind']}{tool}, until {question['expires_at']})"
        )
    more = f" and {len(asked) - _MOST_NAMED} more" if len(asked) > _MOST_NAMED else ""
    return ", ".join(texts) + more


def _checked(pending: Question, answer: Mapping[str, Any]) -> HumanAnswer:
    if pending["kind"] == "approval":
        if not isinstance(answer.get("approved"), bool) or set(answer) - {"approved", "note"}:
            message = 'give {"approved": true or false, "note": a text if you like}'
            raise InvalidRequest.of("approved", message, sentence=f"the run waits for an approval: {message}")
        note = answer.get("note")
        if note is not None and (not isinstance(note, str) or len(note) > MAX_ANSWER):
            raise InvalidRequest.of("note", "a text", sentence="note must be a text")
        return {"approved": answer["approved"], **({"note": note} if note else {})}
    text = answer.get("input")
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_ANSWER or set(answer) - {"input"}:
        message = f'give {{"input": a text of 1 to {MAX_ANSWER:,} characters}}'
        raise InvalidRequest.of("input", message, sentence=f"the run waits for an answer: {message}")
    return {"input": text}
