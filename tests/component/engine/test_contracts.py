"""Functions that are older than an execution's state machine, as after a rollback, do nothing and say what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.deployment import Deployment

from loopllama import CONTRACT
from loopllama.engine.advance import advance_run
from loopllama.engine.start import start_run
from loopllama.errors import ContractUnknown

NEWER = CONTRACT + 1


@pytest.mark.parametrize(
    "invoke",
    [
        pytest.param(lambda live, work: live.step({**work, "contract": NEWER}), id="RunStep"),
        pytest.param(
            lambda live, work: start_run(live.settings, {"contract": NEWER, "request": {"run_id": work["run_id"]}}),
            id="StartRun",
        ),
        pytest.param(
            lambda live, work: advance_run(live.settings, {"contract": NEWER, "run_id": work["run_id"]}),
            id="AdvanceRun",
        ),
    ],
)
def test_an_execution_of_a_newer_version_is_left_as_it_is(
    live: Deployment, invoke: Callable[[Deployment, dict[str, Any]], Any]
) -> None:
    run_id, work = live.begin()
    before = live.read(run_id)
    with pytest.raises(ContractUnknown, match=f"contract is {NEWER}, .*upgrade again, then loopllama runs redrive RUN"):
        invoke(live, work)
    assert live.read(run_id) == before
    assert not live.provider.calls
