"""The life of an exchange as data: its states, what can happen in them, and where that leads.

The diagram in docs/design/architecture.md is drawn from `TRANSITIONS` (scripts/exchange_diagram.py). Does not depend on
requests, responses or time; `exchange` decides which event has happened.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["FINAL_STATES", "TRANSITIONS", "Event", "State", "next_state"]


class State(Enum):
    """Where an exchange is. Each state has one thing that a driver does next."""

    WAITING = "waiting"
    """Before an attempt: wait `Exchange.delay` seconds, then call `next_request`."""
    SENDING = "sending"
    """The request is being sent: call `receive_headers` when the head of a response has come."""
    RECEIVING = "receiving"
    """The response has begun, without content so far: `feed` its body, then `finish`."""
    STREAMING = "streaming"
    """Content of this attempt has been received: `feed` its body, then `finish`."""
    PROBING = "probing"
    """As RECEIVING, but the response only tells whether a lost stream can be continued (`resume`)."""
    COMPLETE = "complete"
    """The whole response has been received."""
    CLOSED = "closed"
    """An error ended the exchange."""


class Event(Enum):
    """What can happen to an exchange."""

    REQUEST = "request"
    """An attempt begins."""
    HEADERS = "headers"
    """The head of the response has come, whatever its status."""
    PROBE_HEADERS = "probe headers"
    """The head of the response to a probe has come."""
    CONTENT = "content"
    """The first content of this attempt has come."""
    PROBED = "probed"
    """A probe was answered: what to send next is known."""
    RETRY = "retry"
    """The attempt failed, and another one is due: from the beginning, or where the stream was lost."""
    END = "end"
    """The response is complete. Also an error after which nothing but a formal end or the usage is missing."""
    FAILURE = "failure"
    """The attempt failed, and there will be no other."""


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.WAITING: {
        Event.REQUEST: State.SENDING,
        Event.FAILURE: State.CLOSED,
    },
    State.SENDING: {
        Event.HEADERS: State.RECEIVING,
        Event.PROBE_HEADERS: State.PROBING,
        Event.RETRY: State.WAITING,
        Event.END: State.COMPLETE,
        Event.FAILURE: State.CLOSED,
    },
    State.RECEIVING: {
        Event.CONTENT: State.STREAMING,
        Event.RETRY: State.WAITING,
        Event.END: State.COMPLETE,
        Event.FAILURE: State.CLOSED,
    },
    State.STREAMING: {
        Event.RETRY: State.WAITING,
        Event.END: State.COMPLETE,
        Event.FAILURE: State.CLOSED,
    },
    State.PROBING: {
        Event.PROBED: State.WAITING,
        Event.RETRY: State.WAITING,
        Event.FAILURE: State.CLOSED,
    },
    State.COMPLETE: {},
    State.CLOSED: {},
}
"""For each state the events that can happen in it, and the state that each of them leads to. All others are bugs."""

FINAL_STATES: tuple[State, ...] = tuple(state for state, events in TRANSITIONS.items() if not events)


def next_state(state: State, event: Event) -> State:
    """The state after `event`.

    Raises:
        RuntimeError: `event` cannot happen in `state`: a bug in the exchange or in its driver.
    """
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise RuntimeError(f"an exchange that is {state.value} cannot have the event {event.value!r}")
    return following
