"""The state machine that is deployed does what it must."""

from __future__ import annotations

import pytest
from component.state_machine.scenarios import SCENARIOS
from component.state_machine.stage import Troupe
from support.asl.deployed import state_machine


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(troupe: Troupe, name: str) -> None:
    SCENARIOS[name](state_machine(), troupe)
