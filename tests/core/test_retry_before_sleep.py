"""`RetryPolicy.before_sleep`: when it is called, with what, and what happens if it raises."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import tenacity

from hfstream.core.retry import RetryPacer, RetryPolicy
from hfstream.core.timeouts import Timeouts
from hfstream.errors import (
    InferenceConnectionError,
    OverloadedError,
)
from hfstream.testing import token_events
from tests.helpers.exchanges import (
    error_response,
    in_turn,
    lost,
    numbered,
    stream,
)
from tests.helpers.resuming import drive

TEXT = token_events("Grüß ", "👩‍🚀", " ", "\n", "e", "nd", finish_reason="eos_token")


# --- The hook --------------------------------------------------------------------------------------------------------


@dataclass
class Notes:
    """Records the calls of a hook, and may raise."""

    failure: BaseException | None = None
    calls: list[tuple[int, float, float, type[BaseException]]] = field(
        default_factory=list[tuple[int, float, float, type[BaseException]]]
    )

    def __call__(self, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        error = state.outcome.exception()
        assert error is not None
        self.calls.append((state.attempt_number, state.next_action.sleep, state.upcoming_sleep, type(error)))
        if self.failure:
            raise self.failure


BUSY = error_response(429, "Model is overloaded")


def test_the_hook_is_called_before_each_wait() -> None:
    notes = Notes()
    policy = RetryPolicy(attempts=3, wait=tenacity.wait_fixed(2), before_sleep=notes)
    driver = drive(in_turn(BUSY, lost(), stream(b"".join(TEXT))), retry=policy).run()
    assert notes.calls == [(1, 2.0, 2.0, OverloadedError), (2, 2.0, 2.0, InferenceConnectionError)]
    assert [attempt.delay for attempt in driver.exchange.attempts] == [0.0, 2.0, 2.0]


def test_the_hook_is_not_called_where_no_wait_follows() -> None:
    notes = Notes()
    policy = RetryPolicy(attempts=2, wait=tenacity.wait_fixed(2), before_sleep=notes)
    assert type(drive(in_turn(BUSY, BUSY), retry=policy).error()) is OverloadedError
    assert len(notes.calls) == 1
    out_of_time = drive(in_turn(BUSY), retry=policy, timeouts=Timeouts(total=1))
    assert type(out_of_time.error()) is OverloadedError
    assert type(drive(in_turn(error_response(422, "bad")), retry=policy).error()) is not OverloadedError
    assert len(notes.calls) == 1


@pytest.mark.parametrize("attempts", [1, 3])
def test_the_hook_is_called_before_a_resume(attempts: int) -> None:
    notes = Notes()
    events = numbered(TEXT)
    policy = RetryPolicy(attempts=attempts, wait=tenacity.wait_fixed(2), before_sleep=notes)
    drive(in_turn(lost(events[0]), lost(events[1]), stream(b"".join(events[2:]))), retry=policy).run()
    assert notes.calls == [(1, 2.0, 2.0, InferenceConnectionError)] * 2


@pytest.mark.parametrize("failure", [RuntimeError("hook"), KeyboardInterrupt(), OverloadedError("hook")])
def test_a_hook_that_raises_ends_the_call(failure: BaseException) -> None:
    driver = drive(in_turn(BUSY, stream(b"".join(TEXT))), retry=RetryPolicy(before_sleep=Notes(failure)))
    with pytest.raises(type(failure)) as caught:
        driver.run()
    assert caught.value is failure
    assert driver.exchange.closed
    assert len(driver.requests) == 1


def test_the_hook_gets_the_delay_after_pacing() -> None:
    notes, pacer = Notes(), RetryPacer()
    for _ in range(500):
        pacer.schedule(0.0, 100.0, overloaded=True)
    policy = RetryPolicy(wait=tenacity.wait_fixed(2), before_sleep=notes)
    driver = drive(in_turn(BUSY, stream(b"".join(TEXT))), retry=policy, pacer=pacer).run()
    [(_, sleep, _, _)] = notes.calls
    assert sleep == driver.exchange.attempts[1].delay > 2
