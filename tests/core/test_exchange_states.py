"""The life of an exchange: the table says what follows each event in each state, and every other pair is refused."""

from __future__ import annotations

import itertools

import pytest

from hfstream.core.exchange_states import FINAL_STATES, TRANSITIONS, Event, State, next_state

LEGAL = {(state, event): following for state, events in TRANSITIONS.items() for event, following in events.items()}


def test_every_state_is_in_the_table_and_every_event_happens_somewhere() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {event for _, event in LEGAL} == set(Event)


def test_every_pair_of_state_and_event_is_either_in_the_table_or_refused() -> None:
    for state, event in itertools.product(State, Event):
        if (state, event) in LEGAL:
            assert next_state(state, event) is LEGAL[state, event]
        else:
            with pytest.raises(RuntimeError, match=f"{state.value} cannot have the event '{event.value}'"):
                next_state(state, event)


def test_nothing_happens_after_the_end() -> None:
    assert FINAL_STATES == (State.COMPLETE, State.CLOSED)
    assert not [state for state, _ in LEGAL if state in FINAL_STATES]


def test_every_state_can_be_reached_and_every_state_can_end() -> None:
    reached, frontier = {State.WAITING}, {State.WAITING}
    while frontier:
        frontier = {LEGAL[pair] for pair in LEGAL if pair[0] in frontier} - reached
        reached |= frontier
    assert reached == set(State)
    for state in set(State) - set(FINAL_STATES):
        assert LEGAL[state, Event.FAILURE] is State.CLOSED


def test_only_a_request_begins_an_attempt_and_only_content_makes_a_stream() -> None:
    assert [pair for pair, following in LEGAL.items() if following is State.SENDING] == [(State.WAITING, Event.REQUEST)]
    assert [pair for pair, following in LEGAL.items() if following is State.STREAMING] == [
        (State.RECEIVING, Event.CONTENT)
    ]
