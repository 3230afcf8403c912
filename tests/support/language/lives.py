"""A crew's life on the deployed machinery, compared with the reference at each of its moments.

All that happens is drawn from the seed and from the place where it happens, so that a life can be lived again, and
without some of its steps.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

from loopllama.engine import human_input
from loopllama.engine.cancel import cancel_run
from loopllama.engine.redrive import redrive_run
from loopllama.engine.replay import replay_run
from loopllama.errors import Conflict, WorkflowInvalid
from loopllama.providers.http import Reply
from support.asl.execution import TaskError
from support.language import outcomes
from support.language.crews import MODELS, WAIT_SECONDS, Crew, Step, random_crew, random_input
from support.language.reference import ReferenceRun
from support.language.turns import ANY, Call, Disagreement, Place
from support.language.values import as_json
from support.world import World

PRICES: dict[str, tuple[int | Decimal, int | Decimal]] = {
    "house:one": (3, 15),
    "house:two": (1, 4),
    "house:three": (Decimal("0.25"), Decimal("1.5")),
}
"""USD for a million tokens."""
UNASKED_SECONDS = 7 * 86_400
"""How long a step waits for an answer where its agent says nothing about it."""


class Refused(Exception):
    """A push refuses the crew: what it can never mean was drawn."""


def provide(world: World) -> None:
    """Give the world the models that crews name."""
    for model in MODELS:
        given, answered = PRICES[model]
        prices = [{"effective_from": "2020-01-01", "input": Decimal(given), "output": Decimal(answered)}]
        capabilities = ["structured_output", "tools"]
        world.put_model(model, "house", model.partition(":")[2], prices=prices, capabilities=capabilities)


class Life:
    """One workflow, its runs, and all that happens to them; `without` leaves steps out of the seed's crews."""

    def __init__(self, world: World, seed: int, without: frozenset[str] = frozenset()) -> None:
        self.world, self.seed, self.without = world, seed, without
        self.rng = self._drawn("life")
        self.pushed: dict[int, Crew] = {}
        """The workflow's versions."""
        self.rows: dict[str, str] = {}
        """Overrides: step, or `*`, to model."""
        self.runs = 0
        self.downs = itertools.count()
        self.said: list[str] = []
        """What happened, for whoever reads of a disagreement."""
        self.found: Exception | None = None
        """What was wrong in an invocation, which the state machine took for a crash."""

    def live(self) -> None:
        """Live it. Raises `Disagreement`, `Refused` where the first crew is none."""
        world, rng = self.world, self.rng
        world.forget()
        world.serve = lambda body: self._noting(lambda: self._serve(body))
        world.meanwhile, world.sums = self._meanwhile, False
        invoke = world.functions["RunStep"]
        world.functions["RunStep"] = lambda payload: self._noting(lambda: self._step(payload, invoke))
        try:
            self._push()
            for _ in range(rng.choice([0, 0, 1, 2])):
                self._change_route(rng)
            self._start()
            for _ in range(rng.choice([0, 1, 1, 2])):
                self._replay() if rng.random() < 0.75 else self._start()
        except Exception as error:
            raise self.found or error from None
        finally:
            world.functions["RunStep"] = invoke

    def _drawn(self, where: str) -> Random:
        return Random(f"{self.seed}/{where}")  # noqa: S311 - the same each time, which is what it is for

    def told(self) -> str:
        """The crews, and what happened, in the order in which it did."""
        crews = [
            f"version {number}: {step.definition()}" for number, crew in self.pushed.items() for step in crew.steps
        ]
        return "\n  ".join([f"seed {self.seed} without {sorted(self.without)}", *crews, *self.said])

    # What people do

    def _push(self) -> None:
        """Push the workflow's next version."""
        number = len(self.pushed) + 1
        crew = random_crew(self._drawn(f"crew/{number}")).without(self.without)
        steps = [step.definition() for step in crew.steps]
        try:
            if not steps:
                raise Refused("nothing is left of it")
            pin = {"pin": "run"} if crew.pinned else {}
            self.world.push(steps, f"Language {self.seed}", model=crew.model, **pin)
        except WorkflowInvalid as refused:
            if number == 1:
                raise Refused(str(refused)) from refused
            return
        self.pushed[number] = crew
        self.said.append(f"version {number} is pushed")

    def _change_route(self, rng: Random) -> None:
        crew = self.pushed[max(self.pushed)]
        step, model = rng.choice(["*", *(step.name for step in crew.steps)]), rng.choice(MODELS)
        self.world.record_change({"workflow": f"language_{self.seed}", "step": step, "model": model})
        self.rows[step] = model
        self.said.append(f"{step} is moved to {model}")

    def _start(self) -> None:
        rng, version = self.rng, max(self.pushed)
        run_input = random_input(rng)
        models = {rng.choice(self.pushed[version].steps).name: rng.choice(MODELS)} if rng.random() < 0.2 else {}
        self._begin(version, models)
        detail = json.loads(as_json({"workflow": f"language_{self.seed}", "input": run_input, "models": models}),
                            parse_float=Decimal)  # fmt: skip
        self.run_id = self.world.request(detail)
        self.said.append(f"run {self.runs} of version {version} starts on {as_json(run_input)}, models {models}")
        self.reference = ReferenceRun(self.pushed[version], run_input, self._route)
        self._play()

    def _begin(self, version: int, models: dict[str, str]) -> None:
        self.runs += 1
        self.version, self.models, self.legs = version, models, 0
        self.pins = dict(self.rows) if self.pushed[version].pinned else None
        self.asked_at: dict[tuple[Place, str], float] = {}
        self.record = outcomes.Record()

    def _play(self) -> None:
        """Play the run to its end, and redrive it where it fails, mostly after somebody has mended what was wrong."""
        world, run_id = self.world, self.run_id
        world.finish(run_id)
        outcomes.check(world, run_id, self.reference, self.record)
        while (run := world.read(run_id))["status"] == "failed" and self.legs < 3:
            # What cannot be computed cannot be mended.
            if self.rng.random() < (0.8 if ": InvalidRequest" in run["error"] else 0.2):
                break
            self.legs += 1
            if self.rng.random() < 0.3:
                self._change_route(self.rng)
            self.said.append("it is redriven")
            self.asked_at.clear()
            self.reference.redriven()
            redrive_run(world.settings, run_id)
            world.finish(run_id)
            outcomes.check(world, run_id, self.reference, self.record)

    def _replay(self) -> None:
        """Replay the last run, from a step on."""
        rng, before = self.rng, self.reference
        start = rng.choice(before.crew.steps).name
        models = {start: rng.choice(MODELS)} if rng.random() < 0.3 else {}
        run_input = random_input(rng) if rng.random() < 0.3 else before.input
        kept = before.kept_by(start)
        # In a run that stopped, what only the engine's next look would have skipped is not skipped.
        told = {(step["step"], step["iteration"]): step["status"] for step in self.world.read(self.run_id)["steps"]
                if step["item"] is None}  # fmt: skip
        finished = all(before.is_done(name) for name in kept)
        finished = finished and all(told[before.place(name)] in ("completed", "skipped") for name in kept)
        self.said.append(f"run {self.runs} is replayed from {start} on {as_json(run_input)}, keeping {sorted(kept)}")
        try:
            run_id = replay_run(self.world.settings, self.run_id, start, run_input=run_input, models=models)
        except Conflict:
            if finished:
                raise
            return
        if not finished:
            raise Disagreement("a replay keeps what has not finished")
        self.run_id = run_id
        self._begin(self.version, {**self.models, **models})
        self.reference = before.replayed(kept, run_input, self._route)
        self._play()

    def _meanwhile(self, execution: Any, due: float) -> bool:
        """The run waits until a time, for people or for a model."""
        reference, world = self.reference, self.world
        if reference.over or execution.status != "RUNNING":
            return False
        questions = world.read(self.run_id)["questions"]
        outcomes.check_questions(questions, reference)
        if not questions:
            return False
        key = "/".join([str(len(self.said)), *(question["id"] for question in questions)])
        rng = self._drawn(f"meanwhile/{self.runs}/{key}")
        drawn = rng.random()
        if drawn < 0.06:
            self._cancel()
        elif drawn < 0.11:
            self._push()
            self.said.append("somebody has pushed")
        elif drawn < 0.18:
            self._change_route(rng)
        elif drawn < 0.26:
            self.said.append("time passes")
            world.wait(due - world.shift)
        else:
            self._answer(rng.choice(questions), rng)
        return True

    def _early(self) -> None:
        """A step asks, and the state machine does not wait yet."""
        rng = self._drawn(f"early/{self.runs}/{self.place}/{len(self.said)}")
        if rng.random() < 0.15 and not self.reference.over:
            questions = self.world.read(self.run_id)["questions"]
            mine = [one for one in questions if (one["step"], one["iteration"], one["item"] or 0) == self.place]
            self._answer(mine[0], rng)

    def _answer(self, question: Any, rng: Random) -> None:
        place = (question["step"], question["iteration"], question["item"] or 0)
        said: bool | str = rng.random() < 0.85 if question["kind"] == "approval" else f"say {rng.randint(1, 99)}"
        answer = {"approved": said} if isinstance(said, bool) else {"input": said}
        self.said.append(f"a person answers {place}: {said}")
        human_input.respond(self.world.runs, self.run_id, answer, question=question["id"])
        self.asked_at.pop((place, self.reference.asked()[place][1]))  # the same may be asked again
        self.reference.answered(place, said)

    def _cancel(self) -> None:
        self.said.append("the run is cancelled")
        cancel_run(self.world.settings, self.run_id, by="ann")
        self.reference.cancelled = True

    # What the engine does

    def _noting(self, happens: Callable[[], Any]) -> Any:
        try:
            return happens()
        except TaskError:
            raise
        except Exception as error:
            self.found = self.found or error
            raise

    def _step(self, payload: Any, invoke: Any) -> Any:
        """RunStep is invoked."""
        work = payload.get("work", payload)
        self.place = place = (work["step"], work["iteration"], work["item"])
        outcome = invoke(payload)
        told = outcome["ended"][0]["outcome"] if outcome["outcome"] == "advance" else outcome["outcome"]
        asked = self.reference.asked().get(place)
        if told == "waiting" and "token" not in payload:
            if asked is None:
                raise Disagreement(f"{place} asks a person, and should not")
            fresh = self.asked_at.setdefault((place, asked[1]), self.world.shift) == self.world.shift
            self.record.asked[place] += fresh
            self._early()
        if told == "failed":
            seconds = WAIT_SECONDS if self.reference.crew[place[0]].approval else UNASKED_SECONDS
            if asked and self.world.shift - self.asked_at.pop((place, asked[1])) >= seconds - 1:
                self.said.append(f"nobody has answered {place}")
                self.reference.answered(place, None)
            self.reference.stopped(place)
        return outcome

    def _serve(self, body: dict[str, Any]) -> Reply:
        """A model is called."""
        reference, place = self.reference, self.place
        self.said.append(f"{place} calls {body['model']}")
        if not reference.may_call(place):
            raise Disagreement(f"{place} calls its model, and must not")
        given = [(message["role"], message.get("content")) for message in body["messages"][1:]]
        expected = reference.expected_talk(place)
        if len(given) != len(expected) or any(
            got[0] != wanted[0] or (wanted[1] is not ANY and got[1] != wanted[1])
            for got, wanted in zip(given, expected, strict=True)
        ):
            raise Disagreement(f"{place} is told {given}, not {expected}")
        model = f"house:{body['model']}"
        if model != reference.model(place):
            raise Disagreement(f"{place} asks {model}, not {reference.model(place)}")
        number = len(reference.turns[place].calls)
        rng = self._drawn(f"call/{self.runs}/{self.legs}/{place}/{number}")
        if (drawn := rng.random()) < 0.012:
            self._cancel()
            self.record.late = True
        elif drawn < 0.02:
            self._push()
        elif drawn < 0.05:
            self._change_route(rng)
        return self._told(place, model, number, rng)

    def _told(self, place: Place, model: str, number: int, rng: Random) -> Reply:
        """What the model says, and what that costs."""
        reference, step = self.reference, self.reference.crew[place[0]]
        kind = self._kind(step, place, rng)
        used = (100 + number, 10 + len(step.name)) if kind not in ("rejected", "down") else (0, 0)
        price = PRICES[model]
        cost = (used[0] * Decimal(price[0]) + used[1] * Decimal(price[1])) / 1_000_000
        call = Call(model, *used, cost)
        answer = self._words(step, place, kind, rng)
        self.said[-1] += f": {kind} {answer}"
        reference.called(place, call, answer, kind)
        if kind == "rejected":
            return Reply(400, {}, b'{"error": {"message": "no such thing"}}')
        if kind == "down":
            return Reply(503, {}, b'{"error": {"message": "overloaded"}}')
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer if isinstance(answer, str) else as_json(answer),
        }
        if kind == "asks":
            function = {"name": "ask_human", "arguments": json.dumps({"question": answer})}
            message |= {
                "content": None,
                "tool_calls": [{"id": f"call-{number}", "type": "function", "function": function}],
            }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if kind == "asks" else "stop"}
        usage = {"prompt_tokens": used[0], "completion_tokens": used[1]}
        return Reply(200, {}, json.dumps({"model": model, "choices": [choice], "usage": usage}).encode())

    def _kind(self, step: Step, place: Place, rng: Random) -> str:
        drawn, mended = rng.random(), self.legs >= 2
        if drawn < 0.05 and not mended:
            return "rejected"
        if drawn < 0.09 and next(self.downs) < 2:  # three in a row, and its circuit breaker opens
            return "down"
        if step.asks and len(self.reference.turns[place].talk) < 2 and rng.random() < 0.6:
            return "asks"
        return "broken" if step.structured and rng.random() < (0 if mended else 0.12) else "answer"

    def _words(self, step: Step, place: Place, kind: str, rng: Random) -> Any:
        mark = "-".join(map(str, place))
        if kind == "asks":
            return f"What of {mark}?"
        if kind == "broken":
            return f"No JSON from {mark}"
        if kind != "answer":
            return None
        if not step.structured:
            return f"«{mark}» {self.runs} {rng.randint(0, 9)}"
        todo = [f"{mark}.{number}" for number in range(rng.choice([0, 1, 2, 3]))] + ["x"] * (rng.random() < 0.3)
        given = {
            "ok": rng.random() < 0.5,
            "n": rng.choice([0, 2, Decimal("0.8"), Decimal("12.5")]),
            "todo": todo,
            "note": rng.choice(["red", "", None, "blüe"]),
            "any": rng.choice([None, "", "ab", 7, [1, 2], {"a": None}]),
        }
        return {name: value for name, value in given.items() if name == "ok" or rng.random() < 0.96}

    def _route(self, step: Step) -> str:
        """The first layer that speaks: the run, the step's row, the agent, the workflow's row, the workflow."""
        rows = self.rows if self.pins is None else self.pins
        layers = (self.models.get(step.name), rows.get(step.name), step.model, rows.get("*"))
        return next((model for model in layers if model), self.pushed[self.version].model)
