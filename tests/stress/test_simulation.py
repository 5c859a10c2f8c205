"""The simulation of overload: repeatable, and what its page says of it."""

from __future__ import annotations

import pytest

from tests.stress import simulation
from tests.stress.simulation import POLICIES, simulate


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "DURATION", 10.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_seed_gives_the_same_run(policy: str) -> None:
    assert simulate(policy, 1.5, seed=7) == simulate(policy, 1.5, seed=7)
    assert simulate(policy, 1.5, seed=7) != simulate(policy, 1.5, seed=8)


def test_every_policy_gets_the_same_arrivals() -> None:
    assert len({simulate(policy, 1.5, seed=7).arrived for policy in POLICIES}) == 1


def test_below_capacity_nothing_is_refused() -> None:
    result = simulate("hfstream", 0.5, seed=7)
    assert result.answered == result.arrived > 100
    assert result.refused == 0


def test_at_capacity_retries_answer_what_is_lost_without() -> None:
    assert simulate("no retries", 1.5, seed=7).answered < simulate("hfstream", 1.5, seed=7).answered


def test_a_caller_gives_up() -> None:
    result = simulate("hfstream", 0.5, seed=7, down=60.0)
    assert result.answered == 0
    assert result.refused > result.arrived
