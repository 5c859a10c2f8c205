"""A short slice of each long run, with the same programs: ``nox -s storm chaos soak fuzz`` runs them at length."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.stress import fuzz_sse
from tests.stress.chaos import NETWORK, chaos
from tests.stress.soak import at_once, in_a_row, scripted
from tests.stress.storm import POLICIES, storm


def test_in_a_storm_every_patient_client_gets_its_answer() -> None:
    told = storm(POLICIES["patient: Retry-After with jitter"], clients=40, permits=4, tokens=20, pace=None)
    assert (told.answered, told.generated) == (40, 40)
    assert not told.wrong
    assert not told.errors
    assert told.refused == told.attempts - 40 > 0


@pytest.mark.parametrize("resume", [True, False], ids=["with resume", "without"])
def test_in_chaos_streams_are_whole_or_end_with_an_exact_beginning(resume: bool) -> None:
    figures = chaos(resume=resume, streams=16, seed=20, workers=8, network=NETWORK)
    assert not figures.faults
    assert figures.fault_counts["cut"] + figures.fault_counts["reset"] > 5
    assert figures.resumed > 5 if resume else figures.errors.total() > 5


@pytest.mark.usefixtures("patient_drain")
def test_streams_at_once_leave_nothing_open() -> None:
    with scripted(0.01) as url:
        before, during, after = asyncio.run(at_once(url, 200))
    assert during.sockets >= before.sockets + 199
    assert (after.tasks <= before.tasks, after.threads <= before.threads) == (True, True)
    assert after.sockets <= before.sockets


@pytest.mark.usefixtures("patient_drain")
@pytest.mark.parametrize("variant", ["async", "sync"])
def test_streams_in_a_row_leave_nothing_behind(variant: str) -> None:
    with scripted() as url:
        (_, first), (_, last) = in_a_row(url, 300, warm=300, every=300, variant=variant)
    # Fewer are as good: what a server of other tests keeps open, in this process too, may go meanwhile.
    assert (last.sockets <= first.sockets, last.tasks <= first.tasks, last.threads <= first.threads) == (True,) * 3
    assert last.objects - first.objects < 100
    assert last.kilobytes - first.kilobytes < 4096


@pytest.mark.parametrize("target", fuzz_sse.TARGETS.values(), ids=fuzz_sse.TARGETS)
def test_the_corpus_holds_no_surprise(target: Any) -> None:
    for data in fuzz_sse.corpus():
        target(data)
