"""A short slice of each long run, with the same programs: ``nox -s storm chaos mapping soak`` runs them at length."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stress import fuzz_sse
from tests.stress.chaos import NETWORK, chaos
from tests.stress.differential.rules import differences, reason_for
from tests.stress.differential.run import corpus, read_all
from tests.stress.hostile import hostile
from tests.stress.mapping import mapping
from tests.stress.soak import at_once, scripted
from tests.stress.storm import POLICIES, storm

pytestmark = pytest.mark.slow


def test_in_a_storm_every_patient_client_gets_its_answer() -> None:
    result = storm(POLICIES["patient: Retry-After with jitter"], clients=24, permits=4, tokens=20, pace=None)
    assert (result.answered, result.generated) == (24, 24)
    assert not result.wrong
    assert not result.errors
    assert result.refused == result.attempts - 24 > 0


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc here")
def test_after_hostile_requests_an_answer_is_exact() -> None:
    figures = hostile(requests=40, read_seconds=10)
    assert not figures.wrong
    assert figures.statuses["200"] > 0
    assert figures.statuses["422"] > 2


@pytest.mark.parametrize("resume", [True, False], ids=["with resume", "without"])
def test_in_chaos_streams_are_whole_or_end_with_an_exact_beginning(resume: bool) -> None:
    figures = chaos(resume=resume, streams=16, seed=20, workers=8, network=NETWORK)
    assert not figures.faults
    assert figures.fault_counts["cut"] + figures.fault_counts["reset"] > 5
    assert figures.resumed > 5 if resume else figures.errors.total() > 5


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc here")
def test_a_run_that_is_killed_goes_on_and_loses_and_doubles_nothing() -> None:
    figures = mapping(prompts=300, kills=2)
    assert not figures.wrong
    assert figures.results == 300
    assert figures.asked <= 300 + 2 * 4 * figures.most_at_once
    assert max(figures.kilobytes) - figures.kilobytes[0] < 16 * 1024


@pytest.mark.usefixtures("patient_drain")
def test_streams_at_once_leave_nothing_open() -> None:
    with scripted(0.01) as url:
        before, during, after = asyncio.run(at_once(url, 200))
    assert during.sockets >= before.sockets + 199
    assert (after.tasks <= before.tasks, after.threads <= before.threads) == (True, True)
    assert after.sockets <= before.sockets


ROOT = Path(__file__).parents[2]

COUNTED = ("sockets", "tasks", "threads")

IN_A_ROW = """
import json, sys
from dataclasses import asdict
from hfstream._transport import response_base
from tests.stress.soak import in_a_row, scripted

response_base.DRAIN_SECONDS = 60.0
with scripted() as url:
    print(json.dumps([asdict(state) for _, state in in_a_row(url, 1200, warm=300, every=300, variant=sys.argv[1])]))
"""


@pytest.mark.parametrize("variant", ["async", "sync"])
def test_streams_in_a_row_leave_nothing_behind(variant: str) -> None:
    # In a process of its own: what other tests have left here is paged out and in again, and their threads end.
    command = [sys.executable, "-c", IN_A_ROW, variant]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
    first, *_, last = json.loads(done.stdout)
    assert [last[name] for name in COUNTED] == [first[name] for name in COUNTED]
    # asyncio keeps up to a hundred cancelled timers before it drops them, with a few objects each. One object left by
    # each stream would be 1,200.
    assert last["objects"] - first["objects"] < 700
    assert last["kilobytes"] - first["kilobytes"] < 4096


@pytest.mark.parametrize("target", fuzz_sse.TARGETS.values(), ids=fuzz_sse.TARGETS)
def test_the_corpus_holds_no_surprise(target: Any) -> None:
    for data in fuzz_sse.corpus():
        target(data)


def test_the_streams_of_many_servers_are_read_as_they_were_sent() -> None:
    """The differential run without the other clients, which are not installed here."""
    streams = corpus(200, seed=20)
    found = [str(each) for each in differences(streams, read_all(streams, {})) if reason_for(each) is None]
    assert not found, "\n".join(found)
